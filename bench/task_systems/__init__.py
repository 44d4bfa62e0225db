"""The systems that tasks.py compares: each module is an application, how its worker is started, and how it is called.

Such a module has `SETTINGS`, which stands in the report; `worker()`, the command of its worker process; and `Caller`, a
subclass of one of the two here. The address of the server is in the environment, as ADDRESS names it. The task takes a
number and returns it, and a caller looks whether it came back: so nobody is fast by losing results.
"""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:
    from collections.abc import Coroutine

ADDRESS = "BENCH_TASKS_ADDRESS"
THREADS = 4
"""From how many threads a blocking client makes paced calls: a slow answer delays no later call."""


def address() -> str:
    """HOST:PORT of the server."""
    return os.environ[ADDRESS]


class Caller(ABC):
    """Calls the task.

    Those of a system that has chords have a method `chord(count)` too: it makes so many calls, and another one with the
    results of all of these, and returns when that has its own.
    """

    @abstractmethod
    def flight(self, count: int, at_a_time: int) -> None:
        """Makes so many calls, so many at a time: the next one is sent when a result has come."""

    @abstractmethod
    def paced(self, count: int, rate_per_s: int) -> list[int]:
        """Makes calls at fixed moments; returns how long each took, from its moment to its result, in nanoseconds."""

    def close(self) -> None:  # noqa: B027 (some have nothing to end)
        """Ends."""


class BlockingCaller(Caller):
    """Calls the task without an event loop."""

    @abstractmethod
    def send(self, number: int) -> Any:
        """Makes a call; returns what its result is asked by."""

    @abstractmethod
    def result(self, sent: Any) -> Any:
        """The result, once it has come."""

    def call(self, number: int) -> None:
        """Makes a call, and waits for its result."""
        assert self.result(self.send(number)) == number

    def flight(self, count: int, at_a_time: int) -> None:
        sent: deque[tuple[int, Any]] = deque()
        for number in range(count):
            if len(sent) == at_a_time:
                self._take(*sent.popleft())
            sent.append((number, self.send(number)))
        while sent:
            self._take(*sent.popleft())

    def _take(self, number: int, sent: Any) -> None:
        assert self.result(sent) == number

    def paced(self, count: int, rate_per_s: int) -> list[int]:
        begin = time.monotonic_ns()

        def timed(number: int) -> int:
            self.call(number)
            return time.monotonic_ns() - due_ns(begin, number, rate_per_s)

        with ThreadPoolExecutor(THREADS) as threads:
            samples = []
            for number in range(count):
                time.sleep(max(0, due_ns(begin, number, rate_per_s) - time.monotonic_ns()) / 1e9)
                samples.append(threads.submit(timed, number))
            return [each.result() for each in samples]


class AsyncCaller(Caller):
    """Calls the task on an event loop, which is uvloop's."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.run(self.open())

    async def open(self) -> None:
        """Connects."""

    async def end(self) -> None:
        """Disconnects."""

    @abstractmethod
    async def call(self, number: int) -> None:
        """Makes a call, and waits for its result."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs something on the loop."""
        return self._runner.run(work)

    def flight(self, count: int, at_a_time: int) -> None:
        async def lane(first: int) -> None:
            for number in range(first, count, at_a_time):
                await self.call(number)

        async def all_lanes() -> None:
            async with asyncio.TaskGroup() as group:
                for first in range(at_a_time):
                    group.create_task(lane(first))

        self.run(all_lanes())

    def paced(self, count: int, rate_per_s: int) -> list[int]:
        samples = []

        async def timed(number: int, due: int) -> None:
            await self.call(number)
            samples.append(time.monotonic_ns() - due)

        async def all_calls() -> None:
            begin = time.monotonic_ns()
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    due = due_ns(begin, number, rate_per_s)
                    await asyncio.sleep(max(0, due - time.monotonic_ns()) / 1e9)
                    group.create_task(timed(number, due))

        self.run(all_calls())
        return samples

    def close(self) -> None:
        self.run(self.end())
        self._runner.close()


def due_ns(begin: int, number: int, rate_per_s: int) -> int:
    """The moment of a call."""
    return begin + number * 1_000_000_000 // rate_per_s
