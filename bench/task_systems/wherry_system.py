"""wherry."""

from __future__ import annotations

import asyncio
import sys

from task_systems import AsyncCaller, address
from wherry.tasks import Tasks, chord

AT_A_TIME = 100
BATCH = 25
SETTINGS = (
    "worker: --concurrency 100; an async function, or a sync one where it says so; client: asyncio on uvloop, "
    f"100 coroutines, or {AT_A_TIME // BATCH} that call for {BATCH} at a time"
)

tasks = Tasks(f"wherry://{address()}", defaults={"queue": "bench"})


@tasks.task
async def noop(number: int) -> int:
    return number


@tasks.task
def in_thread(number: int) -> int:
    return number


@tasks.task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


def worker() -> list[str]:
    module = [sys.executable, "-m", "wherry_broker.cli", "worker", f"{__name__}:tasks"]
    return [*module, "--concurrency", str(AT_A_TIME), "--log-level", "warning"]


class Caller(AsyncCaller):
    """Each call is sent for itself; what is sent in one turn of the event loop travels together."""

    task = noop

    async def open(self) -> None:
        await tasks.broker()

    async def end(self) -> None:
        await tasks.close()

    async def call(self, number: int) -> None:
        handle = await self.task.send(number)
        assert await handle.result() == number

    def chord(self, count: int) -> None:
        async def all_calls() -> None:
            flow = await chord([noop.s(number) for number in range(count)], total.then()).send()
            assert await flow.result() == count * (count - 1) // 2

        self.run(all_calls())


class MapCaller(Caller):
    """A batch of calls is sent by `map`. What the others have for that, but for RQ, sends each call for itself."""

    def flight(self, count: int, at_a_time: int) -> None:
        async def lane() -> None:
            nonlocal left
            while left > 0:
                numbers = range(left, left - min(BATCH, left), -1)
                left -= len(numbers)
                handles = await noop.map(numbers)
                assert await asyncio.gather(*[handle.result() for handle in handles]) == list(numbers)

        async def all_lanes() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_a_time // BATCH):
                    group.create_task(lane())

        left = count
        self.run(all_lanes())


class ThreadCaller(Caller):
    """The same with a function that is no coroutine: it runs in a thread."""

    task = in_thread
