"""Loads that end after a time rather than after a count: peers differ in speed by a factor of a hundred.

The producer says how many messages there are before it publishes the last of them, so that the consumer knows when it
has got it.
"""

from __future__ import annotations

import asyncio
import mmap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loads import FLIGHT, Case
from worker_parts import BACKLOG_MAX, Producer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ENDLESS = 1 << 60
WORDS_BYTES = 16
"""The length of the file that two workers share: how many were taken, and how many there are."""


@dataclass(frozen=True)
class Load(Case):
    """A load that ends when its time or its count is over, whichever is first.

    Attributes:
        seconds: for how long messages are published.
    """

    seconds: float = 2.0


def paced(size: int, rate_per_s: int, seconds: float) -> Load:
    """Messages one by one at fixed moments."""
    return Load(size, 0, 1, round(rate_per_s * seconds), rate_per_s, seconds=seconds)


def flood(size: int, per_call: int, seconds: float, count: int = ENDLESS) -> Load:
    """As many messages as go, a thousand in flight; `per_call` of 0 for single ones."""
    return Load(size, per_call, FLIGHT, count, seconds=seconds)


class Ends:
    """What producer and consumer tell each other, in shared memory; without it, the count of the load.

    Args:
        load: names the file.
    """

    def __init__(self, load: Load) -> None:
        if load.shared:
            with Path(load.shared).open("r+b") as file:
                self._words = memoryview(mmap.mmap(file.fileno(), WORDS_BYTES)).cast("Q")
        else:
            self._words = memoryview(bytearray(WORDS_BYTES)).cast("Q")
            self.total = load.count

    @property
    def taken(self) -> int:
        """How many messages the consumer has."""
        return self._words[0]

    @taken.setter
    def taken(self, count: int) -> None:
        self._words[0] = count

    @property
    def total(self) -> int:
        """How many messages there are; endless while that is not known."""
        return self._words[1] or ENDLESS

    @total.setter
    def total(self, count: int) -> None:
        self._words[1] = count


class TimedProducer(Producer):
    """Publishes until the load's time is over.

    Args:
        load: the load.
        publish: publishes messages, and returns when they are confirmed.

    Attributes:
        count: how many messages it has published.
    """

    def __init__(self, load: Load, publish: Callable[[list[bytes]], Awaitable[object]]) -> None:
        super().__init__(load, publish)
        self._load = load
        self._ends = Ends(load)
        self._until = 0.0
        self._closed = False
        self.count = 0

    async def run(self) -> None:
        self._until = time.monotonic() + self._load.seconds
        if self._load.rate_per_s:
            self.count = self._ends.total = self._load.count
        await super().run()

    async def _lane(self) -> None:
        while not self._closed:
            while self._load.shared and self.count - self._ends.taken > BACKLOG_MAX:  # noqa: ASYNC110 (another process counts)
                await asyncio.sleep(0.001)
            if self._closed:
                return
            self.count += self._step
            if time.monotonic() >= self._until or self.count >= self._load.count:
                self._closed = True
                self._ends.total = self.count
            await self._publish()
