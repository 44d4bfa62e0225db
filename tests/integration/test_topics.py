"""Topics, with the asyncio client against a broker, over real sockets."""

from __future__ import annotations

import pytest

import wherry


@pytest.fixture
async def queues(client):
    """`eu` and `all` take orders, `audit` takes everything."""
    return [
        await client.declare("eu", bind=["orders.eu.*"], max_messages=4),
        await client.declare("all", bind=["orders.>"]),
        await client.declare("audit", bind=[">"]),
    ]


async def ready(queues):
    return [(await queue.info()).ready for queue in queues]


async def test_a_message_goes_into_every_queue_that_is_bound(client, queues):
    topic = client.topic("orders.eu.created")
    receipt = await topic.publish("hello", headers={"kind": "order"}, key="user-7", priority=3)
    assert receipt == wherry.TopicReceipt("orders.eu.created", 3, "memory", False)
    for queue in queues:
        (message,) = await queue.get()
        assert (message.body, message.headers, message.key, message.priority) == (
            b"hello",
            {"kind": "order"},
            "user-7",
            3,
        )
        assert message.id == f"{queue.name}/1"
        await message.ack()
    assert (await client.topic("orders.us").publish(b"x")).queues == 2
    assert (await client.topic("users").publish(b"x")).queues == 1


async def test_many_messages_at_once(client, queues):
    receipts = await client.topic("orders.us.created").publish_many([b"%d" % number for number in range(12_000)])
    assert receipts == [wherry.TopicReceipt("orders.us.created", 2, "memory", False)] * 12_000
    assert await ready(queues) == [0, 12_000, 12_000]
    assert [each.body for each in await queues[1].peek(1, first=12_000)] == [b"11999"]


async def test_a_full_queue_is_waited_for_until_the_timeout(client, queues, monkeypatch):
    topic = client.topic("orders.eu.created")
    await topic.publish_many([b"1", b"2", b"3"])
    with pytest.raises(wherry.Busy) as caught:
        await topic.publish_many([b"4", b"5"], timeout=0)
    assert (caught.value.queue, caught.value.bound, caught.value.accepted) == ("eu", "max_messages", 0)
    with pytest.raises(wherry.TooLarge, match="'eu'"):
        await topic.publish_many([b"x"] * 5)
    await topic.publish(b"4")

    async def purge(busy, tries, *_):
        assert (busy.queue, tries) == ("eu", 1)
        await queues[0].purge()

    monkeypatch.setattr("wherry.aio.topic.back_off", purge)
    assert (await topic.publish(b"5")).queues == 3
    assert await ready(queues) == [1, 5, 5]


async def test_a_subject_that_nobody_takes(client):
    topic = client.topic("nobody.cares")
    with pytest.raises(wherry.Unroutable, match="nobody"):
        await topic.publish(b"x")
    assert (await topic.publish(b"x", allow_unroutable=True)).queues == 0
    assert await topic.publish_many([b"x"] * 2, allow_unroutable=True) == [("nobody.cares", 0, "", False)] * 2


async def test_a_dedupe_key_holds_for_each_queue(client, queues):
    topic = client.topic("orders.eu.created")
    assert not (await topic.publish(b"x", dedupe="k")).duplicate
    assert (await topic.publish(b"x", dedupe="k")).duplicate
    assert await ready(queues) == [1, 1, 1]


async def test_bindings_are_options(client, queues):
    info = await queues[0].alter(bind=["users.*", "orders.us"])
    assert info.options["bind"] == ("orders.us", "users.*")
    assert (await client.topic("users.created").publish(b"x")).queues == 2
    with pytest.raises(wherry.ExistsDifferently, match="bind is"):
        await client.declare("eu", bind=["orders.eu.*"])
    with pytest.raises(wherry.Invalid, match=r"'orders\.' is not a pattern"):
        await client.declare("wrong", bind=["orders."])


@pytest.mark.parametrize("subject", ["", "orders.*", "a..b", "a b"])
async def test_what_is_no_subject_is_refused_before_it_is_sent(client, subject):
    with pytest.raises(wherry.Invalid, match="subject"):
        client.topic(subject)
