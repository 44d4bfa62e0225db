"""The producer and the consumer of loopback.py, each a process of its own, through the public asyncio client.

    worker.py producer|consumer ADDRESS CASE

CASE is JSON; see `loads.Case`. A worker prints `ready`, waits for a line, works, and prints what it measured as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

import wherry
from loads import Case
from worker_parts import BACKLOG_MAX, STAMP, counter, rendezvous

BULK = 500
CREDIT = 4_000


class Producer:
    """Publishes a case's messages, and waits for each to be confirmed.

    Args:
        case: the load.
        queue: where to.
    """

    def __init__(self, case: Case, queue: wherry.Queue) -> None:
        self._case = case
        self._queue = queue
        self._done = counter(case)
        self._started = 0
        self._step = max(1, case.per_call)
        self._filler = bytes(case.size - STAMP.size)

    async def run(self) -> None:
        """Publishes everything."""
        if self._case.rate_per_s:
            await self._paced()
            return
        async with asyncio.TaskGroup() as group:
            for _ in range(self._case.flight // self._step):
                group.create_task(self._lane())

    async def _lane(self) -> None:
        case = self._case
        while self._started < case.count:
            self._started += self._step
            while case.shared and self._started - self._done[0] > BACKLOG_MAX:  # noqa: ASYNC110 (another process counts)
                await asyncio.sleep(0.001)
            await self._publish()

    async def _paced(self) -> None:
        """At fixed moments, and without waiting for those before: a slow answer delays no later publish."""
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(self._case.count):
                await asyncio.sleep(max(0.0, begin + number / self._case.rate_per_s - time.monotonic()))
                group.create_task(self._publish())

    async def _publish(self) -> None:
        body = STAMP.pack(time.monotonic_ns()) + self._filler
        if self._case.per_call:
            await self._queue.publish_many([body] * self._case.per_call)
        else:
            await self._queue.publish(body)


class Receiver:
    """Takes and settles a case's messages.

    Args:
        case: the load.
        queue: where from.
    """

    def __init__(self, case: Case, queue: wherry.Queue) -> None:
        self._case = case
        self._queue = queue
        self._done = counter(case)
        self.samples_ns: list[int] = []

    async def run(self, consumer: wherry.Consumer) -> None:
        """Takes everything, and waits until the last settle is confirmed."""
        await (self._bulk(consumer) if self._case.per_call else self._each(consumer))

    async def _bulk(self, consumer: wherry.Consumer) -> None:
        count = 0
        settlement: wherry.Settlement | None = None
        async for messages in consumer.batches(BULK):
            self._sample(messages[0].body)
            settlement = self._queue.ack_many(messages)
            count += len(messages)
            self._done[0] = count
            if count >= self._case.count:
                break
        assert settlement is not None
        await settlement

    async def _each(self, consumer: wherry.Consumer) -> None:
        count = 0
        settlement: wherry.Settlement | None = None
        sample_every = 1 if self._case.rate_per_s else 16
        async for message in consumer:
            if count % sample_every == 0:
                self._sample(message.body)
            settlement = message.ack()
            count += 1
            self._done[0] = count
            if count >= self._case.count:
                break
        assert settlement is not None
        await settlement

    def _sample(self, body: bytes) -> None:
        self.samples_ns.append(time.monotonic_ns() - STAMP.unpack_from(body)[0])


async def work(role: str, address: str, case: Case) -> None:
    async with wherry.connect(f"wherry://{address}", name=role) as broker:
        queue = broker.queue("bench")
        samples: list[int] = []
        if role == "producer":
            producer = Producer(case, queue)
            begin, cpu = rendezvous()
            await producer.run()
        else:
            receiver = Receiver(case, queue)
            async with queue.consume(CREDIT) as consumer:
                begin, cpu = rendezvous()
                await receiver.run(consumer)
            samples = receiver.samples_ns
            info = await queue.info()
            assert not info.ready + info.leased + info.delayed + info.dead, info
        measured = {"begin": begin, "end": time.monotonic(), "cpu_s": time.process_time() - cpu, "samples": samples}
        print(json.dumps(measured), flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], sys.argv[2], Case(**json.loads(sys.argv[3]))))
