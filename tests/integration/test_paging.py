"""A queue that outgrows memory, on a real log: what leaves memory comes back as it was, and in order."""

from __future__ import annotations

import asyncio

import pytest

from wherry_broker.core import pager

MESSAGES = 3_000
BODY_BYTES = 2_000
RESIDENT_BYTES_MAX = 1_000_000


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch):
    """So that a queue of a few megabytes is fetched in many stretches."""
    monkeypatch.setattr(pager, "AHEAD_BYTES", 100_000)


def body(number: int) -> bytes:
    return number.to_bytes(4, "big") * (BODY_BYTES // 4)


async def fill(queue) -> None:
    for first in range(0, MESSAGES, 10):
        await queue.publish_many([body(number) for number in range(first, first + 10)])


async def drain(queue, count: int) -> list[bytes]:
    got: list[bytes] = []
    async with queue.consume(credit=100) as consumer:
        async for messages in consumer.batches(100):
            got += [each.body for each in messages]
            await queue.ack_many(messages)
            if len(got) >= count:
                return got
    return got


async def test_what_does_not_fit_into_memory_comes_back_in_order(harness, tmp_path):
    running = await harness.broker(data=tmp_path, resident_bytes_max=RESIDENT_BYTES_MAX)
    client = await harness.client(running)
    queue = client.queue("q")
    await fill(queue)
    held = running.shard.state.names["q"]
    assert held.bytes_held == MESSAGES * (1 + BODY_BYTES)  # an empty map of headers is one byte
    assert running.resident_bytes("q") == running.shard.state.homes.resident_bytes < 1.5 * RESIDENT_BYTES_MAX
    assert await drain(queue, MESSAGES) == [body(number) for number in range(MESSAGES)]
    assert (held.residence.absent, running.shard.state.homes.resident_bytes) == (0, 0)


async def test_peeking_and_failed_attempts_reach_what_is_not_in_memory(harness, tmp_path):
    running = await harness.broker(data=tmp_path, resident_bytes_max=RESIDENT_BYTES_MAX, queue={"retry_base_ms": 0})
    client = await harness.client(running)
    queue = client.queue("q")
    await fill(queue)
    (last,) = await queue.peek(first=MESSAGES)
    assert last.body == body(MESSAGES - 1)
    first = await queue.get(5)
    await asyncio.gather(*(message.nack("not now") for message in first))
    assert await drain(queue, MESSAGES) == [body(number) for number in range(MESSAGES)]


async def test_a_log_that_outgrows_memory_is_read_back(harness, tmp_path):
    running = await harness.broker(data=tmp_path, resident_bytes_max=RESIDENT_BYTES_MAX)
    client = await harness.client(running)
    await fill(client.queue("q"))
    await client.close()
    await running.stop()
    again = await harness.broker(data=tmp_path, resident_bytes_max=RESIDENT_BYTES_MAX)
    assert again.resident_bytes("q") < 1.5 * RESIDENT_BYTES_MAX
    client = await harness.client(again)
    assert await drain(client.queue("q"), MESSAGES) == [body(number) for number in range(MESSAGES)]


async def test_the_dead_are_moved_though_their_bytes_are_in_the_log_only(harness, tmp_path):
    running = await harness.broker(data=tmp_path, resident_bytes_max=RESIDENT_BYTES_MAX)
    client = await harness.client(running)
    queue, other = client.queue("q"), await client.declare("other")
    await fill(queue)
    for messages in (await queue.get(10), await queue.get(10)):
        await asyncio.gather(*(message.reject("no") for message in messages))
    held = running.shard.state.names["q"]
    for batch in list(held.batches_since(0))[:2]:
        held.residence.page_out(batch)
    assert await queue.dead.redrive("other") == 20
    assert await drain(other, 20) == [body(number) for number in range(20)]
