"""A task: a function whose calls become jobs."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, Protocol, Self, TypeVar, overload

from wherry.tasks import workflow
from wherry.tasks.context import called_here
from wherry.tasks.function import Function
from wherry.tasks.handle import Handle, SyncHandle
from wherry.tasks.policy import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from wherry.model.times import Duration
    from wherry.tasks.registry import Tasks
    from wherry.tasks.workflow import Chain, Sendable

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Job(NamedTuple):
    """One call of a task, ready to be published.

    Attributes:
        task: the task's name.
        queue: where it waits.
        body: its arguments.
        publish: the options of the publish, as for `Queue.publish`.
        takes: whether it is called with what the jobs before it returned.
    """

    task: str
    queue: str
    body: bytes
    publish: dict[str, Any]
    takes: bool = False


class Call(Generic[R_co]):
    """A call that was not made yet, as part of a workflow: a `Signature` or a `Continuation`.

    Attributes:
        task: the task.
        args: the positional arguments.
        kwargs: the named ones.
        immutable: whether it is called with these only, whatever the call before it returned.
    """

    def __init__(
        self, task: Task[..., R_co], args: tuple[Any, ...], kwargs: dict[str, Any], *, immutable: bool = False
    ) -> None:
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.immutable = immutable

    def __repr__(self) -> str:
        shown = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.task.name}({', '.join(shown)})"

    @overload
    def __or__(self, after: Continuation[R_co, T]) -> Chain[T]: ...
    @overload
    def __or__(self, after: Signature[T] | Sendable[T]) -> Chain[T]: ...
    def __or__(self, after: Any) -> Chain[Any]:
        return workflow.Chain([self, after])

    def job(self, *, takes: bool) -> Job:
        """What to publish for it; with `takes`, it is called with one argument more, in front."""
        return self.task.job(self.args, self.kwargs, takes=takes)


class Signature(Call[R_co]):
    """A call with all of its arguments, not made yet: something to send later, or to begin a workflow with."""

    async def send(self) -> Handle[R_co]:
        """Makes the call."""
        return await self.task.send(*self.args, **self.kwargs)

    def send_sync(self) -> SyncHandle[R_co]:
        """The same from code that has no event loop."""
        return self.task.send_sync(*self.args, **self.kwargs)


class Continuation(Call[R_co], Generic[T_contra, R_co]):
    """A call whose first argument is what the call before it in a workflow returned."""


class _OfOne(Protocol[T_contra, R_co]):
    """A task that can be called with one argument; this is how `map` knows of which type."""

    def s(self, value: T_contra, /) -> Signature[R_co]: ...


class _OfMore(Protocol[T_contra, Q, R_co]):
    """A task that takes an argument in front of others; this is how `then` knows of which type."""

    def s(self, value: T_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> Signature[R_co]: ...


class Task(Generic[P, R]):
    """A function whose calls become jobs; made by `Tasks.task`, as an `AsyncTask` or a `SyncTask`.

    Calling it calls the function, here and now; `send` publishes a job, which a worker does.

    Attributes:
        name: what its jobs are known by.
        defined: its options.
        function: the function, with what is known of its parameters.
    """

    def __init__(self, tasks: Tasks, name: str, call: Callable[P, Any], defined: Options) -> None:
        self.name = name
        self.defined = defined
        self.function = Function(name, call)
        self._tasks = tasks
        self._at: datetime | None = None
        self._dedupe = ""
        self.__doc__ = call.__doc__
        self.__wrapped__ = call

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    @property
    def queue(self) -> str:
        """The name of the queue that its jobs wait in."""
        return self.defined.queue or self.name

    def options(
        self,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        ttl: Duration | None = None,
        priority: int | None = None,
        key: str | None = None,
        dedupe: str = "",
    ) -> Self:
        """The same task, with other options for the calls that are made through it.

        For example `await send_mail.options(delay=60, priority=9).send(17)`.

        Args:
            delay: how long a job waits before it is ready, in seconds.
            at: the moment at which it is ready.
            ttl: after how long a job that nobody has begun is wanted no more, in seconds.
            priority: 0 to 9; 9 goes first.
            key: what the jobs belong to, such as a customer.
            dedupe: a second job with this key is not stored while the queue remembers it.
        """
        given: dict[str, Any] = {"delay": delay, "ttl": ttl, "priority": priority}
        changes = {name: value for name, value in given.items() if value is not None}
        if key is not None:
            changes["key"] = lambda *_args, **_kwargs: key
        other = type(self)(self._tasks, self.name, self.function.call, replace(self.defined, **changes))
        other._at, other._dedupe = at, dedupe  # noqa: SLF001 (of this class)
        return other

    async def send(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Publishes a job that makes this call; returns when the broker has confirmed it.

        Raises:
            BadArguments: the function would not take these arguments, or one of them cannot travel.
            Busy: the queue is full, and still was when the time for it was over.
        """
        handle: Handle[R] = await self._tasks.send_job(self, self.job(args, kwargs))
        return handle

    def send_sync(self, *args: P.args, **kwargs: P.kwargs) -> SyncHandle[R]:
        """The same from code that has no event loop."""
        handles: list[SyncHandle[R]] = self._tasks.send_jobs_sync(self, [self.job(args, kwargs)])
        return handles[0]

    delay = send

    async def map(self: _OfOne[T, R_co], values: Iterable[T]) -> list[Handle[R_co]]:
        """Publishes a job for each of the values, in order, a batch at a time."""
        assert isinstance(self, Task)
        handles: list[Handle[R_co]] = await self._tasks.send_jobs(self, [self.job((value,), {}) for value in values])
        return handles

    def map_sync(self: _OfOne[T, R_co], values: Iterable[T]) -> list[SyncHandle[R_co]]:
        """The same from code that has no event loop."""
        assert isinstance(self, Task)
        jobs = [self.job((value,), {}) for value in values]
        handles: list[SyncHandle[R_co]] = self._tasks.send_jobs_sync(self, jobs)
        return handles

    async def handle(self, id: str) -> Handle[R]:  # noqa: A002 (what everyone calls it)
        """A handle of a job that was sent before, by its id; nothing is asked of the broker.

        Raises:
            ValueError: it is no id.
        """
        return Handle(await self._tasks.broker(), id, self)

    def handle_sync(self, id: str) -> SyncHandle[R]:  # noqa: A002
        """The same for code that has no event loop."""
        return SyncHandle(self._tasks.broker_sync(), id, self)

    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """This call, not made yet."""
        return Signature(self, args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """The same, for a workflow: it is not called with what the call before it returned."""
        return Signature(self, args, kwargs, immutable=True)

    def then(self: _OfMore[T, Q, R_co], *args: Q.args, **kwargs: Q.kwargs) -> Continuation[T, R_co]:
        """This call, for a workflow: what the call before it returned comes in front of these arguments."""
        assert isinstance(self, Task)
        return Continuation(self, args, kwargs)

    def job(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, takes: bool = False) -> Job:
        """What to publish for a call; with `takes`, one that gets an argument more, in front."""
        defined = self.defined
        publish: dict[str, Any] = {}
        if defined.priority:
            publish["priority"] = defined.priority
        if defined.delay is not None:
            publish["delay"] = defined.delay
        if defined.ttl is not None:
            publish["ttl"] = defined.ttl
        if self._at is not None:
            publish["at"] = self._at
        if self._dedupe:
            publish["dedupe"] = self._dedupe
        if defined.key is not None:
            publish["key"] = defined.key(*args, **kwargs)
        return Job(self.name, self.queue, self.function.pack(args, kwargs, takes=takes), publish, takes)


class AsyncTask(Task[P, R]):
    """A task whose function is a coroutine function."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function itself."""
        with called_here():
            returned: R = await self.function.call(*args, **kwargs)
        return returned


class SyncTask(Task[P, R]):
    """A task whose function is a plain one."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function itself."""
        with called_here():
            returned: R = self.function.call(*args, **kwargs)
        return returned


OPTION_NAMES = frozenset(each.name for each in fields(Options))
