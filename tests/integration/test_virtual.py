"""The broker that tests of users run in: the real one, in no time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

import wherry
from wherry_broker.testing import VirtualBroker


async def test_a_delay_and_a_time_to_live_end_at_their_moment(wherry_broker):
    async with wherry_broker.connect() as broker:
        queue = broker.queue("q")
        await queue.publish(b"later", delay=3600)
        await queue.publish(b"at", at=wherry_broker.now + timedelta(days=1))
        await queue.publish(b"short", ttl=10)
        assert [each.body for each in await queue.peek()] == [b"short"]
        await wherry_broker.advance(10)
        assert await queue.peek() == []
        await wherry_broker.advance(minutes=59, seconds=49.999)
        assert await queue.get() == []
        await wherry_broker.advance(0.001)
        (later,) = await queue.get(5)
        assert later.body == b"later"
        await later.ack()
        await wherry_broker.advance(hours=23)
        assert [each.body for each in await queue.get(5)] == [b"at"]


async def test_a_year_takes_no_time(wherry_broker):
    async with wherry_broker.connect() as broker:
        queue = broker.queue("q")
        await queue.publish(b"x", delay=timedelta(days=365))
        started = time.monotonic()
        await wherry_broker.advance(days=366)
        assert time.monotonic() - started < 5.0
        (message,) = await queue.get()
        assert message.published_at < wherry_broker.now - timedelta(days=365)
        assert message.age >= timedelta(days=365)


async def test_retries_come_when_their_back_off_is_over_until_the_message_is_dead(wherry_broker):
    async with wherry_broker.connect() as broker:
        queue = await broker.declare("q", max_attempts=4, retry=wherry.Retry(base=60, factor=2, cap=3600))
        await queue.publish(b"x")
        attempts: list[tuple[int, datetime]] = []

        async def work() -> None:
            async for message in queue.consume():
                attempts.append((message.attempt, wherry_broker.now))
                message.nack(ValueError("no"))

        working = asyncio.ensure_future(work())
        await wherry_broker.advance(hours=3)
        working.cancel()
        assert [number for number, _ in attempts] == [1, 2, 3, 4]
        pauses = [(after - before).total_seconds() for (_, before), (_, after) in pairwise(attempts)]
        assert all(pause <= most for pause, most in zip(pauses, (60, 120, 240), strict=True))
        (dead,) = [message async for message in queue.dead.messages()]
        assert (dead.error, dead.failed_at) == ("ValueError: no", attempts[-1][1])


async def test_a_schedule_keeps_the_time_of_its_zone():
    virtual = VirtualBroker(start=datetime(2030, 3, 29, 12, tzinfo=UTC))
    async with virtual.connect() as broker:
        await broker.schedule("nightly", "q", b"x", cron="0 3 * * *", zone="Europe/Paris")
        fired: list[datetime] = []

        async def work() -> None:
            async for message in broker.queue("q").consume():
                fired.append(virtual.now)
                message.ack()

        working = asyncio.ensure_future(work())
        await virtual.advance(days=3)
        working.cancel()
    # The clocks of Paris go forward in the night to the 31st.
    assert [each.strftime("%d %H:%M") for each in fired] == ["30 02:00", "31 01:00", "01 01:00"]


async def test_the_same_seed_makes_the_same_back_offs():
    async def first_pause(seed: int) -> timedelta:
        virtual = VirtualBroker(seed=seed)
        async with virtual.connect() as broker:
            queue = await broker.declare("q", retry=wherry.Retry(base=1000))
            await queue.publish(b"x")
            await (await queue.get())[0].nack()
            (message,) = await queue.peek(state="delayed")
            return message.due_at - message.failed_at

    assert await first_pause(1) == await first_pause(1) != await first_pause(2)


async def test_a_handler_that_runs_ten_leases_long_is_called_once(wherry_broker):
    """And so it is with a consumer that waits beside it, for an hour, to the millisecond."""
    async with wherry_broker.connect() as broker, wherry_broker.connect() as other:
        queue = await broker.declare("q", lease=30)
        await queue.publish(b"x")
        (message,) = await queue.get()
        async with other.queue("q").consume() as beside:
            waiting = asyncio.ensure_future(anext(beside))
            await wherry_broker.advance(3599.999)
            assert (message.lost, waiting.done()) == (False, False)
            await wherry_broker.advance(0.001)
            assert (message.lost, waiting.done()) == (True, True)
            again = waiting.result()
            assert again.token > message.token
            await again.ack()
            with pytest.raises(wherry.StaleDelivery):
                await message.ack()


async def test_a_full_queue_is_tried_again_in_virtual_time(wherry_broker):
    async with wherry_broker.connect() as broker:
        queue = await broker.declare("q", max_messages=1)
        await queue.publish(b"first")
        late = asyncio.ensure_future(queue.publish(b"second", timeout=3600))
        early = asyncio.ensure_future(queue.publish(b"third", timeout=60))
        await wherry_broker.advance(59.9)
        assert not early.done()
        await wherry_broker.advance(0.2)
        assert isinstance(early.exception(), wherry.Busy)
        await (await queue.get())[0].ack()
        await wherry_broker.advance(60)
        assert late.result().offset == 2


async def test_waiting_for_a_message_goes_by_its_clock_too(wherry_broker):
    async with wherry_broker.connect() as broker:
        queue = broker.queue("q")
        getting = asyncio.ensure_future(queue.get(wait=60))
        await wherry_broker.advance(59.9)
        assert not getting.done()
        await wherry_broker.advance(0.1)
        assert getting.result() == []


async def test_a_consumer_that_stops_waits_for_its_grace(wherry_broker):
    async with wherry_broker.connect() as broker:
        queue = broker.queue("q")
        await queue.publish(b"x")
        consumer = queue.consume()
        message = await anext(consumer)
        stopping = asyncio.ensure_future(consumer.stop(grace=300))
        await wherry_broker.advance(299.9)
        assert not stopping.done()
        await wherry_broker.advance(0.1)
        await stopping
        assert message.lost
        assert (await queue.find(1)).state == "ready"


async def test_bodies_larger_than_all_buffers_go_through(wherry_broker):
    async with wherry_broker.connect() as broker:
        queue = broker.queue("q")
        bodies = [bytes([number]) * 3_000_000 for number in range(12)]
        await asyncio.gather(*(queue.publish(body) for body in bodies))
        found = []
        async with queue.consume(credit=3) as consumer:
            for _ in bodies:
                message = await anext(consumer)
                found.append(message.body)
                message.ack()
        assert found == bodies


async def test_clients_that_come_and_go(wherry_broker):
    async with wherry_broker.connect(name="one") as broker:
        queue = broker.queue("q")
        await queue.publish_many([b"x"] * 3)
        held = await queue.get(2)
        assert broker.status == "connected"
    assert broker.status == "closed"
    with pytest.raises(wherry.Disconnected):
        await held[0].ack()
    again = await wherry_broker.connect()
    assert [each.attempt for each in await again.queue("q").get(3)] == [2, 2, 1]
    await again.close()


async def test_it_can_be_set_up():
    start = datetime(2030, 1, 1, tzinfo=UTC)
    virtual = VirtualBroker(token="s3cret", queue={"lease": 60, "max_attempts": 2}, auto_declare=False, start=start)
    with pytest.raises(wherry.Unauthenticated):
        await virtual.connect(token="guess")
    async with virtual.connect(token="s3cret") as broker:
        with pytest.raises(wherry.NotFound):
            await broker.queue("q").publish(b"x")
        queue = await broker.declare("q")
        await queue.publish(b"x")
        options = (await queue.info()).options
        assert (options["lease_ms"], options["max_attempts"]) == (60_000, 2)
        await virtual.advance(days=31)
        assert virtual.now == datetime(2030, 2, 1, tzinfo=UTC)
        (message,) = await queue.get()
        assert (message.published_at, message.deadline) == (start, virtual.now + timedelta(seconds=60))
    with pytest.raises(ValueError, match="forwards"):
        await virtual.advance(-1)
