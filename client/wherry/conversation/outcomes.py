"""What becomes of requests: errors out of refusals, and what is told to those who wait. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry import errors
from wherry.conversation.consuming import Attach
from wherry.conversation.events import Confirmed, Event, Failed, Settled
from wherry.conversation.pending import Awaited, Other, Publish, Settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry.model import commands, replies

Pending = Publish | Settle | Other | Awaited | Attach
"""A request that has no answer yet."""


def refusal(error: replies.Error) -> errors.WherryError:
    """The exception that an ERROR stands for."""
    kind = errors.REFUSALS.get(error.code, errors.Internal)
    if kind is errors.Busy:
        retry_after = error.retry_after_ms / 1000
        return errors.Busy(
            error.text, retry_after=retry_after, queue=error.queue, bound=error.bound, accepted=error.accepted
        )
    return kind(error.text)


def refused_in_part(publish: Publish, error: replies.Error) -> list[Event]:
    """Joined publishes were refused: what became of each.

    TOO_LARGE is said of the first message and looked at no other; the others would have been heard without it, so
    they are told to try again at once (`retry_after` is 0, which no full queue says).
    """
    accepted, waiters = error.accepted, publish.waiters
    events: list[Event] = []
    if accepted:
        events.append(Confirmed(waiters[:accepted], publish.queue, error.first, error.durability, duplicate=False))
    error = error._replace(accepted=0)  # of each message's own request, nothing was stored
    if error.code != "too_large":
        return [*events, Failed(waiters[accepted:], lambda: refusal(error))]
    again = error._replace(code="busy", retry_after_ms=0)
    return [Failed(waiters[:1], lambda: refusal(error)), Failed(waiters[1:], lambda: refusal(again))]


def failed(pending: Pending, error: Callable[[], errors.WherryError]) -> list[Event]:
    """A request has failed: each that waits for it is told."""
    if isinstance(pending, Other | Awaited | Attach):
        return [Failed([pending.waiter], error)] if pending.waiter is not None else []
    if isinstance(pending, Settle):
        return [Settled([(waiter, error()) for waiter, _, _ in pending.waiters])]
    return [Failed(pending.waiters, error)]


def stale_error(
    settle: Settle, stale: Sequence[tuple[int, int]], first: int, count: int
) -> errors.StaleDelivery | None:
    """The error of the messages [first, first + count) when some of them are stale."""
    parts = [(max(low, first), min(low + n, first + count)) for low, n in stale]
    ranges = tuple((low, high - low) for low, high in parts if low < high)
    if not ranges:
        return None
    text = f"{settle.queue}/{ranges[0][0]} is not leased under this delivery, or no longer"
    return errors.StaleDelivery(text, ranges=ranges)


def unknown_error(
    settle: Settle, stale: Sequence[tuple[int, int]], first: int, count: int
) -> errors.Disconnected | None:
    """The same when the settle was sent before, on a connection that was lost, and may have been done then."""
    error = stale_error(settle, stale, first, count)
    if error is None:
        return None
    return errors.Disconnected(f"the connection was lost before the answer, which nobody knows any more: {error}")


def timed_out() -> errors.WherryError:
    """The error of a request that was not answered in time."""
    return errors.RequestTimeout("the broker did not answer in time; the outcome is unknown", outcome_unknown=True)


def again(error: errors.WherryError) -> errors.WherryError:
    """Another exception of the same kind and text, so that each waiter raises one of its own."""
    again = type(error)(*error.args)
    again.__cause__ = error.__cause__
    return again


def goodbye_error(goodbye: commands.Goodbye) -> errors.WherryError:
    """The error that a GOODBYE stands for."""
    if goodbye.code in {"unauthenticated", "forbidden"}:
        return errors.REFUSALS[goodbye.code](goodbye.text)
    if goodbye.code in {"bad_frame", "too_large"}:
        return errors.ProtocolError(f"the broker closed the connection: {goodbye.text}")
    return errors.Disconnected(f"the broker closed the connection: {goodbye.text or 'it said goodbye'}")
