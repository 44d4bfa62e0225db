"""The producer and the consumer of run.py, each a process of its own.

    worker.py PEER producer|consumer ADDRESS CASE

CASE is JSON; see `loads.Case`. A worker prints `ready`, waits for a line, works, and prints what it measured as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

sys.path.append(str(Path(__file__).resolve().parents[1]))

from clients import Client, connect

from loads import Case
from worker_parts import BACKLOG_MAX, STAMP, counter, rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable


class Producer:
    """Publishes a case's messages, and waits for each to be confirmed.

    Args:
        case: the load.
        client: where to.
    """

    def __init__(self, case: Case, client: Client) -> None:
        self._case = case
        self._client = client
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
        await self._client.publish([body] * self._step)


async def receive(case: Case, client: Client, begun: Callable[[], None]) -> list[int]:
    """Takes and settles a case's messages; returns how long some of them took, in nanoseconds."""
    samples: list[int] = []
    done = counter(case)
    count = 0
    begun()
    while count < case.count:
        bodies = await client.take()
        now = time.monotonic_ns()
        sampled = bodies if case.rate_per_s else bodies[:1]
        samples += [now - STAMP.unpack_from(body)[0] for body in sampled]
        count += len(bodies)
        done[0] = count
        await client.settle(last=count >= case.count)
    return samples


async def work(peer: str, role: str, address: str, case: Case) -> None:
    client = await connect(peer, address, role)
    samples: list[int] = []
    began: list[float] = []
    if role == "producer":
        producer = Producer(case, client)
        began[:] = rendezvous()
        await producer.run()
    else:
        samples = await receive(case, client, lambda: began.extend(rendezvous()))
    measured = {"begin": began[0], "end": time.monotonic(), "cpu_s": time.process_time() - began[1], "samples": samples}
    await client.close()
    print(json.dumps(measured), flush=True)
    sys.stdin.readline()
    os._exit(0)  # some clients leave threads behind


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], sys.argv[2], sys.argv[3], Case(**json.loads(sys.argv[4]))))
