"""The producer and the consumer of loopback.py, each a process of its own, through the public asyncio client.

    worker.py producer|consumer ADDRESS CASE

CASE is JSON; see `loads.Case`. A worker prints `ready`, waits for a line, works, and prints what it measured as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import uvloop

import wherry
from loads import Case
from worker_parts import STAMP, Producer, counter, rendezvous

BULK = 500
CREDIT = 4_000


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
            if case.per_call:
                producer = Producer(case, queue.publish_many)
            else:
                producer = Producer(case, lambda bodies: queue.publish(bodies[0]))
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
