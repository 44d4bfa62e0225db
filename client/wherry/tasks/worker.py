"""The worker: it takes jobs from the queues of its tasks, does some of them at a time, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from wherry import errors
from wherry.aio import connect
from wherry.tasks.names import TASK_HEADER
from wherry.tasks.places import Processes
from wherry.tasks.runner import Runner
from wherry.tasks.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wherry.aio import Broker, Consumer
    from wherry.aio.message import Message
    from wherry.tasks.registry import Tasks
    from wherry.tasks.task import Task

logger = logging.getLogger("wherry.tasks")

RUN_MAX = timedelta(days=36_500)
"""For how long leases are renewed: a job has them for as long as it runs, and its timeout says how long that may be."""
LOOK_S = 0.2
"""How often to look whether a job that runs was cancelled."""


class Worker:
    """Does the jobs of an application's tasks.

    Args:
        tasks: the tasks.
        concurrency: how many jobs run at a time.
        prefetch: how many more may be here, so that the next one is there when one ends; 0 is best where jobs take
            long, since these wait here although another worker may be free.
        grace: how long the jobs that run may go on when the worker is to stop, in seconds.
        queues: the queues to take jobs from; all of the tasks' when not given.
        enough: asked after each job, with how many were done, whether the worker is to stop.

    Attributes:
        done: how many jobs have ended.
    """

    def __init__(
        self,
        tasks: Tasks,
        *,
        concurrency: int = 20,
        prefetch: int | None = None,
        grace: float = 30.0,
        queues: Iterable[str] | None = None,
        enough: Callable[[int], bool] = lambda _: False,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is 1 or more, not {concurrency}")
        served = tasks.by_queue()
        self._queues = {name: served[name] for name in (served if queues is None else queues)}
        self._tasks = tasks
        self._concurrency = concurrency
        self._credit = concurrency + (concurrency if prefetch is None else prefetch)
        self._grace = grace
        self._enough = enough
        self._free = asyncio.Semaphore(concurrency)
        self._stopping = asyncio.Event()
        self._consumers: list[Consumer] = []
        self._runner: Runner | None = None

    @property
    def done(self) -> int:
        """How many jobs have ended."""
        return self._runner.done if self._runner is not None else 0

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._runner.jobs) if self._runner is not None else 0

    @property
    def overruns(self) -> int:
        """How many tasks were given up that may run still: only a new process is rid of them."""
        return self._runner.overruns if self._runner is not None else 0

    def stop(self) -> None:
        """Begins to end: takes no more jobs, and lets those that run go on for as long as the grace."""
        self._stopping.set()

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Works until `stop` is called.

        Args:
            ready: called once jobs can come.
        """
        threads, processes = Threads(self._concurrency), Processes(self._concurrency)
        async with AsyncExitStack() as stack:
            connection = {"name": own_name(), **self._tasks.connection}
            broker = await stack.enter_async_context(connect(self._tasks.url, **connection))
            state = {
                name: await stack.enter_async_context(asynccontextmanager(resource)())
                for name, resource in self._tasks.resources.items()
            }
            stack.callback(threads.close)
            stack.push_async_callback(processes.close)
            self._runner = Runner(self._tasks.known, state, threads, processes, broker)
            for name, tasks in self._queues.items():
                _warn_of_unknown(tasks)
                await declare(broker, name, tasks)
                await self._schedule(broker, tasks)
            await self._serve(broker, ready)

    async def _schedule(self, broker: Broker, tasks: Iterable[Task[..., Any]]) -> None:
        """Declares the schedules of some tasks; one that is there already, and the same, stays as it is."""
        for task in tasks:
            when = self._tasks.schedules.get(task.name)
            if when is not None:
                body, headers = task.function.pack((), {}), {TASK_HEADER: task.name}
                await broker.schedule(task.name, task.queue, body, headers=headers, **when)

    async def _serve(self, broker: Broker, ready: Callable[[], None]) -> None:
        async with asyncio.TaskGroup() as group:
            for name in self._queues:
                consumer = broker.queue(name).consume(self._credit, max_lease=RUN_MAX)
                self._consumers.append(consumer)
                group.create_task(self._take(consumer))
            watch = group.create_task(self._watch())
            ready()
            await self._stopping.wait()
            await self._drain()
            watch.cancel()

    async def _take(self, consumer: Consumer) -> None:
        async with consumer:
            async for message in consumer:
                await self._free.acquire()
                if self._stopping.is_set():
                    self._free.release()
                    message.release()
                    continue
                self._start(message)

    def _start(self, message: Message) -> None:
        assert self._runner is not None
        job = asyncio.get_running_loop().create_task(self._runner.run(message))
        self._runner.jobs[job] = message
        job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Task[None]) -> None:
        assert self._runner is not None
        del self._runner.jobs[job]
        self._free.release()
        if not job.cancelled() and job.exception() is not None:
            logger.critical("a bug in the worker", exc_info=job.exception())
            self.stop()
        if self._enough(self._runner.done):
            self.stop()

    async def _watch(self) -> None:
        assert self._runner is not None
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(LOOK_S)
                self._runner.stop_cancelled()

    async def _drain(self) -> None:
        """Hands back what was not begun, and lets what runs end."""
        assert self._runner is not None
        logger.info("stopping; jobs that run: %d", len(self._runner.jobs))
        for _ in self._consumers:
            self._free.release()  # whoever holds a message and waits for a place finds out that there will be none
        for consumer in self._consumers:
            await consumer.stop()
        jobs = self._runner.jobs
        if jobs:
            await asyncio.wait(list(jobs), timeout=self._grace)
        left = list(jobs)
        if left:
            logger.warning("handed back, since they did not end within %s s; jobs: %d", self._grace, len(left))
        for job in left:
            job.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def own_name() -> str:
    """What a worker calls itself when the application says nothing else, so that who has a job can be found."""
    return f"worker/{socket.gethostname()}/{os.getpid()}"


def _warn_of_unknown(tasks: Iterable[Task[..., Any]]) -> None:
    for task in tasks:
        names = ", ".join(task.function.unknown)
        if names:
            logger.warning(
                "task %r: the annotation of %s names what cannot be found (is it imported for type checkers only?); "
                "what is sent for it comes as it travelled",
                task.name,
                names,
            )


async def declare(broker: Broker, name: str, tasks: Iterable[Task[..., Any]]) -> None:
    """Makes the queue of some tasks, or changes it to what they ask for now."""
    options: dict[str, Any] = {"max_attempts": max(task.defined.retries for task in tasks) + 1}
    for task in tasks:
        options |= task.defined.queue_options
    try:
        await broker.declare(name, **options)
    except errors.ExistsDifferently:
        await broker.queue(name).alter(**options)
