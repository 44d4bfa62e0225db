"""How a message stands, or how it ended, as users see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry import errors
from wherry.model.fields import PERMILLE_MAX
from wherry.model.times import from_moment_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

LIVE = ("ready", "delayed", "leased")
"""The states of a message that has not ended."""


class Event(NamedTuple):
    """Something that happened to a message.

    Attributes:
        at: when, in UTC.
        what: published, leased, failed, lost, released, dead, redriven, or how it left.
        who: what the client calls itself that did it; "" for none, or when it is not known.
        more: what was said of it.
    """

    at: datetime
    what: str
    who: str
    more: str


@dataclass(frozen=True, slots=True)
class Status:
    """How a message stands, or how it ended.

    Attributes:
        id: the message's id.
        state: ready, delayed, leased or dead; or how it left: settled, expired, cancelled, dropped, purged or moved.
        why: in one line: why it is not worked on now, or who works on it, or how it ended.
        tracked: whether it is remembered how it ends.
        attempts: how many deliveries there were, with the one that runs.
        result: what its consumer returned; None when it is not settled.
        position: of a ready one, how many messages go before it; None in other states.
        position_is_exact: False when at least so many do.
        starts_in: when a ready one is expected to be leased, in seconds from now; None when that is not known.
        leased_by: what the client calls itself that works on it.
        leased_at: since when, in UTC, when it is tracked.
        progress: how far the work has come, from 0 to 1; None when its consumer said nothing.
        note: what the consumer says of that.
        due_at: when its delay or its lease ends, in UTC.
        ended_at: when it left, in UTC.
        reason: why it is dead, or how its last attempt failed.
        error: what was said of that.
        history: what happened to it lately, when it is tracked.
    """

    id: str
    state: str
    why: str = ""
    tracked: bool = False
    attempts: int = 0
    result: bytes | None = None
    position: int | None = None
    position_is_exact: bool = True
    starts_in: float | None = None
    leased_by: str = ""
    leased_at: datetime | None = None
    progress: float | None = None
    note: str = ""
    due_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""
    error: str = ""
    history: tuple[Event, ...] = ()

    @classmethod
    def from_wire(cls, name: str, told: Mapping[str, Any], result: bytes) -> Status:
        """What TOLD says of the message `name`; what a newer broker adds is left out."""
        plain = ("state", "why", "tracked", "position", "position_is_exact", "leased_by", "note", "reason", "error")
        history = (Event(from_moment_ms(at_ms), *rest[:3]) for at_ms, *rest in told.get("history", ()))
        return cls(
            id=name,
            **{key: told[key] for key in plain if key in told},
            attempts=told.get("attempt", 0),
            result=result if told["state"] == "settled" else None,
            starts_in=_scaled(told.get("starts_in_ms"), 1_000),
            progress=_scaled(told.get("progress"), PERMILLE_MAX),
            leased_at=_moment(told.get("leased_at_ms")),
            due_at=_moment(told.get("due_ms")),
            ended_at=_moment(told.get("at_ms")),
            history=tuple(history),
        )

    @property
    def has_ended(self) -> bool:
        """Whether nobody will work on it any more: it has left, or is dead."""
        return self.state not in LIVE

    def take_result(self) -> bytes:
        """What its consumer returned.

        Raises:
            JobFailed: it is dead.
            JobExpired: its time to live passed.
            JobCancelled: it was cancelled.
            JobRemoved: it was dropped, purged or moved to another queue.
            RequestTimeout: it has not ended.
        """
        if not self.has_ended:
            raise errors.RequestTimeout(f"message {self.id} has not ended: {self.why}", outcome_unknown=False)
        if self.result is not None:
            return self.result
        raise no_result(self.id, self.state, self.reason, self.error, self.why)


def no_result(message: str, state: str, reason: str, error: str, why: str = "") -> errors.NoResult:
    """What is raised for a message that has ended without a result.

    Args:
        message: its id.
        state: how it ended.
        reason: why it is dead.
        error: what was said of that.
        why: all of that in one line; it is made when not given.
    """
    said = why or f"it is {': '.join(filter(None, (state, reason, error)))}"
    kind = errors.NO_RESULTS.get(state, errors.JobRemoved)
    return kind(f"message {message} has no result: {said}", state, reason, error)


def _scaled(value: int | None, by: int) -> float | None:
    return None if value is None else value / by


def _moment(at_ms: int | None) -> datetime | None:
    return from_moment_ms(at_ms) if at_ms else None
