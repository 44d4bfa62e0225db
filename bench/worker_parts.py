"""What the workers of several benchmarks share: the producer, a count in shared memory, and how they begin together."""

from __future__ import annotations

import asyncio
import mmap
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from loads import DONE_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from loads import Case

STAMP = struct.Struct(">Q")
BACKLOG_MAX = 20_000
"""How far the producer may be ahead of the consumer, so that the queue stays short whichever of them is slower."""


def counter(case: Case) -> memoryview:
    """The consumer's count, as both processes see it."""
    if not case.shared:
        return memoryview(bytearray(DONE_BYTES)).cast("Q")
    with Path(case.shared).open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), DONE_BYTES)).cast("Q")


def rendezvous() -> tuple[float, float]:
    """Says that all is ready, and waits for the word; returns the time and the CPU time then, in seconds."""
    print("ready", flush=True)
    sys.stdin.readline()
    return time.monotonic(), time.process_time()


class Producer:
    """Publishes a case's messages, and waits for each to be confirmed.

    Args:
        case: the load.
        publish: publishes messages, and returns when they are confirmed.
    """

    def __init__(self, case: Case, publish: Callable[[list[bytes]], Awaitable[object]]) -> None:
        self._case = case
        self._send = publish
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
        await self._send([body] * self._step)
