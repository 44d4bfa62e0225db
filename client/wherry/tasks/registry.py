"""`Tasks`: the tasks of an application, by name, and the connection that their calls go through."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar, cast, overload

from wherry import sync
from wherry.aio import connect
from wherry.model.names import queue_name_problem
from wherry.tasks.context import within_parent
from wherry.tasks.function import module_of
from wherry.tasks.handle import Handle, SyncHandle
from wherry.tasks.policy import Options
from wherry.tasks.task import OPTION_NAMES, AsyncTask, Job, SyncTask, Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from wherry.aio import Broker
    from wherry.model.times import Duration

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_URL = "wherry://localhost:7117"


class Decorator(Protocol):
    """What `Tasks.task(...)` with options returns."""

    @overload  # the first that fits is meant, though a coroutine is a result too
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


class Tasks:
    """The tasks of an application.

    ::

        tasks = Tasks("wherry://localhost")

        @tasks.task(retries=5, timeout=60)
        async def send_mail(user_id: int, template: str) -> str: ...

        handle = await send_mail.send(17, template="welcome")
        await handle.result(timeout=10)

    A connection is made when the first call is sent; `async with tasks:` closes it at the end.

    Args:
        url: where the broker is; what WHERRY_URL says when it is not given.
        prefix: stands before the names of tasks that do not say theirs, in place of their module's name.
        defaults: options of every task that does not say otherwise; see `Options`.
        **connection: arguments of `wherry.connect`, such as token.

    Attributes:
        known: the tasks, by name.
        resources: what a worker opens at its start, by name.
        schedules: when tasks are called that have a schedule, by the task's name, as `Broker.schedule` takes it.
    """

    def __init__(
        self,
        url: str = "",
        *,
        prefix: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        **connection: Any,
    ) -> None:
        self.url = url or os.environ.get("WHERRY_URL") or DEFAULT_URL
        self.known: dict[str, Task[..., Any]] = {}
        self.resources: dict[str, Callable[[], AsyncIterator[Any]]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.connection = connection
        self._prefix = prefix
        self._defaults = _options(defaults or {})
        self._sync_broker: sync.Broker | None = None
        self._sync_lock = threading.Lock()
        self._brokers: dict[asyncio.AbstractEventLoop, asyncio.Task[Broker]] = {}

    # What there is.

    @overload  # likewise
    def task(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def task(self, *, name: str = "", **options: Any) -> Decorator: ...
    def task(  # type: ignore[misc]  # mypy takes the third signature's options for the first one's function
        self, function: Callable[..., Any] | None = None, /, *, name: str = "", **options: Any
    ) -> Any:
        """Makes a function a task.

        Args:
            function: the function, sync or async; or none, to give options.
            name: what its jobs are known by; its module and name when not given.
            **options: see `Options`; others, such as max_leased or rate_per_s, are those of the task's own queue.

        Raises:
            ValueError: there is a task of that name; or an option is out of range.
        """
        if function is None:
            return partial(self._task, name=name, options=options)
        return self._task(function, name, options)

    def _task(self, function: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Task[..., Any]:
        called = name or self._name_of(function)
        if called in self.known:
            raise ValueError(f"there is a task {called!r} already")
        defined = replace(self._defaults, **_sorted(options))
        problem = queue_name_problem(defined.queue or called)
        if problem:
            raise ValueError(f"task {called!r}: {problem}")
        is_async = inspect.iscoroutinefunction(function)
        if defined.process and is_async:
            raise ValueError(f"task {called!r}: only a sync function runs in a process of its own")
        kind = AsyncTask if is_async else SyncTask
        task: Task[..., Any] = kind(self, called, function, defined)
        self.known[called] = task
        return task

    def cron(
        self,
        expression: str,
        *,
        zone: str = "UTC",
        missed: str = "once",
        overlap: str = "skip",
        track: bool = True,
        **options: Any,
    ) -> Decorator:
        """Makes a function a task that the broker calls at moments to come, without arguments.

        Workers declare the schedule when they start; it has the task's name, and each moment has one job, however many
        workers there are, and whether any runs then or not.

        Args:
            expression: minute, hour, day of the month, month and day of the week.
            zone: the time zone that they are in, by its IANA name.
            missed: what becomes of moments that passed while there was no broker: `skip`, `once` or `all`.
            overlap: `skip` leaves a moment out while the job before is still waiting or running; or `allow`.
            track: whether it is remembered how its jobs end: `Broker.schedules` tells the newest one's id, and
                `task.handle` of that how it stands.
            **options: as for `task`.
        """
        when = {"cron": expression, "zone": zone, "missed": missed, "overlap": overlap, "track": track}
        return cast("Decorator", partial(self._scheduled, when=when, options=options))

    def every(
        self, interval: Duration, *, missed: str = "skip", overlap: str = "skip", track: bool = True, **options: Any
    ) -> Decorator:
        """The same at an interval.

        Args:
            interval: in seconds, at least 0.1.
            missed: as for `cron`.
            overlap: as for `cron`.
            track: as for `cron`; what is remembered has a bound, and a short interval leaves less of it to others.
            **options: as for `task`.
        """
        when = {"every": interval, "missed": missed, "overlap": overlap, "track": track}
        return cast("Decorator", partial(self._scheduled, when=when, options=options))

    def _scheduled(
        self, function: Callable[..., Any], /, when: dict[str, Any], options: dict[str, Any]
    ) -> Task[..., Any]:
        task = self._task(function, options.pop("name", ""), options)
        task.function.pack((), {})  # it has to do without arguments
        self.schedules[task.name] = when
        return task

    def _name_of(self, function: Callable[..., Any]) -> str:
        prefix = module_of(function) if self._prefix is None else self._prefix
        return f"{prefix}.{function.__name__}" if prefix else function.__name__

    def resource(self, function: Callable[[], AsyncIterator[R]]) -> Callable[[], AsyncIterator[R]]:
        """Has a worker open something at its start, and close it at its end; tasks find it in `current().state`.

        ::

            @tasks.resource
            async def database():
                async with asyncpg.create_pool(...) as pool:
                    yield pool
        """
        self.resources[function.__name__] = function
        return function

    def by_queue(self) -> dict[str, list[Task[..., Any]]]:
        """The tasks of each queue."""
        queues: dict[str, list[Task[..., Any]]] = {}
        for task in self.known.values():
            queues.setdefault(task.queue, []).append(task)
        return queues

    # The connection.

    async def broker(self) -> Broker:
        """The connection of this event loop; it is made when there is none."""
        loop = asyncio.get_running_loop()
        opening = self._brokers.get(loop)
        if opening is None or (opening.done() and not _is_open(opening)):
            opening = self._brokers[loop] = loop.create_task(self._connect())
        return opening.result() if opening.done() else await asyncio.shield(opening)

    async def _connect(self) -> Broker:
        return await connect(self.url, **self.connection)

    def broker_sync(self) -> sync.Broker:
        """The connection of code that has no event loop, which all threads share; it is made when there is none."""
        with self._sync_lock:
            if self._sync_broker is None:
                self._sync_broker = sync.connect(self.url, **self.connection)
            return self._sync_broker

    def close_sync(self) -> None:
        """Closes that connection, if there is one."""
        with self._sync_lock:
            if self._sync_broker is not None:
                self._sync_broker.close()
                self._sync_broker = None

    async def close(self) -> None:
        """Closes the connection of this event loop, if there is one."""
        opening = self._brokers.pop(asyncio.get_running_loop(), None)
        if opening is not None:
            await (await opening).close()

    async def __aenter__(self) -> Self:
        await self.broker()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Calls.

    async def send_job(self, task: Task[..., R], job: Job) -> Handle[R]:
        """Publishes one job."""
        opening = self._brokers.get(asyncio.get_running_loop())
        broker = opening.result() if opening is not None and _is_open(opening) else await self.broker()
        queue = broker.queue(task.queue)
        headers, publish = within_parent(job)
        receipt = await queue.publish(job.body, headers=headers, track=True, **publish)
        return Handle.sent(queue, receipt.offset, task)

    async def send_jobs(self, task: Task[..., R], jobs: Sequence[Job]) -> list[Handle[R]]:
        """Publishes jobs of one task; what they share travels together.

        Returns:
            A handle for each, in order.
        """
        broker = await self.broker()
        queue, receipts = broker.queue(task.queue), []
        for bodies, options in publishes(jobs):
            if len(bodies) == 1:
                receipts.append(await queue.publish(bodies[0], **options))
            else:
                receipts += await queue.publish_many(bodies, **options)
        return [Handle.sent(queue, receipt.offset, task) for receipt in receipts]

    def send_jobs_sync(self, task: Task[..., R], jobs: Sequence[Job]) -> list[SyncHandle[R]]:
        """The same for code that has no event loop."""
        broker = self.broker_sync()
        queue, receipts = broker.queue(task.queue), []
        for bodies, options in publishes(jobs):
            if len(bodies) == 1:
                receipts.append(queue.publish(bodies[0], **options))
            else:
                receipts += queue.publish_many(bodies, **options)
        return [SyncHandle(broker, receipt.id, task) for receipt in receipts]


def _is_open(opening: asyncio.Task[Broker]) -> bool:
    """Whether a connection has been made."""
    return opening.done() and not opening.cancelled() and opening.exception() is None


def publishes(jobs: Sequence[Job]) -> Iterator[tuple[list[bytes], dict[str, Any]]]:
    """What to publish for jobs of one task: the bodies that travel together, and the options that they share."""
    for group in _alike(jobs) if len(jobs) > 1 else [jobs]:
        headers, publish = within_parent(group[0])
        yield [job.body for job in group], {"headers": headers, "track": True, **publish}


def _alike(jobs: Iterable[Job]) -> list[list[Job]]:
    """Neighbours that share all but their arguments; one with a dedupe key stands alone."""
    groups: list[list[Job]] = []
    for job in jobs:
        last = groups[-1][0] if groups else None
        alike = last is not None and last._replace(body=job.body) == job and "dedupe" not in job.publish
        if alike:
            groups[-1].append(job)
        else:
            groups.append([job])
    return groups


def _sorted(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as `Options` has them: what it does not know is for the task's own queue."""
    known = {name: value for name, value in options.items() if name in OPTION_NAMES}
    others = {name: value for name, value in options.items() if name not in OPTION_NAMES}
    return {**known, "queue_options": {**known.get("queue_options", {}), **others}} if others else known


def _options(defaults: Mapping[str, Any]) -> Options:
    unknown = sorted(set(defaults) - OPTION_NAMES)
    if unknown:
        raise ValueError(f"no option of a task: {', '.join(unknown)}")
    return Options(**defaults)
