"""wherry."""

from __future__ import annotations

import sys

from task_systems import AsyncCaller, address
from wherry.tasks import Tasks, chord

SETTINGS = (
    "worker: --concurrency 100; an async function, or a sync one where it says so; client: asyncio on uvloop, "
    "100 coroutines"
)
AT_A_TIME = 100

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


class ThreadCaller(Caller):
    """The same with a function that is no coroutine: it runs in a thread."""

    task = in_thread
