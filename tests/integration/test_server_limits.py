"""The limits of the server on real sockets: who comes too often, too slowly, or never reads, costs the others nothing.

Deadlines are milliseconds by setting; test_connection.py holds them to the millisecond on a loop whose time is the
test's.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import tracemalloc

import pytest

import wherry
from patience import PATIENCE_S
from wherry import errors
from wherry.model import commands, replies
from wherry.wire import codec
from wherry.wire.messages import pack_sizes
from wherry_broker.core.consumers import Consumer
from wherry_broker.core.consumers import Session as CoreSession
from wherry_broker.core.dispatch import SPAN_BYTES_MAX
from wherry_broker.server.connection import Connection
from wherry_broker.server.session import Session

HELLO = commands.Hello("wherry", 1, 1, "", "abuser", 30_000)
KIB = 1024


def publish(request: int, count: int = 1, size: int = 1, queue: str = "q") -> commands.Publish:
    return commands.Publish(request, queue, pack_sizes([size] * count), block=bytes(count * size))


# Coming in.


async def test_no_hello_in_time(harness):
    running = await harness.broker(login_ms=20)
    raw = await harness.raw(running)
    (goodbye,) = await raw.until_closed()
    assert (goodbye.code, "20 ms" in goodbye.text) == ("unauthenticated", True)


async def test_a_hello_that_drips(harness):
    """Twenty slow clients at a time; each sends a byte now and then, and none of them lives on that."""
    running = await harness.broker(login_ms=50)
    slow = [await harness.raw(running) for _ in range(20)]
    frame = codec.encode(HELLO._replace(token="x" * 1000))
    sent = 0
    async with asyncio.timeout(PATIENCE_S):
        while running.listener.connections:
            for raw in slow:
                if sent < 900 and not raw.writer.is_closing():
                    raw.writer.write(frame[sent : sent + 1])
            sent += 1
            await asyncio.sleep(0)
    assert running.shard._sessions == {}


async def test_one_connection_too_many(harness):
    running = await harness.broker(connections_max=3)
    first, *_ = [await harness.raw(running) for _ in range(3)]
    await running.until(lambda: running.listener.connections == 3)
    raw = await harness.raw(running)
    raw.say(HELLO)
    (goodbye,) = await raw.until_closed()
    assert (goodbye.code, "3 connections" in goodbye.text) == ("unavailable", True)
    first.say(HELLO)
    assert [type(each) for each in await first.hear()] == [replies.Welcome]
    await first.close()
    await running.until(lambda: running.listener.connections == 2)
    assert (await harness.client(running)).status == "connected"


# Heartbeats.


async def test_a_client_that_falls_silent(harness):
    running = await harness.broker(heartbeat_ms=20)
    raw = await harness.raw(running)
    raw.say(HELLO, publish(1), commands.Consume(2, 1, "q", 1))
    said = await raw.until_closed()
    assert (type(said[-1]), said[-1].code) == (commands.Goodbye, "unavailable")
    assert running.counts("q") == (1, 0, 0, 0)  # its lease is lost at once


async def test_a_broker_that_falls_silent():
    """It welcomes, and then answers nothing, no PING either."""

    async def welcome(reader, writer):
        await reader.readexactly(4)
        writer.write(codec.encode(replies.Welcome(1, 1, 20, 1 << 20, "silent")))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(welcome, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        client = await wherry.connect(f"wherry://{host}:{port}", timeout=PATIENCE_S)
        with pytest.raises(errors.Disconnected, match="silent"):
            await client.queue("q").info()
        await client.close()


async def test_heartbeats_keep_an_idle_connection(harness):
    """A client of ours says nothing for longer than is allowed, and is there all the same."""
    running = await harness.broker(heartbeat_ms=500)  # so long that a busy machine is not taken for silence
    client = await harness.client(running)
    began = running.pump._clock.now_ms()
    await running.until(lambda: running.pump._clock.now_ms() > began + 1200)
    assert client.status == "connected"
    assert running.listener.connections == 1
    assert "connection_silent" not in running.events()


async def test_who_wants_no_heartbeats_is_left_alone_and_watched_by_the_system(harness, opened):
    running = await harness.broker(heartbeat_ms=20)
    quiet = await opened(running, heartbeat_ms=0)
    (connection,) = running.connections
    sock = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    began = running.pump._clock.now_ms()
    await running.until(lambda: running.pump._clock.now_ms() > began + 200)
    quiet.say(commands.Info(1, "q"))
    assert [type(each) for each in await quiet.hear()] == [replies.Error]
    assert "connection_silent" not in running.events()


# Reading nothing.


async def test_a_consumer_that_never_reads(harness, opened):
    """What waits for it is bounded, it is cut off, what it held goes to another one, and nobody else notices."""
    running = await harness.broker(write_deadline_ms=300)
    bystander = await harness.client(running)
    greedy = await opened(running)
    count = 24
    greedy.say(commands.Consume(1, 1, "q", credit=1 << 40, lease_ms=600_000))
    await greedy.hear()
    writer = await opened(running)
    writer.say(*(publish(number, 1000, KIB) for number in range(count)))
    waiting = 0

    def cut_off() -> bool:
        nonlocal waiting
        waiting = max(waiting, running.waiting_bytes())
        return "client_reads_nothing" in running.events()

    await running.until(cut_off)
    frame = SPAN_BYTES_MAX + 64 * KIB  # one span is one frame here
    assert running.limits.write_high_bytes < waiting <= running.limits.write_high_bytes + frame
    await running.until(lambda: running.consumers("q") == 0)
    assert running.counts("q") == (count * 1000, 0, 0, 0)

    async with asyncio.timeout(PATIENCE_S):
        taken: set[int] = set()
        consumer = bystander.queue("q").consume(credit=5000)
        async for batch in consumer.batches(5000):
            taken.update(message.offset for message in batch)
            await bystander.queue("q").ack_many(batch)
            if len(taken) == count * 1000:
                break
    assert taken == set(range(1, count * 1000 + 1))


FLOODS = {
    "ping": commands.Ping,
    "info": lambda number: commands.Info(number, "q"),
    "declare": lambda number: commands.Declare(number, "q", {}),
    "list": commands.ListQueues,
    "peek": lambda number: commands.Peek(number, "q", limit=1000),
    "peek at nothing": lambda number: commands.Peek(number, "q", "dead"),
    "not found": lambda number: commands.Info(number, "n" * 255),
    "invalid": lambda number: commands.Declare(number, "q", {"n" * 255: 1}),
    "out of range": lambda number: commands.Info(number, "?" * 255),
    "differs": lambda number: commands.Declare(number, "q", {"max_messages": 3, "lease_ms": 11, "retry_cap_ms": 5}),
    "publish": publish,
    "purge": lambda number: commands.Purge(number, "q", ("dead",)),
    "stale": lambda number: commands.Settle(number, "q", 0, 0, ((1, 10_000, 1),)),
    "cut up": lambda number: commands.Settle(number, "cut", commands.Verb.EXTEND, 0, ((1, 10_000, 1),)),
}
ANSWERS_BYTES_MAX = 8 * 1024 * KIB
"""How much may wait for a client that reads nothing: the answers to what one read brings, at most."""


async def prepare_flood(running, opened) -> None:
    """A queue with a megabyte in it, and one of which every second message is leased."""
    raw = await opened(running)
    raw.say(publish(1, 1000, KIB), publish(2, 10_000, 1, "cut"), commands.Consume(3, 1, "cut", 10_000, 600_000))
    await running.until(lambda: "cut" in running.shard.state.names and running.counts("cut")[2] == 10_000)
    evens = tuple((offset, 1, 1) for offset in range(2, 10_001, 2))
    raw.say(commands.Settle(4, "cut", 0, running.shard.state.epoch, evens))
    await running.until(lambda: running.counts("cut") == (0, 0, 5000, 0))
    raw.writer.transport.pause_reading()


async def deaf(running, opened):
    """A client, past its HELLO, that reads nothing more, with as little as can be in the buffers of the system."""
    known = running.connections
    raw = await opened(running)
    (connection,) = set(running.connections) - set(known)
    buffers = ((connection._transport, socket.SO_SNDBUF), (raw.writer, socket.SO_RCVBUF))
    for end, option in buffers:
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4096)
    raw.writer.transport.pause_reading()
    return raw


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_requests_whose_answers_nobody_reads(harness, opened, kind):
    running = await harness.broker(write_deadline_ms=200)
    await prepare_flood(running, opened)
    flooder = await deaf(running, opened)
    requests = [FLOODS[kind](number) for number in range(1, 2000)]
    if kind == "cut up":
        requests = [each._replace(epoch=running.shard.state.epoch) for each in requests]
    data = b"".join(map(codec.encode, requests))
    waiting = 0

    async def flood():
        while True:
            flooder.writer.write(data)
            await flooder.writer.drain()

    flooding = asyncio.create_task(flood())

    def cut_off() -> bool:
        nonlocal waiting
        waiting = max(waiting, running.waiting_bytes())
        return "client_reads_nothing" in running.events()

    await running.until(cut_off)
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    assert waiting <= ANSWERS_BYTES_MAX
    assert running.listener.connections == 1
    other = await opened(running)
    other.say(commands.Info(1, "q"))
    assert [type(each) for each in await other.hear()] == [replies.QueueInfo]


# Coming and going.


CONSUME = (HELLO, publish(1), commands.Consume(2, 1, "q", 100, 600_000), commands.Consume(3, 2, "q", 100))
WAYS = {
    "saying nothing": b"",
    "half of a HELLO": codec.encode(HELLO)[:9],
    "with a HELLO": codec.encode(HELLO),
    "consuming": b"".join(map(codec.encode, CONSUME)),
    "in the middle of a frame": b"".join(map(codec.encode, CONSUME)) + codec.encode(publish(4, 1, 4000))[:2000],
    "saying goodbye": b"".join(map(codec.encode, (*CONSUME, commands.Goodbye()))),
    "badly": b"".join(map(codec.encode, CONSUME)) + bytes(12),
}


async def come_and_go(harness, running, count: int) -> None:
    for number in range(count):
        _, writer = await asyncio.open_connection(running.host, running.port)
        writer.write(list(WAYS.values())[number % len(WAYS)])
        if number % 3 == 0:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        if number % 50 == 0:
            await running.until(lambda: running.listener.connections < 20)
    await running.until(lambda: running.listener.connections == 0)
    shard, now_ms = running.shard, running.pump._clock.now_ms()
    session = shard.attach(0)
    shard.submit(session, commands.Delete(1, "q"), now_ms)
    shard.detach(session, now_ms)
    running.pump.wake()
    running.logged.entries.clear()
    await running.until(lambda: not running.pump._awake)


def left_behind() -> dict[str, int]:
    """What is alive of what a connection is made of; timers that were cancelled do not count."""
    gc.collect()
    kinds = (Connection, Session, CoreSession, Consumer)
    found = [type(each).__name__ for each in gc.get_objects() if isinstance(each, kinds)]
    timers = [each for each in gc.get_objects() if type(each).__name__ == "TimerHandle" and not each.cancelled()]
    return {name: found.count(name) for name in set(found)} | ({"TimerHandle": len(timers)} if timers else {})


async def test_two_thousand_that_come_and_go_leave_nothing_behind(harness, running):
    await come_and_go(harness, running, 200)
    before = left_behind()
    tracemalloc.start()
    await come_and_go(harness, running, 200)
    gc.collect()
    base = tracemalloc.get_traced_memory()[0]
    await come_and_go(harness, running, 2000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - base
    tracemalloc.stop()
    assert left_behind() == before
    assert grown < 2000 * 16
