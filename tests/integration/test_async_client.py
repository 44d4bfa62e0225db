"""The asyncio client against a broker, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import logging
from datetime import UTC, datetime, timedelta

import pytest

import wherry
from patience import PATIENCE_S


async def take(consumer, count: int) -> list[wherry.Message]:
    """The next messages of a consumer."""
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(consumer) for _ in range(count)]


@pytest.fixture
async def virtual(wherry_broker):
    """A client of a broker on a clock that the test moves."""
    async with wherry_broker.connect() as broker:
        yield broker


# Connecting.


async def test_it_connects_and_closes(running):
    broker = await wherry.connect(running.url, name="tester")
    assert broker.status == "connected"
    await broker.close()
    assert broker.status == "closed"
    with pytest.raises(wherry.Disconnected):
        await broker.ping()
    await broker.close()
    await running.until(lambda: not running.connections)


async def test_it_is_a_context_manager(running):
    async with wherry.connect(running.url) as broker:
        assert await broker.ping() > 0
    assert broker.status == "closed"
    async with await wherry.connect(running.url) as broker:
        assert broker.status == "connected"
    assert broker.status == "closed"


async def test_a_wrong_token_is_told(harness):
    broker = await harness.broker(token="s3cret")
    for token, problem in (("", "missing"), ("guess", "wrong")):
        with pytest.raises(wherry.Unauthenticated, match=problem):
            await wherry.connect(broker.url, token=token)
    async with wherry.connect(broker.url, token="s3cret") as client:
        assert client.status == "connected"
    async with wherry.connect(f"wherry://any:s3cret@{broker.host}:{broker.port}") as client:
        assert client.status == "connected"


async def test_nobody_listens(running):
    running.listener.stop_accepting()
    with pytest.raises(wherry.Disconnected, match=str(running.port)):
        await wherry.connect(running.url, timeout=5)


async def silent_server() -> tuple[asyncio.Server, asyncio.Future[asyncio.StreamWriter]]:
    """Takes connections, and says nothing."""
    taken = asyncio.get_running_loop().create_future()

    async def on_connection(reader, writer):
        taken.set_result(writer)
        await reader.read()
        writer.close()

    return await asyncio.start_server(on_connection, "127.0.0.1", 0), taken


async def test_a_broker_that_says_nothing(harness):
    server, taken = await silent_server()
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(wherry.RequestTimeout, match="no broker answered") as caught:
        await wherry.connect(f"wherry://127.0.0.1:{port}", timeout=0.05)
    assert not caught.value.outcome_unknown
    await (await taken).wait_closed()
    server.close()


async def test_connecting_can_be_cancelled(harness):
    server, taken = await silent_server()
    port = server.sockets[0].getsockname()[1]

    async def connect():
        await wherry.connect(f"wherry://127.0.0.1:{port}")

    task = asyncio.ensure_future(connect())
    writer = await taken
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(PATIENCE_S):
        await writer.wait_closed()  # the client has closed its end
    server.close()


# Queues.


async def test_declare(client):
    queue = await client.declare("emails", max_messages=5, lease=30, retry=wherry.Retry(base=1, factor=2, cap=300))
    assert queue.name == "emails"
    options = (await queue.info()).options
    assert (options["max_messages"], options["lease_ms"], options["retry_cap_ms"]) == (5, 30_000, 300_000)
    await client.declare("emails", max_messages=5)
    with pytest.raises(wherry.ExistsDifferently, match="max_messages is 5, not 6"):
        await client.declare("emails", max_messages=6)
    with pytest.raises(wherry.Invalid, match="max_mesages"):
        await client.declare("other", max_mesages=6)
    with pytest.raises(wherry.Invalid):
        client.queue("no/name")


async def test_info_and_queues(client):
    for number in range(105):
        await client.declare(f"q{number:03}")
    await client.queue("q003").publish(b"x")
    queues = await client.queues("q0")
    assert [each.name for each in queues] == [f"q{number:03}" for number in range(100)]
    assert queues[3].ready == 1
    assert len(await client.queues()) == 105
    assert await client.queues("none") == []
    info = await client.queue("q003").info()
    assert (info.name, info.ready, info.leased, info.published) == ("q003", 1, 0, 1)
    with pytest.raises(wherry.NotFound, match="'none'"):
        await client.queue("none").info()


async def test_pause_and_resume(client):
    queue = await client.declare("q")
    await queue.pause()
    await queue.publish(b"x")
    assert await queue.get() == []
    assert (await queue.info()).options["paused"] is True
    await queue.resume()
    (message,) = await queue.get()
    await message.ack()


async def test_peek(client):
    queue = client.queue("q")
    await queue.publish(b"a", headers={"kind": "first"})
    await queue.publish_many([b"b", b"c", b"d"], priority=3, key="user-17")
    seen = await queue.peek(3)
    assert [each.body for each in seen] == [b"a", b"b", b"c"]
    assert seen[0].headers == {"kind": "first"}
    assert (seen[1].priority, seen[1].key, seen[1].id) == (3, "user-17", "q/2")
    assert [each.body for each in await queue.peek(first=4)] == [b"d"]
    assert await queue.peek(state="dead") == []
    assert len(await queue.get(4)) == 4  # peeking took nothing
    assert [each.attempt for each in await queue.peek(state="leased")] == [1] * 4


async def test_peeking_at_many_messages_with_the_longest_keys(client):
    queue = client.queue("q")
    keys = ["\N{ROCKET}" * 63 + f"{number:03}" for number in range(100)]
    await asyncio.gather(*(queue.publish(b"x", key=key) for key in keys))
    found: list[str] = []
    while seen := await queue.peek(100, first=len(found) + 1):
        found += [each.key for each in seen]
    assert found == keys
    messages = await queue.get(100)
    assert [each.key for each in messages] == keys


async def test_purge(client, running):
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 3)
    await queue.publish(b"later", delay=60)
    (held,) = await queue.get()
    assert await queue.purge("ready") == 2
    assert await queue.purge() == 1
    assert await queue.purge("dead") == 0
    with pytest.raises(wherry.Invalid, match="leased"):
        await queue.purge("leased")
    await held.ack()


async def test_delete_stops_consumers(client):
    queue = client.queue("q")
    await queue.publish(b"x")
    consumer = queue.consume()
    (message,) = await take(consumer, 1)
    waiting = asyncio.ensure_future(anext(consumer))
    await asyncio.sleep(0)
    assert await queue.delete() == 1
    with pytest.raises(wherry.NotFound, match="was deleted"):
        await waiting
    with pytest.raises(wherry.NotFound):
        await message.ack()
    with pytest.raises(wherry.NotFound):
        await queue.delete()


async def test_without_auto_declare_an_unknown_queue_is_not_found(harness):
    broker = await harness.broker(auto_declare=False)
    client = await harness.client(broker)
    queue = client.queue("q")
    with pytest.raises(wherry.NotFound):
        await queue.publish(b"x")
    with pytest.raises(wherry.NotFound):
        await queue.get()
    consumer = queue.consume()
    found = await asyncio.gather(anext(consumer), anext(consumer), return_exceptions=True)
    assert [type(each) for each in found] == [wherry.NotFound, wherry.NotFound]


# Publish.


async def test_a_receipt(client):
    queue = client.queue("emails")
    receipt = await queue.publish("héllo")
    assert receipt == wherry.Receipt("emails", 1, "memory", duplicate=False)
    assert receipt.id == "emails/1"
    receipts = await queue.publish_many([b"a", "b", bytearray(b"c")])
    assert [each.offset for each in receipts] == [2, 3, 4]
    assert [each.body for each in await queue.peek()] == ["héllo".encode(), b"a", b"b", b"c"]


async def test_what_a_message_carries(client, running):
    queue = client.queue("q")
    await queue.publish(b'{"a": 1}', headers={"kind": "welcome", "n": 1}, key="user-17", priority=5)
    (message,) = await queue.get()
    assert message.json() == {"a": 1}
    assert message.headers == {"kind": "welcome", "n": 1}
    assert (message.key, message.priority, message.attempt, message.queue) == ("user-17", 5, 1, "q")
    assert message.token == (running.shard.state.epoch, 1)
    assert message.published_at < message.deadline
    await message.ack()


async def test_order_is_that_of_publishing(client):
    queue = client.queue("q")
    await asyncio.gather(*(queue.publish(str(n).encode()) for n in range(300)))
    await queue.publish_many([str(n).encode() for n in range(300, 600)])
    consumer = queue.consume(credit=64)
    messages = []
    for _ in range(600):
        messages += await take(consumer, 1)
        messages[-1].ack()
    assert [int(each.body) for each in messages] == list(range(600))
    assert [each.offset for each in messages] == list(range(1, 601))
    await consumer.stop()


async def test_priorities(client):
    queue = client.queue("q")
    for priority in (0, 9, 5):
        await queue.publish(str(priority), priority=priority)
    assert [each.body for each in await queue.get(3)] == [b"9", b"5", b"0"]


async def test_a_thousand_coroutines_travel_in_few_frames(client, running):
    submitted = []
    submit = running.pump.submit
    running.pump.submit = lambda number, given: (submitted.extend(given), submit(number, given))
    queue = client.queue("q")
    receipts = await asyncio.gather(*(queue.publish(b"x" * 100) for _ in range(1000)))
    assert [each.offset for each in receipts] == list(range(1, 1001))
    assert len(submitted) <= 3
    submitted.clear()
    messages = await queue.get(1000)
    submitted.clear()
    await asyncio.gather(*(message_ack(each) for each in messages))
    assert len(submitted) <= 3


async def message_ack(message: wherry.Message) -> None:
    await message.ack()


async def test_a_delay_and_a_moment(virtual, wherry_broker):
    queue = virtual.queue("q")
    await queue.publish(b"delayed", delay=timedelta(milliseconds=30))
    await queue.publish(b"at", at=wherry_broker.now + timedelta(milliseconds=60))
    assert (await queue.info()).delayed == 2
    consumer = queue.consume()
    found: list[bytes] = []
    taking = asyncio.ensure_future(collect(consumer, found))
    for passed, seen in ((0.029, []), (0.001, [b"delayed"]), (0.029, [b"delayed"]), (0.001, [b"delayed", b"at"])):
        await wherry_broker.advance(passed)
        assert found == seen
    await consumer.stop()
    await taking


async def collect(consumer, found: list[bytes]) -> None:
    async for message in consumer:
        found.append(message.body)  # noqa: PERF401 (it is looked at meanwhile)


async def test_a_time_to_live(virtual, wherry_broker):
    queue = virtual.queue("q")
    await queue.publish(b"x", ttl=0.02)
    await wherry_broker.advance(0.019)
    assert (await queue.info()).ready == 1
    await wherry_broker.advance(0.001)
    info = await queue.info()
    assert (info.ready, info.removed) == (0, {"expired": 1})
    with pytest.raises(ValueError, match="more than 0"):
        await queue.publish(b"x", ttl=0)
    with pytest.raises(wherry.Invalid, match="ttl"):
        await queue.publish(b"x", ttl=1, delay=2)


async def test_a_dedupe_key_keeps_the_second_one_out(client):
    queue = client.queue("q")
    first = await queue.publish(b"x", dedupe="order-9")
    second = await queue.publish(b"y", dedupe="order-9")
    assert (second.offset, second.duplicate) == (first.offset, True)


async def test_a_dedupe_key_holds_within_one_turn_too(client, running):
    """Two publishes of one turn were joined under their key, and both were stored."""
    queue = client.queue("q")
    receipts = await asyncio.gather(*(queue.publish(b"x", dedupe="order-9") for _ in range(5)))
    assert running.counts("q") == (1, 0, 0, 0)
    assert [(each.offset, each.duplicate) for each in receipts] == [(1, False)] + [(1, True)] * 4


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"body": {"a": 1}}, TypeError),
        ({"body": None}, TypeError),
        ({"body": [1, 2]}, TypeError),
        ({"priority": 10}, wherry.Invalid),
        ({"priority": "9"}, TypeError),
        ({"key": b"k"}, TypeError),
        ({"key": "\ud800"}, ValueError),
        ({"key": "k" * 256}, wherry.Invalid),
        ({"dedupe": 5}, TypeError),
        ({"dedupe": "\udcff"}, ValueError),
        ({"delay": 1e30}, ValueError),
        ({"ttl": -1}, ValueError),
        ({"headers": {"x": object()}}, TypeError),
        ({"headers": {"x": 1 << 70}}, ValueError),
        ({"at": datetime(2030, 1, 1)}, ValueError),  # noqa: DTZ001 (that is what is wrong with it)
        ({"at": datetime(1960, 1, 1, tzinfo=UTC)}, wherry.Invalid),
    ],
)
async def test_what_cannot_be_sent_harms_only_who_asked(client, given, error):
    """Some of these were found out only when the frame was made: nothing that others asked left any more."""
    queue = client.queue("q")
    arguments = {"body": b"x", **given}
    neighbour = asyncio.ensure_future(queue.publish(b"neighbour"))
    await asyncio.sleep(0)
    with pytest.raises(error):
        await queue.publish(arguments.pop("body"), **arguments)
    async with asyncio.timeout(PATIENCE_S):
        await neighbour
        await queue.publish(b"later")
    assert client.status == "connected"


async def test_a_message_over_the_frame_limit(harness):
    broker = await harness.broker(frame_bytes_max=200_000)
    client = await harness.client(broker)
    queue = client.queue("q")
    with pytest.raises(wherry.TooLarge, match="over the broker's limit"):
        await queue.publish(b"x" * 200_000)
    with pytest.raises(wherry.TooLarge):
        await queue.publish_many([b"x" * 200_000])
    await queue.publish(b"x" * 130_000)


async def test_joined_publishes_keep_below_a_small_frame_limit(harness):
    """They were joined up to a megabyte, whatever the broker said it takes."""
    broker = await harness.broker(frame_bytes_max=200_000)
    queue = (await harness.client(broker)).queue("q")
    receipts = await asyncio.gather(*(queue.publish(b"x" * 10_000) for _ in range(50)))
    assert len(receipts) == 50


async def test_a_message_larger_than_the_usual_frame(harness):
    """A client took no frame over 16 MiB, whatever the broker lets others publish."""
    broker = await harness.broker(frame_bytes_max=40_000_000)
    queue = (await harness.client(broker)).queue("q")
    await queue.publish(b"x" * 20_000_000)
    (message,) = await queue.get(wait=PATIENCE_S)
    assert len(message.body) == 20_000_000


async def test_a_message_that_is_too_large_does_not_take_its_neighbours_along(client):
    queue = await client.declare("q", max_bytes=1000)
    large, *small = await asyncio.gather(
        queue.publish(b"x" * 2000), *(queue.publish(b"x", timeout=0) for _ in range(5)), return_exceptions=True
    )
    assert type(large) is wherry.TooLarge
    assert sorted(each.offset for each in small) == [1, 2, 3, 4, 5]


# Busy.


async def test_busy_says_when_to_come_back(client):
    queue = await client.declare("q", max_messages=2)
    found = await asyncio.gather(*(queue.publish(b"x", timeout=0) for _ in range(4)), return_exceptions=True)
    assert [getattr(each, "offset", type(each)) for each in found] == [1, 2, wherry.Busy, wherry.Busy]
    busy = found[-1]
    assert (busy.queue, busy.bound, busy.accepted, busy.retryable) == ("q", "max_messages", 0, True)
    assert 0 < busy.retry_after <= 30
    assert found[2] is not found[3]


async def test_a_publish_waits_until_there_is_room(virtual, wherry_broker):
    queue = await virtual.declare("q", max_messages=1)
    await queue.publish(b"first")
    second = asyncio.ensure_future(queue.publish(b"second"))
    (message,) = await queue.get()
    await message.ack()
    assert not second.done()
    await wherry_broker.advance(30)
    assert (await second).offset == 2


async def test_publish_many_says_how_many_are_stored(client, monkeypatch):
    monkeypatch.setattr("wherry.conversation.composing.BATCH_BYTES_MAX", 1000)
    queue = await client.declare("q", max_messages=25)
    with pytest.raises(wherry.Busy) as caught:
        await queue.publish_many([b"x" * 99] * 30, timeout=0)
    assert caught.value.accepted == 20
    assert (await queue.info()).ready == 20


# Cancelling.


async def test_cancelling_a_publish_leaves_its_neighbours_alone(client, running):
    queue = client.queue("q")
    tasks = [asyncio.ensure_future(queue.publish(str(n))) for n in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found[::2]] == [asyncio.CancelledError] * 5
    assert [each.offset for each in found[1::2]] == [2, 4, 6, 8, 10]
    assert running.counts("q")[0] == 10


async def test_cancelling_an_ack_leaves_its_neighbours_alone(client, running):
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 10)
    tasks = [asyncio.ensure_future(message_ack(each)) for each in await queue.get(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert found[1::2] == [None] * 5
    await client.ping()
    assert running.counts("q") == (0, 0, 0, 0)


async def test_cancelling_a_get_hands_back_what_came(client, running):
    """They stayed leased to nobody until the lease ran out, which cost an attempt."""
    queue = client.queue("q")
    waiting = asyncio.ensure_future(queue.get(5, wait=PATIENCE_S))
    await running.until(lambda: "q" in running.shard.state.names)
    await client.ping()
    waiting.cancel()
    await queue.publish_many([b"x"] * 3)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await running.until(lambda: running.counts("q") == (3, 0, 0, 0))
    assert [each.attempt for each in await queue.get(3)] == [1, 1, 1]
    await running.until(lambda: running.consumers("q") == 0)


async def test_cancelling_a_get_before_it_is_attached(client, running):
    queue = client.queue("q")
    await queue.publish(b"x")
    waiting = asyncio.ensure_future(queue.get(5, wait=PATIENCE_S))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await client.ping()
    await running.until(lambda: running.counts("q") == (1, 0, 0, 0))
    assert running.consumers("q") == 0


async def test_waiting_for_the_next_message_can_be_cancelled_and_begun_again(client):
    queue = client.queue("q")
    consumer = queue.consume()
    for turns in range(8):
        waiting = asyncio.ensure_future(anext(consumer))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await queue.publish(b"x")
    (message,) = await take(consumer, 1)
    assert message.attempt == 1
    await consumer.stop()


# Consume and settle.


async def test_a_consumer_as_users_write_it(client, running):
    queue = client.queue("q")
    await queue.publish_many([str(n) for n in range(20)])
    bodies = []
    async for message in queue.consume(credit=5):
        async with message:
            bodies.append(int(message.body))
        if len(bodies) == 20:
            break
    assert bodies == list(range(20))
    await client.ping()
    assert running.counts("q") == (0, 0, 0, 0)


async def test_breaking_out_of_an_iterator_hands_back_what_nobody_took(client, running):
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 20)
    async for message in queue.consume():
        await message.ack()
        break
    gc.collect()
    await running.until(lambda: running.counts("q") == (19, 0, 0, 0))
    assert {each.attempt for each in await queue.get(19)} == {1}
    await running.until(lambda: running.consumers("q") == 0)


async def test_stop_ends_the_iterator_and_keeps_what_was_taken(client, running):
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 20)
    consumer = queue.consume(credit=10)
    taken = await take(consumer, 2)
    await consumer.stop()
    assert [each async for each in consumer] == []
    await running.until(lambda: running.counts("q") == (18, 0, 2, 0))
    for message in taken:
        await message.ack()
    assert running.counts("q") == (18, 0, 0, 0)


async def test_stop_wakes_who_waits(client):
    consumer = client.queue("q").consume()
    waiting = [asyncio.ensure_future(anext(consumer, "the end")) for _ in range(3)]
    await client.ping()
    await consumer.stop()
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*waiting) == ["the end"] * 3


async def test_several_tasks_share_a_consumer(client):
    """The second one that waited took the place of the first, which waited for ever."""
    queue = client.queue("q")
    consumer = queue.consume()
    waiting = [asyncio.ensure_future(anext(consumer)) for _ in range(5)]
    await client.ping()
    for number in range(5):
        await queue.publish(str(number))
    async with asyncio.timeout(PATIENCE_S):
        messages = await asyncio.gather(*waiting)
    assert {each.body for each in messages} == {b"0", b"1", b"2", b"3", b"4"}
    await consumer.stop()


async def test_a_consumer_is_a_context_manager(client, running):
    queue = client.queue("q")
    async with queue.consume() as consumer:
        assert running.consumers("q") == 1
        await queue.publish(b"x")
        await (await anext(consumer)).ack()
    assert running.consumers("q") == 0


async def test_batches(client):
    queue = client.queue("q")
    await queue.publish_many([str(n) for n in range(25)])
    consumer = queue.consume(credit=100)
    sizes = []
    async for batch in consumer.batches(10):
        sizes.append(len(batch))
        await queue.ack_many(batch)
        if sum(sizes) == 25:
            await consumer.stop()
    assert sum(sizes) == 25
    assert max(sizes) == 10
    with pytest.raises(ValueError, match="at least 1"):
        await anext(consumer.batches(0))


async def test_credit_is_never_passed(client, running):
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 50)
    consumer = queue.consume(credit=7)
    (first,) = await take(consumer, 1)
    await client.ping()
    assert running.counts("q") == (43, 0, 7, 0)
    await first.ack()
    await take(consumer, 6)
    await client.ping()
    assert running.counts("q")[2] <= 7
    await consumer.stop()


async def test_get(client, running):
    queue = client.queue("q")
    assert await queue.get(5) == []
    assert await queue.get(5, wait=0.01) == []
    waiting = asyncio.ensure_future(queue.get(5, wait=PATIENCE_S))
    await client.ping()
    await queue.publish_many([b"x"] * 8)
    messages = await waiting
    assert 1 <= len(messages) <= 5
    assert running.counts("q") == (8 - len(messages), 0, len(messages), 0)
    await queue.ack_many(messages)
    with pytest.raises(ValueError, match="at least 1"):
        await queue.get(0)


async def test_nack_reject_release(client, running):
    queue = await client.declare("q", retry=wherry.Retry(base=0))
    await queue.publish(b"x")
    (message,) = await queue.get(wait=PATIENCE_S)
    await message.nack(ValueError("bad \udcff"))
    (message,) = await queue.get(wait=PATIENCE_S)
    assert (message.attempt, message.token) == (2, (running.shard.state.epoch, 2))
    await message.release()
    (message,) = await queue.get(wait=PATIENCE_S)
    assert (message.attempt, message.token) == (2, (running.shard.state.epoch, 3))
    await message.nack("again", delay=60)
    assert running.counts("q") == (0, 1, 0, 0)
    await queue.publish(b"y")
    (message,) = await queue.get()
    await message.reject("never")
    assert running.counts("q") == (0, 1, 0, 1)


async def test_a_release_may_say_when_and_why(client, running):
    queue = await client.declare("q", max_attempts=1)
    await queue.publish(b"x")
    (message,) = await queue.get(wait=PATIENCE_S)
    await message.release(delay=3600, reason="not mine")
    waiting = await queue.find(message.id)
    assert (waiting.state, waiting.reason, waiting.error) == ("delayed", "released", "not mine")
    assert running.counts("q") == (0, 1, 0, 0)


async def test_a_message_is_a_context_manager(client, running):
    queue = await client.declare("q", retry=wherry.Retry(base=60))
    await queue.publish_many([b"x"] * 4)
    good, bad, cancelled, settled = await queue.get(4)
    async with good:
        pass
    with pytest.raises(ZeroDivisionError):
        async with bad:
            raise ZeroDivisionError
    with pytest.raises(asyncio.CancelledError):
        async with cancelled:
            raise asyncio.CancelledError
    async with settled:
        await settled.ack()
    await client.ping()
    ready, delayed, leased, dead = running.counts("q")
    assert (ready + delayed, leased, dead) == (2, 0, 0)


async def test_settling_twice(client):
    queue = client.queue("q")
    await queue.publish_many([b"x", b"y"])
    first, second = await queue.get(2)
    await first.ack()
    for again in (first.ack, first.nack, first.reject, first.release, first.extend):
        with pytest.raises(wherry.AlreadySettled, match="q/1 was settled before: ack"):
            again()
    with pytest.raises(wherry.AlreadySettled):
        queue.ack_many([second, first])
    with pytest.raises(wherry.AlreadySettled, match="named twice"):
        queue.ack_many([second, second])
    await queue.ack_many([second])
    await queue.ack_many([])


async def test_ack_many_of_more_than_a_batch(client, running):
    """Neighbours were joined into one range of more messages than a range may have."""
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 25_000)
    messages: list[wherry.Message] = []
    consumer = queue.consume(credit=25_000)
    while len(messages) < 25_000:
        messages += await take(consumer, 1)
    await queue.ack_many(messages)
    assert running.counts("q") == (0, 0, 0, 0)
    await consumer.stop()


async def test_a_lost_lease_is_told(virtual, wherry_broker):
    queue = await virtual.declare("q", lease=0.02)
    await queue.publish(b"x")
    (late,) = await queue.get(max_lease=0)
    await wherry_broker.advance(0.02)
    (again,) = await queue.get()
    assert (late.attempt, again.attempt) == (1, 2)
    assert again.token > late.token
    with pytest.raises(wherry.StaleDelivery, match="q/1 "):
        await late.ack()


async def test_a_message_in_hand_under_two_deliveries(virtual, wherry_broker):
    """Acked in the same turn they were two ranges of one SETTLE, which was refused with all that it held."""
    queue = await virtual.declare("q", lease=0.05)
    await queue.publish(b"x")
    (late,) = await queue.get(max_lease=0)
    await wherry_broker.advance(0.05)
    (again,) = await queue.get(lease=60)
    found = await asyncio.gather(message_ack(late), message_ack(again), return_exceptions=True)
    assert [type(each) for each in found] == [wherry.StaleDelivery, type(None)]
    assert (await queue.info()).removed == {"settled": 1}


async def test_an_error_that_nobody_awaits_is_logged(virtual, caplog, wherry_broker):
    queue = await virtual.declare("q", lease=0.01)
    await queue.publish(b"x")
    (late,) = await queue.get(max_lease=0)
    await wherry_broker.advance(0.01)
    with caplog.at_level(logging.WARNING, "wherry"):
        settlement = late.ack()
        await wherry_broker.settle()
        assert settlement.done
    assert "ack of q/1 failed" in caplog.text
    with pytest.raises(wherry.StaleDelivery):
        await settlement


async def test_extend(client, running):
    queue = await client.declare("q", lease=0.5)
    await queue.publish(b"x")
    (message,) = await queue.get()
    (span,) = running.shard.state.names["q"].spans()
    due_ms, deadline = span.due_ms, message.deadline
    await message.extend(60)
    assert span.due_ms > due_ms + 50_000
    assert message.deadline > deadline + timedelta(seconds=50)
    await message.extend()
    assert span.due_ms < due_ms + 50_000
    await message.ack()


async def test_extending_twice_and_settling_within_one_turn(client, running):
    """One SETTLE that names a message twice is refused; and an ACK that overtakes its EXTEND makes it stale."""
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 3)
    one, two, three = await queue.get(3)
    outcomes = [one.ack(), two.extend(30), two.extend(30), two.extend(60), three.extend(30), two.ack(), three.ack()]
    for outcome in outcomes:
        await outcome
    assert running.counts("q") == (0, 0, 0, 0)


async def test_credit_comes_back_with_a_lost_lease(virtual, wherry_broker):
    queue = virtual.queue("q")
    await queue.publish_many([b"x"] * 4)
    consumer = queue.consume(credit=2, lease=0.02, max_lease=0)
    first = await take(consumer, 2)
    await wherry_broker.advance(0.02)
    again = await take(consumer, 2)  # the same ones: they were lost, and nobody settled them
    assert [each.offset for each in again] == [each.offset for each in first]
    await consumer.stop()


async def test_two_clients_compete(harness, running, client):
    other = await harness.client(running)
    queue = client.queue("q")
    seen: list[int] = []
    done = asyncio.Event()

    async def work(broker: wherry.Broker) -> int:
        count = 0
        async for message in broker.queue("q").consume(credit=10):
            async with message:
                seen.append(message.offset)
                count += 1
                if len(seen) == 2000:
                    done.set()
        return count

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work(each)) for each in (client, other)]
        await running.until(lambda: running.consumers("q") == 2)
        await asyncio.gather(*(queue.publish(b"x") for _ in range(2000)))
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()
        for worker in workers:
            worker.cancel()
    assert sorted(seen) == list(range(1, 2001))


async def test_close_hands_back_what_nobody_took(harness, running):
    client = await harness.client(running)
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 10)
    consumer = queue.consume()
    (taken,) = await take(consumer, 1)
    taken.ack()  # not awaited: close sees to it
    await client.close()
    assert running.counts("q") == (9, 0, 0, 0)
    with pytest.raises(wherry.Disconnected):
        await queue.publish(b"x")
    other = await harness.client(running)
    assert {each.attempt for each in await other.queue("q").get(9)} == {1}


async def test_what_waits_when_the_connection_goes(harness, running):
    client = await harness.client(running, reconnect=False)
    queue = client.queue("q")
    await queue.publish_many([b"x", b"y"])
    consumer = queue.consume()
    message, other = await take(consumer, 2)
    waiting = asyncio.ensure_future(anext(consumer))
    await client.ping()
    (connection,) = running.connections
    connection._transport.abort()
    with pytest.raises(wherry.Disconnected):
        await waiting
    assert client.status == "closed"
    with pytest.raises(wherry.Disconnected):
        await message.ack()
    # What the block raised is what is seen, not that it could not be told.
    with pytest.raises(asyncio.CancelledError):
        async with other:
            raise asyncio.CancelledError


async def test_a_message_that_has_no_headers_harms_nobody(harness, running, client):
    """A publisher that leaves the headers out ended the connection of whoever was delivered its message."""
    from wherry.model import commands  # noqa: PLC0415
    from wherry.wire.messages import pack_sizes  # noqa: PLC0415

    raw = await harness.raw(running)
    raw.say(commands.Hello("wherry", 1, 1))
    block = b"\xc1junk" + b"\x80good"
    raw.say(commands.Publish(1, "q", pack_sizes([5, 0, 5]), block=block))
    await raw.hear(2)
    for found in (await client.queue("q").peek(), await client.queue("q").get(3, wait=PATIENCE_S)):
        assert [each.body for each in found] == [b"\xc1junk", b"", b"good"]
        for bad in found[:2]:
            with pytest.raises(ValueError, match="does not begin with"):
                _ = bad.headers
        assert found[2].headers == {}


async def test_options_can_be_altered_while_a_queue_runs(client):
    queue = await client.declare("q", max_messages=10)
    await queue.publish_many([b"x"] * 5)
    info = await queue.alter(max_messages=5, max_leased=2, key_weights={"gold": 4}, ttl=60)
    assert (info.ready, info.options["max_messages"], info.options["ttl_ms"]) == (5, 5, 60_000)
    assert info.options["key_weights"] == {"gold": 4}
    with pytest.raises(wherry.Busy):
        await queue.publish(b"x", timeout=0)
    assert len(await queue.get(5)) == 2
    with pytest.raises(wherry.Invalid, match="durability"):
        await queue.alter(durability="synced")
    with pytest.raises(wherry.NotFound):
        await client.queue("other").alter(max_leased=1)


async def test_peeking_goes_on_until_it_has_as_many_as_were_asked_for(client):
    queue = client.queue("q")
    await queue.publish_many([b"x" * 100_000] * 25)  # three replies long
    assert [each.offset for each in await queue.peek(24)] == list(range(1, 25))
    assert [each.offset for each in await queue.peek(24, first=24)] == [24, 25]


async def test_finding_one_message_whatever_its_state(client):
    queue = await client.declare("q", max_attempts=1)
    await queue.publish(b"ready", headers={"n": 1})
    await queue.publish(b"later", delay=60, ttl=3600)
    ready, later = await queue.find("q/1"), await queue.find(2)
    assert (ready.state, ready.body, ready.headers, ready.due_at, ready.expires_at) == (
        "ready",
        b"ready",
        {"n": 1},
        None,
        None,
    )
    assert (later.state, (later.due_at - later.published_at).seconds) == ("delayed", 60)
    assert (later.expires_at - later.published_at).seconds == 3600
    (message,) = await queue.get()
    assert (await queue.find(1)).state == "leased"
    await message.nack("no luck")
    dead = await queue.find(1)
    assert (dead.state, dead.reason, dead.error, dead.attempt) == ("dead", "attempts", "no luck", 1)
    assert dead.failed_at >= dead.published_at
    with pytest.raises(wherry.NotFound, match="q/3"):
        await queue.find(3)
    for wrong in ("other/1", "q/x", "q", "/1"):
        with pytest.raises(ValueError, match=wrong):
            await queue.find(wrong)


async def test_cancel_reaches_every_state_and_tells_who_holds_it(running, client):
    queue = await client.declare("q", max_attempts=1)
    await queue.publish_many([b"held", b"in the buffer", b"dead", b"ready"])
    await queue.publish(b"later", delay=60)
    async with queue.consume(credit=3) as consumer:
        held = await anext(consumer)
        assert await queue.cancel(held.id, 2, "q/5") == 3
        await running.until(lambda: held.cancelled)
        third = await anext(consumer)  # the second one is gone from the buffer
        assert (third.offset, third.cancelled) == (3, False)
        with pytest.raises(wherry.StaleDelivery):
            await held.ack()
        await third.reject()
        fourth = await anext(consumer)  # the credit of the cancelled ones came back
        assert fourth.offset == 4
        await fourth.ack()
    assert await queue.cancel(3, 3, 4) == 1
    info = await queue.info()
    assert (running.counts("q"), info.removed) == ((0, 0, 0, 0), {"settled": 1, "cancelled": 4})


async def test_the_dead_are_listed_redriven_and_purged(client):
    queue = await client.declare("q", max_attempts=2, retry=wherry.Retry(base=0))
    other = await client.declare("other", max_messages=2)
    for number in range(4):
        await queue.publish(b"%d" % number, headers={"n": number}, key="k" if number % 2 else "", priority=3)
    for message in await queue.get(4):
        await message.reject(f"reason {message.offset}")
    dead = [message async for message in queue.dead.messages()]
    assert [(each.offset, each.error, each.reason) for each in dead] == [
        (offset, f"reason {offset}", "rejected") for offset in range(1, 5)
    ]
    assert await queue.dead.redrive(where=lambda each: each.key == "k", dry_run=True) == 2
    assert await queue.dead.redrive(where=lambda each: each.headers["n"] == 3) == 1
    (again,) = await queue.get(4)
    assert (again.offset, again.attempt, again.token.attempt) == (4, 1, 2)  # attempts begin anew, the token does not
    await again.ack()
    with pytest.raises(wherry.TooLarge, match="3 messages"):
        await queue.dead.redrive("other")
    assert await queue.dead.redrive("other", lambda each: each.offset < 3, rate=1000) == 2
    assert [(each.body, each.key, each.priority) for each in await other.get(4)] == [(b"0", "", 3), (b"1", "k", 3)]
    with pytest.raises(wherry.NotFound):
        await queue.dead.redrive("nowhere")
    assert await queue.dead.purge(lambda each: each.key == "k") == 0
    assert await queue.dead.purge() == 1
    assert (await queue.info()).removed == {"settled": 1, "moved": 2, "purged": 1}
