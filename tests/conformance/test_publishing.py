"""Publishing, and being refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import wherry
from patience import PATIENCE_S


def test_a_receipt(client, log):
    queue = client.queue("emails")
    receipt = queue.publish("héllo")
    assert receipt == wherry.Receipt("emails", 1, "memory" if log == "memory" else "synced", duplicate=False)
    assert receipt.id == "emails/1"
    assert [each.offset for each in queue.publish_many([b"a", "b", bytearray(b"c")])] == [2, 3, 4]
    assert [each.body for each in queue.peek()] == ["héllo".encode(), b"a", b"b", b"c"]
    assert queue.publish_many([]) == []


def test_what_a_message_carries(client):
    queue = client.queue("q")
    queue.publish(b'{"a": 1}', headers={"kind": "welcome", "n": 1}, key="user-17", priority=5)
    (message,) = queue.get(wait=PATIENCE_S)
    assert message.json() == {"a": 1}
    assert message.headers == {"kind": "welcome", "n": 1}
    assert (message.key, message.priority, message.attempt, message.queue) == ("user-17", 5, 1, "q")
    assert message.token.attempt == 1
    assert message.published_at < message.deadline
    message.ack().wait()


def test_values_as_json_and_msgpack(client):
    queue, other = client.declare("q", bind=["orders.*"]), client.queue("other")
    queue.publish(json={"a": [1, None]})
    queue.publish_many(pack=[{"n": n} for n in range(2)], headers={"kind": "many"})
    client.topic("orders.new").publish(json="topic")
    client.topic("orders.new").publish_many(json=[1, 2])
    with client.transaction() as tx:
        tx.publish(other, pack=b"bytes")
    one, two, three, *topic = queue.get(10, PATIENCE_S)
    assert (one.json(), one.content_type) == ({"a": [1, None]}, "application/json")
    assert [each.unpack()["n"] for each in (two, three)] == [0, 1]
    assert two.headers == {"content-type": "application/msgpack", "kind": "many"}
    assert [each.json() for each in topic] == ["topic", 1, 2]
    assert [each.unpack() for each in other.get()] == [b"bytes"]
    with pytest.raises(TypeError, match="one of them"):
        queue.publish()
    with pytest.raises(TypeError, match="one of them"):
        queue.publish_many([b"x"], json=[1])


def test_order_is_that_of_publishing_within_a_priority(client):
    queue = client.queue("q")
    for number in range(20):
        queue.publish(str(number), priority=number % 2)
    queue.publish_many([str(number) for number in range(20, 40)])
    bodies = [int(next_one.body) for next_one in queue.get(40, PATIENCE_S)]
    assert bodies == [*range(1, 20, 2), *range(0, 20, 2), *range(20, 40)]


def test_a_delay_and_a_moment(client):
    queue = client.queue("q")
    queue.publish(b"delayed", delay=timedelta(milliseconds=100))
    queue.publish(b"at", at=datetime.now(UTC) + timedelta(milliseconds=200))
    queue.publish(b"far", delay=3600)
    with queue.consume() as consumer:
        assert [next(consumer).body for _ in range(2)] == [b"delayed", b"at"]
    assert queue.info().delayed == 1


def test_a_time_to_live(site, client):
    queue = client.queue("q")
    queue.publish(b"x", ttl=0.02)
    site.until(lambda: True)
    while queue.info().removed != {"expired": 1}:
        assert queue.info().ready <= 1
    with pytest.raises(ValueError, match="more than 0"):
        queue.publish(b"x", ttl=0)
    with pytest.raises(wherry.Invalid, match="ttl"):
        queue.publish(b"x", ttl=1, delay=2)


def test_a_dedupe_key_keeps_the_second_one_out(client):
    queue = client.queue("q")
    first = queue.publish(b"x", dedupe="order-9")
    second = queue.publish(b"y", dedupe="order-9")
    assert (second.offset, second.duplicate) == (first.offset, True)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"body": {"a": 1}}, TypeError),
        ({"body": None}, TypeError),
        ({"priority": 10}, wherry.Invalid),
        ({"priority": "9"}, TypeError),
        ({"key": b"k"}, TypeError),
        ({"key": "\ud800"}, ValueError),
        ({"key": "k" * 256}, wherry.Invalid),
        ({"dedupe": 5}, TypeError),
        ({"delay": 1e30}, ValueError),
        ({"ttl": -1}, ValueError),
        ({"headers": {"x": object()}}, TypeError),
        ({"headers": {"x": 1 << 70}}, ValueError),
        ({"at": datetime(2030, 1, 1)}, ValueError),  # noqa: DTZ001 (that is what is wrong with it)
        ({"at": datetime(1960, 1, 1, tzinfo=UTC)}, wherry.Invalid),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
def test_what_cannot_be_sent_harms_nothing_else(client, given, error):
    queue = client.queue("q")
    arguments = {"body": b"x", **given}
    with pytest.raises(error):
        queue.publish(arguments.pop("body"), **arguments)
    queue.publish(b"later")
    assert client.status == "connected"


def test_an_option_that_cannot_be_sent_harms_nothing_else(client):
    with pytest.raises(TypeError):
        client.declare("q", max_messages=object())
    client.declare("q")
    assert client.status == "connected"


def test_a_message_over_the_frame_limit(site):
    queue = site.client(site.broker(frame_bytes_max=200_000)).queue("q")
    for publish in (queue.publish, lambda body: queue.publish_many([body])):
        with pytest.raises(wherry.TooLarge, match="over the broker's limit"):
            publish(b"x" * 200_000)
    queue.publish(b"x" * 130_000)


def test_a_message_larger_than_the_usual_frame(site):
    queue = site.client(site.broker(frame_bytes_max=40_000_000)).queue("q")
    queue.publish(b"x" * 20_000_000)
    (message,) = queue.get(wait=PATIENCE_S)
    assert len(message.body) == 20_000_000


def test_much_both_ways_at_once(client, together):
    """Neither end may wait for the other to read first."""
    queue = client.declare("q", max_bytes=500_000_000)
    body = b"x" * 200_000

    def publish():
        for _ in range(4):
            queue.publish_many([body] * 25)

    def take():
        count = 0
        with queue.consume(credit=20) as consumer:
            for message in consumer:
                assert message.body == body
                message.ack()
                count += 1
                if count == 200:
                    return

    together(publish, publish, take)
    assert queue.info().removed == {"settled": 200}


def test_busy_says_when_to_come_back(client):
    queue = client.declare("q", max_messages=2)
    queue.publish_many([b"x", b"x"])
    with pytest.raises(wherry.Busy) as caught:
        queue.publish(b"x", timeout=0)
    busy = caught.value
    assert (busy.queue, busy.bound, busy.accepted, busy.retryable) == ("q", "max_messages", 0, True)
    assert 0 < busy.retry_after <= 30


def test_a_publish_tries_again_until_its_time_is_over(client):
    queue = client.declare("q", max_messages=1)
    queue.publish(b"x")
    before = client.ping()
    with pytest.raises(wherry.Busy):
        queue.publish(b"x", timeout=0.05 + before)
    assert queue.info().published == 1


@pytest.mark.parametrize("log", ["memory"], indirect=True)  # it takes a second or two
def test_a_publish_waits_until_there_is_room(client, together):
    queue = client.declare("q", max_messages=1)
    queue.publish(b"first")

    def make_room():
        (message,) = queue.get(wait=PATIENCE_S)
        message.ack().wait()

    receipt, _ = together(lambda: queue.publish(b"second"), make_room)
    assert receipt.offset == 2


def test_publish_many_says_how_many_are_stored(client, monkeypatch):
    monkeypatch.setattr("wherry.conversation.composing.BATCH_BYTES_MAX", 1000)
    queue = client.declare("q", max_messages=25)
    with pytest.raises(wherry.Busy) as caught:
        queue.publish_many([b"x" * 99] * 30, timeout=0)
    assert caught.value.accepted == 20
    assert queue.info().ready == 20


def test_a_transaction(client):
    jobs, done = client.declare("jobs"), client.declare("done")

    def commit(*steps) -> None:
        with client.transaction() as tx:
            for step in steps:
                step(tx)

    jobs.publish_many([b"1", b"2"])
    one, two = jobs.get(2, PATIENCE_S)
    with client.transaction() as tx:
        tx.ack(one)
        posted = tx.publish("done", b"a")
        assert jobs.info().leased == 2
    assert posted.id == "done/1"
    assert (jobs.info().leased, done.info().ready) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        commit(lambda tx: tx.ack(two), lambda _: 1 / 0)
    assert not two.settled
    jobs.cancel(two.id)
    with pytest.raises(wherry.StaleDelivery):
        commit(lambda tx: tx.ack(two), lambda tx: tx.publish("done", b"b"))
    assert not two.settled
    assert done.info().ready == 1


@pytest.mark.parametrize("log", ["memory"], indirect=True)  # it takes a second or two
def test_a_transaction_tries_again_while_a_queue_is_full(client, together):
    jobs, full = client.declare("jobs"), client.declare("full", max_messages=1)
    jobs.publish(b"1")
    full.publish(b"1")
    (job,) = jobs.get(wait=PATIENCE_S)
    (blocker,) = full.get(wait=PATIENCE_S)

    def commit(timeout):
        with client.transaction(timeout=timeout) as tx:
            tx.ack(job)
            tx.publish("full", b"2")

    with pytest.raises(wherry.Busy):
        commit(0)
    assert not job.settled
    together(lambda: commit(PATIENCE_S), lambda: blocker.ack().wait())
    assert (jobs.info().leased, full.info().ready) == (0, 1)
