"""What a task asks for, and what becomes of an attempt that failed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry.model.options import Retry
from wherry.model.times import to_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.model.times import Duration

BACK_OFF_DOUBLINGS_MAX = 64


class Again(NamedTuple):
    """The attempt failed, and there is another one after `delay` seconds."""

    delay: float


class GivenUp(NamedTuple):
    """No attempt follows; `reason` is kept with the message."""

    reason: str


class RetryLater(Exception):
    """Raised by a task: this attempt came to nothing, and another one is wanted.

    Args:
        after: how long to wait, in seconds; the task's own back-off when not given.
        reason: kept with the message.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Reject(Exception):
    """Raised by a task: no attempt can succeed; the job is dead at once, and kept with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a task.

    Attributes:
        queue: the queue that its jobs wait in; "" for one of its own, which has the task's name.
        retries: how many attempts follow one that failed.
        retry_on: the exceptions after which there is another attempt.
        give_up_on: those of them after which there is none.
        back_off: how long to wait before the next attempt.
        timeout: how long one attempt may take, in seconds: then TimeoutError is raised inside it, and it may tidy up.
            None for any time.
        grace: how long it may tidy up after that, in seconds; then it is given up. What runs in a process is killed.
        priority: 0 to 9; 9 goes first.
        key: what a job belongs to, such as a customer, made from its arguments; None for nothing.
        delay: how long a job waits before it is ready, in seconds.
        ttl: after how long a job that nobody has begun is wanted no more, in seconds.
        process: whether a sync function runs in a process of its own instead of a thread. What calls into C and holds
            the interpreter there for longer than a lease needs one: in a thread it keeps the lease from being renewed,
            and the job is done again.
        queue_options: the options of the task's own queue, as for `Broker.declare`: max_leased, rate_per_s,
            result_ttl, ...
    """

    queue: str = ""
    retries: int = 3
    retry_on: tuple[type[Exception], ...] = (Exception,)
    give_up_on: tuple[type[Exception], ...] = (Reject,)
    back_off: Retry = field(default_factory=Retry)
    timeout: float | None = None
    grace: float = 10.0
    priority: int = 0
    key: Callable[..., str] | None = None
    delay: Duration | None = None
    ttl: Duration | None = None
    process: bool = False
    queue_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ValueError(f"retries is 0 or more, not {self.retries}")
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"a timeout is more than 0 seconds, not {self.timeout}")
        if self.queue and self.queue_options:
            names = ", ".join(sorted(self.queue_options))
            raise ValueError(f"{names}: an option of a queue is for a task that has its own, not for {self.queue!r}")


def after_failure(options: Options, attempt: int, error: BaseException, drawn: float) -> Again | GivenUp:
    """What becomes of an attempt that raised `error`.

    Args:
        options: the task's.
        attempt: which attempt it was, from 1.
        error: what it raised.
        drawn: a number evenly drawn from [0, 1), for jitter.
    """
    text = f"{type(error).__name__}: {error}"
    wanted = isinstance(error, (RetryLater, *options.retry_on)) and not isinstance(error, options.give_up_on)
    if not wanted or attempt > options.retries:
        return GivenUp(text)
    if isinstance(error, RetryLater) and error.after is not None:
        return Again(error.after)
    return Again(drawn * back_off_max_s(options.back_off, attempt))


def back_off_max_s(retry: Retry, attempts: int) -> float:
    """The longest delay after so many attempts, in seconds: exponential, capped; as a queue's own back-off is."""
    grown_ms = to_ms(retry.base) * retry.factor ** min(attempts - 1, BACK_OFF_DOUBLINGS_MAX)
    return min(to_ms(retry.cap), grown_ms) / 1000
