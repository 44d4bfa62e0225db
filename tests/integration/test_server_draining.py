"""A broker that shuts down, on real sockets: no new work, time for the work in hand, and goodbye. protocol.md,
section 1, "Draining"."""

from __future__ import annotations

import asyncio

from wherry.model import commands, replies
from wherry.wire.messages import pack_sizes
from wherry_broker.server import connection

TEXT = "the broker is shutting down"


def publish(request: int, count: int = 1) -> commands.Publish:
    return commands.Publish(request, "q", pack_sizes([1] * count), block=b"\x80" * count)


def ack(request: int, broker, *deliveries) -> commands.Settle:
    return commands.Settle(request, "q", 0, broker.shard.state.epoch, deliveries)


def drain(running) -> asyncio.Event:
    """What the application does at SIGTERM; the event is set once nothing is leased any more."""
    drained = asyncio.Event()
    running.listener.stop_accepting()
    running.pump.drain(TEXT, drained.set)
    return drained


async def working(opened):
    """A client with three messages, two of them leased."""
    raw = await opened()
    raw.say(publish(1, 3), commands.Consume(2, 1, "q", 2))
    said: list = []
    while not any(type(each) is replies.Deliver for each in said):
        said += await raw.hear()
    return raw


async def test_no_new_work_and_time_for_what_is_in_hand(running, opened):
    raw = await working(opened)
    drained = drain(running)
    assert await raw.hear() == [replies.Stopped(1, "draining", TEXT)]
    raw.say(
        publish(10),
        commands.Consume(11, 2, "q", 5),
        commands.Credit(1, 100),
        commands.Info(12, "q"),
        commands.Peek(13, "q"),
        commands.Ping(14),
        ack(15, running, (1, 1, 1)),
    )
    said: list = []
    while len(said) < 6:
        said += await raw.hear()
    refused = [each for each in said if type(each) is replies.Error]
    assert [(each.request, each.code, each.retryable) for each in refused] == [
        (10, "draining", True),
        (11, "draining", True),
    ]
    assert {type(each) for each in said} == {
        replies.Error,
        replies.QueueInfo,
        replies.Peeked,
        replies.Pong,
        replies.Settled,
    }
    assert not drained.is_set()
    raw.say(commands.Settle(16, "q", commands.Verb.RELEASE, running.shard.state.epoch, ((2, 1, 1),)))
    assert await raw.hear() == [replies.Settled(((16, ()),))]
    await running.until(drained.is_set)
    closing = asyncio.create_task(running.listener.close("draining", TEXT))
    assert await raw.until_closed() == [commands.Goodbye("draining", TEXT)]
    await closing
    assert running.listener.connections == 0
    assert running.counts("q") == (2, 0, 0, 0)


async def test_an_idle_broker_is_drained_at_once(running, opened):
    raw = await opened()
    drained = drain(running)
    await running.until(drained.is_set)
    closing = asyncio.create_task(running.listener.close("draining", TEXT))
    assert await raw.until_closed() == [commands.Goodbye("draining", TEXT)]
    await closing


async def test_who_settles_nothing_is_closed_when_time_is_over_and_its_work_is_kept(running, opened):
    raw = await working(opened)
    drained = drain(running)
    closing = asyncio.create_task(running.listener.close("draining", TEXT))  # drain_s has passed
    assert (await raw.until_closed())[-1] == commands.Goodbye("draining", TEXT)
    await closing
    assert running.counts("q") == (3, 0, 0, 0)
    await running.until(drained.is_set)


async def test_a_client_that_goes_while_the_broker_drains(running, opened):
    raw = await working(opened)
    drained = drain(running)
    await raw.hear()
    await raw.close()
    await running.until(drained.is_set)
    assert running.counts("q") == (3, 0, 0, 0)


async def test_goodbye_does_not_wait_for_who_reads_nothing(harness, opened, monkeypatch):
    """Much waits for it; it is given a moment, and no more."""
    monkeypatch.setattr(connection, "CLOSE_S", 0.05)
    running = await harness.broker()
    raw = await opened(running)
    raw.writer.transport.pause_reading()
    blocks = [commands.Publish(number, "q", pack_sizes([1 << 20]), block=bytes(1 << 20)) for number in range(1, 20)]
    raw.say(commands.Consume(100, 1, "q", 1 << 30), *blocks)
    await running.until(lambda: running.waiting_bytes() > running.limits.write_high_bytes)
    drain(running)
    await running.listener.close("draining", TEXT)
    assert running.listener.connections == 0
    assert running.counts("q")[2] == 0
