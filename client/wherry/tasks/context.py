"""What a task can ask of the job that it does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from wherry.delivery import Token
from wherry.tasks.names import DEADLINE_HEADER, PARENT_HEADER, TASK_HEADER
from wherry.wire.messages import SharedHeaders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wherry.tasks.task import Job


class JobMessage(Protocol):
    """What is known of the message that a job came in."""

    @property
    def id(self) -> str:
        """Its id; "" when there is none."""

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""

    @property
    def token(self) -> Token:
        """The fencing token of its delivery."""

    @property
    def headers(self) -> Mapping[str, Any]:
        """Its headers."""

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""


class Told(NamedTuple):
    """The same, as it was told to where the message itself is not."""

    id: str
    attempt: int
    token: Token
    headers: Mapping[str, Any]
    cancelled: bool = False


NO_MESSAGE = Told("", 1, Token(0, 1), {})


class Context:
    """The job that is being done.

    Where a task's function is called directly, by no worker, there is a stand-in for it: it has no id, and what it is
    told of progress is forgotten.

    Attributes:
        deadline: when the job is wanted no more, in seconds since 1970; None for never.
        state: what the worker's resources are, by name.
    """

    __slots__ = ("_message", "_report", "deadline", "state")

    def __init__(
        self,
        message: JobMessage,
        deadline: float | None,
        state: Mapping[str, Any],
        report: Callable[[float, str], None],
    ) -> None:
        self._message = message
        self.deadline = deadline
        self.state = state
        self._report = report

    @property
    def id(self) -> str:
        """The job's id."""
        return self._message.id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._message.attempt

    @property
    def token(self) -> Token:
        """The fencing token.

        It grows with every delivery of the job, so that who stores it with an effect can refuse an effect that comes
        with an older one.
        """
        return self._message.token

    @property
    def headers(self) -> Mapping[str, Any]:
        """The message's headers."""
        return self._message.headers

    @property
    def cancelled(self) -> bool:
        """Whether the job is wanted no more. One that runs in a thread has to look; others are stopped."""
        return self._message.cancelled

    @property
    def left(self) -> float | None:
        """How many seconds are left until the deadline; None when there is none."""
        return None if self.deadline is None else self.deadline - time.time()

    def progress(self, fraction: float, note: str = "") -> None:
        """Tells how far the job is; whoever asks for its status sees it.

        Args:
            fraction: 0 to 1.
            note: in words.

        Raises:
            ValueError: the fraction is not within 0 to 1.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is within 0 to 1, not {fraction}")
        self._report(fraction, note)


running: ContextVar[Context | None] = ContextVar("wherry_task", default=None)


def within_parent(job: Job) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The headers and the publish options of a job; one that a task sends is wanted no longer than that task itself.

    A cancel of the task reaches it, and it has the task's deadline.
    """
    parent = running.get()
    if parent is None or not parent.id:
        return _headers_of(job.task), job.publish
    headers: dict[str, Any] = {TASK_HEADER: job.task, PARENT_HEADER: parent.id}
    publish = {**job.publish, "parent": parent.id}
    if parent.deadline is not None:
        headers[DEADLINE_HEADER] = parent.deadline
        left = max(parent.deadline - time.time(), 0.001)
        publish["ttl"] = min(publish.get("ttl", left), left)
    return headers, publish


@lru_cache
def _headers_of(task: str) -> SharedHeaders:
    return SharedHeaders({TASK_HEADER: task})


@contextmanager
def called_here() -> Iterator[None]:
    """Has a task's function find a job, even if it is called by no worker."""
    if running.get() is not None:  # by another task: it is a part of that one's job
        yield
        return
    token = running.set(Context(NO_MESSAGE, None, {}, lambda *_: None))
    try:
        yield
    finally:
        running.reset(token)


def current() -> Context:
    """The job that the caller is part of.

    Raises:
        LookupError: it is called outside a task.
    """
    context = running.get()
    if context is None:
        raise LookupError("there is no current task: this is not called by one")
    return context
