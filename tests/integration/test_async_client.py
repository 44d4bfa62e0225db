"""What only the asyncio client has, over real sockets: turns of the event loop, and tasks that are cancelled."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime

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


async def test_it_is_a_context_manager(running):
    async with wherry.connect(running.url) as broker:
        assert await broker.ping() > 0
    assert broker.status == "closed"
    async with await wherry.connect(running.url) as broker:
        assert broker.status == "connected"
    assert broker.status == "closed"


async def silent_server() -> tuple[asyncio.Server, asyncio.Future[asyncio.StreamWriter]]:
    """Takes connections, and says nothing."""
    taken = asyncio.get_running_loop().create_future()

    async def on_connection(reader, writer):
        taken.set_result(writer)
        await reader.read()
        writer.close()

    return await asyncio.start_server(on_connection, "127.0.0.1", 0), taken


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


async def collect(consumer, found: list[bytes]) -> None:
    async for message in consumer:
        found.append(message.body)  # noqa: PERF401 (it is looked at meanwhile)


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


async def test_joined_publishes_keep_below_a_small_frame_limit(harness):
    """They were joined up to a megabyte, whatever the broker said it takes."""
    broker = await harness.broker(frame_bytes_max=200_000)
    queue = (await harness.client(broker)).queue("q")
    receipts = await asyncio.gather(*(queue.publish(b"x" * 10_000) for _ in range(50)))
    assert len(receipts) == 50


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


async def test_extending_twice_and_settling_within_one_turn(client, running):
    """One SETTLE that names a message twice is refused; and an ACK that overtakes its EXTEND makes it stale."""
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 3)
    one, two, three = await queue.get(3)
    outcomes = [one.ack(), two.extend(30), two.extend(30), two.extend(60), three.extend(30), two.ack(), three.ack()]
    for outcome in outcomes:
        await outcome
    assert running.counts("q") == (0, 0, 0, 0)


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
