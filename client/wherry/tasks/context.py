"""What a task can ask of the job that it does."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from wherry.delivery import Token
from wherry.tasks.names import DEADLINE_HEADER, PARENT_HEADER, TASK_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wherry.tasks.task import Job


class Context:
    """The job that is being done.

    Where a task's function is called directly, by no worker, there is a stand-in for it: it has no id, and what it is
    told of progress is forgotten.

    Attributes:
        id: the job's id.
        attempt: which attempt this is, from 1.
        token: the fencing token: it grows with every delivery of the job, so that who stores it with an effect can
            refuse an effect that comes with an older one.
        headers: the message's headers.
        deadline: when the job is wanted no more, in seconds since 1970; None for never.
        state: what the worker's resources are, by name.
    """

    __slots__ = ("_is_cancelled", "_report", "attempt", "deadline", "headers", "id", "state", "token")

    def __init__(
        self,
        id: str,  # noqa: A002 (what everyone calls it)
        attempt: int,
        token: Token,
        headers: Mapping[str, Any],
        deadline: float | None,
        state: Mapping[str, Any],
        report: Callable[[float, str], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self.id = id
        self.attempt = attempt
        self.token = token
        self.headers = headers
        self.deadline = deadline
        self.state = state
        self._report = report
        self._is_cancelled = is_cancelled

    @property
    def cancelled(self) -> bool:
        """Whether the job is wanted no more. One that runs in a thread has to look; others are stopped."""
        return self._is_cancelled()

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


def within_parent(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """The headers and the publish options of a job; one that a task sends is wanted no longer than that task itself.

    A cancel of the task reaches it, and it has the task's deadline.
    """
    headers: dict[str, Any] = {TASK_HEADER: job.task}
    publish = job.publish
    parent = running.get()
    if parent is not None and parent.id:
        headers[PARENT_HEADER] = parent.id
        publish = {**publish, "parent": parent.id}
        if parent.deadline is not None:
            headers[DEADLINE_HEADER] = parent.deadline
            left = max(parent.deadline - time.time(), 0.001)
            publish = {**publish, "ttl": min(publish.get("ttl", left), left)}
    return headers, publish


@contextmanager
def called_here() -> Iterator[None]:
    """Has a task's function find a job, even if it is called by no worker."""
    if running.get() is not None:  # by another task: it is a part of that one's job
        yield
        return
    token = running.set(Context("", 1, Token(0, 1), {}, None, {}, lambda *_: None, lambda: False))
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
