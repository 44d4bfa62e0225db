"""Many publishers against one slow consumer: nothing is lost, nothing is stored twice, no bound is passed.

In virtual time with the real client and broker, where what a refusal tells is held against what really came; and once
over sockets.
"""

from __future__ import annotations

import asyncio
import random
from itertools import count
from statistics import median

import pytest

import wherry
from wherry.conversation.backoff import busy_pause_s

PUBLISHERS, MESSAGES = 20, 25
TOTAL = PUBLISHERS * MESSAGES
NAMES = {b"%d-%d" % (number, each) for number in range(PUBLISHERS) for each in range(MESSAGES)}
BOUND = 50


class Run:
    """A run in virtual time.

    Attributes:
        bounds: the bounds that refusals named.
        ratios: of each refusal, how long it really took until the message was stored, by what was told.
        got: the names of the messages that were consumed, in order.
    """

    def __init__(self, broker, size):
        self.broker = broker
        self.bounds = set()
        self.padding = b" " + bytes(size)
        self.random = random.Random(7)
        self.ratios = []
        self.got = []

    @property
    def now(self):
        return self.broker.now.timestamp()

    async def sleep(self, seconds):
        waiter = asyncio.get_running_loop().create_future()
        self.broker._loop.call_later(seconds, waiter.set_result, None)
        await waiter

    async def publisher(self, number):
        """Publishes one message after the other, as `Queue.publish` does, and takes note of what it is told."""
        async with self.broker.connect() as client:
            for each in range(MESSAGES):
                await self.insist(client.queue("q"), b"%d-%d" % (number, each) + self.padding)

    async def insist(self, queue, body):
        told = []
        for tries in count(1):
            try:
                await queue.publish(body, timeout=0)
                break
            except wherry.Busy as busy:
                self.bounds.add(busy.bound)
                told.append((self.now, busy.retry_after))
                await self.sleep(busy_pause_s(busy, tries, 3600.0, self.random.random()))
        self.ratios += [(self.now - at) / after for at, after in told]

    async def consumer(self, credit, pause_s):
        async with self.broker.connect() as client, client.queue("q").consume(credit) as consumer:
            async for message in consumer:
                await self.sleep(pause_s)
                self.got.append(message.body.partition(b" ")[0])
                settled = message.ack()
                if len(self.got) == TOTAL:
                    await settled
                    return


@pytest.mark.parametrize(
    ("bound", "limit", "size", "credit", "pause_s"),
    [
        ("max_messages", BOUND, 0, 10, 0.01),
        ("max_messages", BOUND, 0, 1, 1.0),
        ("max_messages", 5, 0, 2, 0.02),
        ("max_bytes", 1_010 * BOUND, 1_000, 10, 0.01),
    ],
)
async def test_a_refusal_says_when_there_is_room(wherry_broker, bound, limit, size, credit, pause_s):
    run = Run(wherry_broker, size)
    async with wherry_broker.connect() as client:
        queue = await client.declare("q", **{bound: limit})
        tasks = [asyncio.ensure_future(run.publisher(number)) for number in range(PUBLISHERS)]
        tasks.append(asyncio.ensure_future(run.consumer(credit, pause_s)))
        began, fullest = run.now, 0
        while not all(task.done() for task in tasks):
            await wherry_broker.advance(pause_s)
            info = await queue.info()
            held = info.bytes if size else info.ready + info.leased
            fullest = max(fullest, held)
        await asyncio.gather(*tasks)
        info = await queue.info()
    assert run.bounds == {bound}
    assert limit * 0.9 < fullest <= limit
    assert (len(run.got), set(run.got)) == (TOTAL, NAMES)
    assert (info.published, info.removed) == (TOTAL, {"settled": TOTAL})
    assert len(run.ratios) > TOTAL / 3
    assert 0.5 <= median(run.ratios) <= 2.0
    assert run.now - began < 2 * TOTAL * pause_s, "the consumer had nothing to do for long"


async def test_over_sockets(harness, running):
    """The publishers know nothing of all this: their publishes take longer."""
    declared = await (await harness.client(running)).declare("q", max_messages=BOUND)
    held = running.shard.state.names["q"]
    got, fullest = [], 0

    async def publisher(number):
        queue = (await harness.client(running)).queue("q")
        for each in range(MESSAGES):
            await queue.publish(b"%d-%d" % (number, each), timeout=60)

    async def consumer():
        nonlocal fullest
        async with (await harness.client(running)).queue("q").consume(10) as messages:
            async for message in messages:
                fullest = max(fullest, held.messages_held)
                await asyncio.sleep(0.001)
                got.append(message.body)
                settled = message.ack()
                if len(got) == TOTAL:
                    await settled
                    return

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(consumer())
        for number in range(PUBLISHERS):
            group.create_task(publisher(number))
    assert (len(got), set(got)) == (TOTAL, NAMES)
    assert fullest <= BOUND
    info = await declared.info()
    assert (info.published, info.removed) == (TOTAL, {"settled": TOTAL})


async def test_who_gives_up_is_told_when_to_come_back(wherry_broker):
    async with wherry_broker.connect() as client:
        queue = await client.declare("q", max_messages=1)
        await queue.publish(b"first")
        second = asyncio.ensure_future(queue.publish(b"second", timeout=5))
        began = wherry_broker.now
        await wherry_broker.advance(60)
        with pytest.raises(wherry.Busy) as caught:
            await second
        assert (caught.value.queue, caught.value.bound, caught.value.retry_after) == ("q", "max_messages", 1.0)
        assert (wherry_broker.now - began).total_seconds() == 60


async def test_a_slow_consumer_costs_no_more_than_its_credit(harness, running):
    client, slow = await harness.client(running), await harness.client(running)
    queue = await client.declare("q")
    held = running.shard.state.names["q"]
    async with slow.queue("q").consume(credit=5) as consumer:
        for _ in range(40):
            await queue.publish_many([bytes(10_000)] * 10)
        first = await anext(aiter(consumer))
        assert held.counts == [395, 0, 5, 0]
        assert running.waiting_bytes() < 5 * 11_000
        assert len(await client.queue("q").get(20)) == 20, "the rest is for others"
        await first.ack()
