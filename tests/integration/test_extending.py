"""Leases that are extended, or not, over real sockets and in real time: short ones.

A machine that stands still for a third of a lease loses it, as it should. So who expects a lease to be kept tries again
when that happened.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

import wherry
from patience import PATIENCE_S
from tcp_proxy import TcpProxy
from wherry.conversation import backoff
from wherry.model import commands

LEASE_S = 0.25
TRIES = 6


class Stalled(Exception):
    """The event loop stood still for too long to keep a lease."""


@asynccontextmanager
async def steadily(lease: float = LEASE_S):
    """Raises Stalled in place of whatever went wrong, when the event loop stood still for a quarter of a lease."""
    worst = 0.0

    async def watch():
        nonlocal worst
        last = time.monotonic()
        while True:
            await asyncio.sleep(lease / 20)
            last, before = time.monotonic(), last
            worst = max(worst, last - before)

    watching = asyncio.ensure_future(watch())
    try:
        await asyncio.sleep(0)
        yield
    except Exception:
        await asyncio.sleep(lease / 10)
        if worst > lease / 4:
            raise Stalled from None
        raise
    finally:
        watching.cancel()


async def on_a_steady_machine(work) -> None:
    for number in range(TRIES):
        try:
            async with steadily():
                await work(f"q{number}")
        except Stalled:
            continue
        return
    pytest.fail(f"the event loop stood still in {TRIES} of {TRIES} tries")


async def test_a_handler_that_runs_ten_leases_long_is_called_once(client, running):
    async def work(name):
        queue = await client.declare(name, lease=LEASE_S)
        await queue.publish(b"x")
        async with queue.consume() as consumer, queue.consume() as other:
            waiting = asyncio.ensure_future(anext(other))
            message = await anext(consumer)
            await asyncio.sleep(10 * LEASE_S)
            assert not message.lost
            assert not waiting.done()
            await message.ack()
            waiting.cancel()
        assert running.counts(name) == (0, 0, 0, 0)
        assert (await queue.info()).removed == {"settled": 1}

    await on_a_steady_machine(work)


async def test_what_waits_behind_a_slow_handler_keeps_its_lease_and_its_attempts(client, running):
    """A slow handler with much credit lost the leases of what waited, and spent their attempts."""

    async def work(name):
        queue = await client.declare(name, lease=LEASE_S)
        await queue.publish_many([b"x"] * 50)
        async with queue.consume(credit=50) as consumer:
            first = await anext(consumer)
            await asyncio.sleep(2 * LEASE_S)
            messages = [first, *[await anext(consumer) for _ in range(49)]]
            await queue.ack_many(messages)
        assert {message.token.attempt for message in messages} == {1}
        assert running.counts(name) == (0, 0, 0, 0)

    await on_a_steady_machine(work)


async def test_what_a_get_took_is_extended_too(client, running):
    async def work(name):
        queue = await client.declare(name, lease=LEASE_S)
        await queue.publish_many([b"x"] * 3)
        messages = await queue.get(3)
        await asyncio.sleep(2 * LEASE_S)
        assert running.counts(name) == (0, 0, 3, 0)
        await queue.ack_many(messages)

    await on_a_steady_machine(work)


async def test_it_goes_on_when_the_connection_was_lost(harness, monkeypatch):
    monkeypatch.setattr(backoff, "RECONNECT_BASE_S", 0.001)
    monkeypatch.setattr(backoff, "RECONNECT_CAP_S", 0.005)
    broker = await harness.broker(resume_ms=20_000)
    async with TcpProxy(broker.host, broker.port) as proxy, wherry.connect(proxy.url, timeout=PATIENCE_S) as client:

        async def work(name):
            queue = await client.declare(name, lease=LEASE_S)
            await queue.publish_many([b"x"] * 2)
            async with queue.consume() as consumer:
                held = await anext(consumer)
                for _ in range(4):
                    proxy.cut()
                    await asyncio.sleep(LEASE_S)
                second = await anext(consumer)
                assert [held.lost, second.lost] == [False, False]
                await queue.ack_many([held, second])
            assert (held.token.attempt, second.token.attempt) == (1, 1)
            assert (await queue.info()).removed == {"settled": 2}

        await on_a_steady_machine(work)
        assert proxy.connected > 4


async def test_the_longest_time_in_hand_ends_it(client, running):
    queue = await client.declare("q", lease=0.05)
    await queue.publish(b"x")
    (held,) = await queue.get(wait=PATIENCE_S, max_lease=0.2)
    started = time.monotonic()
    (again,) = await queue.get(wait=PATIENCE_S)
    assert again.token.attempt > held.token.attempt
    assert time.monotonic() - started < PATIENCE_S / 2
    await running.until(lambda: held.lost)
    with pytest.raises(wherry.StaleDelivery) as caught:
        await held.ack()
    assert caught.value.ranges == ((1, 1),)


async def test_extending_can_be_off(client, running):
    queue = await client.declare("q", lease=0.05)
    await queue.publish_many([b"x"] * 2)
    async with queue.consume(max_lease=0) as consumer:
        held = await anext(consumer)
        await running.until(lambda: held.lost)
        again = [await anext(consumer) for _ in range(2)]
        # The one that waited was handed back before its time was over, if the machine was not too slow for that.
        assert [(each.offset, each.attempt) for each in again] in ([(1, 2), (2, 1)], [(2, 1), (1, 2)], [(1, 2), (2, 2)])
        assert not await settles(held)


async def settles(message: wherry.Message) -> bool:
    try:
        await message.ack()
    except wherry.StaleDelivery:
        return False
    return True


async def test_a_blocked_event_loop_loses_what_it_holds_and_hands_out_none_of_it(client, running):
    queue = await client.declare("q", lease=0.3)
    await queue.publish_many([b"x"] * 3)
    async with queue.consume(credit=3) as consumer:
        held = await anext(consumer)
        time.sleep(0.5)  # noqa: ASYNC251 (that is what is wrong here)
        seen = [await anext(consumer) for _ in range(3)]
        assert held.lost
        assert [(each.offset, each.attempt, each.lost) for each in seen] == [(n, 2, False) for n in (1, 2, 3)]
        assert [await settles(each) for each in [held, *seen]] == [False, True, True, True]


async def test_a_renewal_that_is_refused_marks_the_message_and_the_consumer_goes_on(harness, client, running):
    queue = await client.declare("q", lease=0.2)
    await queue.publish_many([b"x"] * 4)
    async with queue.consume(credit=4) as consumer:
        held = await anext(consumer)
        raw = await harness.raw(running)
        raw.say(commands.Hello("wherry", 1, 1))
        epoch = held.token.epoch
        # A lease belongs to its delivery: any connection may settle it.
        raw.say(commands.Settle(1, "q", commands.Verb.ACK, epoch, ((1, 2, 1),)))
        await raw.hear(2)
        await running.until(lambda: held.lost)
        third = await anext(consumer)  # the second one is gone from the buffer
        assert (third.offset, third.lost) == (3, False)
        with pytest.raises(wherry.StaleDelivery):
            await held.ack()
        await third.ack()
        await queue.publish_many([b"y"] * 3)  # the credit of the lost ones came back
        assert [(await anext(consumer)).offset for _ in range(4)] == [4, 5, 6, 7]


async def test_messages_of_a_queue_that_is_deleted_are_lost(client, running):
    queue = await client.declare("q", lease=0.1)
    await queue.publish(b"x")
    (held,) = await queue.get()
    await queue.delete()
    await running.until(lambda: held.lost)


async def test_a_cancel_reaches_what_a_get_took(client, running):
    """A consumer that takes no more was not told: its number was forgotten."""
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 2)
    one, two = await queue.get(2)
    await queue.cancel(one.id)
    await running.until(lambda: one.cancelled)
    assert not two.cancelled
    assert not await settles(one)
    assert await settles(two)


async def test_nothing_is_kept_of_consumers_that_hold_nothing(client):
    queue = client.queue("q")
    for _ in range(20):
        await queue.publish(b"x")
        (message,) = await queue.get()
        assert len(client._link.intakes) == 1
        await message.ack()
        await queue.get()
    assert client._link.intakes == {}


# Draining.


async def test_stop_with_a_grace_waits_for_what_is_in_hand(client, running):
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 5)
    consumer = queue.consume()
    message = await anext(consumer)
    stopping = asyncio.ensure_future(consumer.stop(grace=PATIENCE_S))
    await running.until(lambda: running.counts("q") == (4, 0, 1, 0))
    assert [each async for each in consumer] == []
    assert not stopping.done()
    await message.ack()
    await stopping
    assert running.counts("q") == (4, 0, 0, 0)
    await consumer.stop(grace=PATIENCE_S)  # there is nothing to wait for


async def test_what_is_not_settled_in_time_is_handed_back_unspent(client, running):
    queue = client.queue("q")
    await queue.publish_many([b"x"] * 5)
    consumer = queue.consume()
    one, two = await anext(consumer), await anext(consumer)
    two.ack()
    await consumer.stop(grace=0.02)
    assert (one.lost, one.settled, two.lost) == (True, "", False)
    assert not await settles(one)
    assert running.counts("q") == (4, 0, 0, 0)
    assert [each.attempt for each in await queue.get(4)] == [1] * 4


async def test_a_broker_drains_all_its_consumers(harness, client, running):
    other = await harness.client(running)
    queues = [other.queue(name) for name in ("a", "b")]
    done: list[str] = []

    async def work(queue):
        async for message in queue.consume(credit=5):
            async with message:
                await asyncio.sleep(0.02)
                done.append(message.id)

    async with asyncio.TaskGroup() as group:
        for queue in queues:
            await queue.publish_many([b"x"] * 5)
            group.create_task(work(queue))
        await running.until(lambda: all(running.counts(name)[2] for name in "ab"))
        await other.drain(PATIENCE_S)  # and so both workers end
    assert len(done) == 10 - sum(running.counts(name)[0] for name in "ab")
    assert [running.counts(name)[2] for name in "ab"] == [0, 0]
    assert other.status == "connected"
    await queues[0].publish(b"last words")
