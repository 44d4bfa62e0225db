"""Tasks, and a worker for them, in this process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from patience import PATIENCE_S
from wherry.tasks import Tasks, Worker


@pytest.fixture
async def running(harness):
    return await harness.broker()


@pytest.fixture
async def tasks(running):
    tasks = Tasks(running.url, timeout=PATIENCE_S, prefix="app")
    yield tasks
    await tasks.close()


@pytest.fixture
def working(tasks):
    """A worker that works while the block lasts."""

    @asynccontextmanager
    async def working(**options):
        worker = Worker(tasks, **options)
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            run = group.create_task(worker.run(ready.set))
            waiting = group.create_task(ready.wait())
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait((run, waiting), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            try:
                yield worker
            finally:
                worker.stop()

    return working
