"""Taskiq, with Redis as its broker and as its result backend.

`wait_result` asks again and again, at an interval that is given here by the load: a short one finds a result early, and
keeps Redis and the client from other work when a hundred wait.
"""

from __future__ import annotations

import sys

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from task_systems import AsyncCaller, address

AT_A_TIME = 100
INTERVAL_S, PACED_INTERVAL_S = 0.05, 0.002
SETTINGS = (
    f"worker: --workers 1 --max-async-tasks {AT_A_TIME}, on uvloop; ListQueueBroker, RedisAsyncResultBackend; an async "
    f"function; client: asyncio on uvloop, kiq, wait_result every {INTERVAL_S} s, at 100 tasks/s {PACED_INTERVAL_S} s"
)
LIMIT_S = 30

broker = ListQueueBroker(f"redis://{address()}/0").with_result_backend(
    RedisAsyncResultBackend(f"redis://{address()}/1", result_ex_time=3_600)
)


@broker.task
async def noop(number: int) -> int:
    return number


def worker() -> list[str]:
    taskiq = [sys.executable, "-m", "taskiq", "worker", f"{__name__}:broker", "--workers", "1"]
    return [*taskiq, "--max-async-tasks", str(AT_A_TIME), "--max-prefetch", str(AT_A_TIME), "--log-level", "ERROR"]


class Caller(AsyncCaller):
    """A pool of connections, made by its client."""

    interval_s = INTERVAL_S

    async def open(self) -> None:
        await broker.startup()

    async def end(self) -> None:
        await broker.shutdown()

    async def call(self, number: int) -> None:
        sent = await noop.kiq(number)
        result = await sent.wait_result(check_interval=self.interval_s, timeout=LIMIT_S)
        assert result.return_value == number

    def paced(self, count: int, rate_per_s: int) -> list[int]:
        self.interval_s = PACED_INTERVAL_S
        return super().paced(count, rate_per_s)
