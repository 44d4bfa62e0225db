"""What a conversation tells, handed to those whom it concerns. All of it runs under the lock of the link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from wherry.conversation import (
    Answered,
    Cancelled,
    Confirmed,
    ConsumerStopped,
    Delivered,
    Ended,
    Event,
    Failed,
    Settled,
    Welcomed,
)
from wherry.model.options import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wherry import errors
    from wherry.sync.link import Link


class Intake(Protocol):
    """Where a consumer's messages go. All of it but `stop` and `drain` is called under the lock.

    Attributes:
        look_at: when to look at its leases.
    """

    look_at: float

    def take(self, delivered: Delivered) -> None:
        """Messages came."""

    def cancelled(self, ranges: Sequence[tuple[int, int, int]]) -> None:
        """Messages were cancelled: (first offset, count, attempt) of each range."""

    def stopped(self, error: errors.WherryError) -> None:
        """No more will come."""

    def look(self, now: float) -> None:
        """Time has passed: looks at the leases."""

    def abandon(self) -> None:
        """Stops without waiting for the broker."""

    def stop(self) -> None:
        """Takes no more, and hands back what nobody has taken."""

    def drain(self, until: float) -> None:
        """Waits until nothing is held any more, or the time is over, and hands back the rest unspent."""


def tell(link: Link, events: Iterable[Event]) -> None:
    """Hands on what has happened, in order."""
    for event in events:
        _TELL[type(event)](link, event)


def _welcomed(link: Link, _event: Welcomed) -> None:
    link.turns.resolve(link.welcomed)


def _confirmed(link: Link, event: Confirmed) -> None:
    _, queue, offset, durability, duplicate = event
    for waiter in event.waiters:
        link.turns.resolve(waiter, Receipt(queue, offset, durability, duplicate))
        offset += 1


def _settled(_link: Link, event: Settled) -> None:
    for outcome, error in event.outcomes:
        outcome.resolve(error)


def _answered(link: Link, event: Answered) -> None:
    link.turns.resolve(event.waiter, event.reply)


def _failed(link: Link, event: Failed) -> None:
    for waiter in event.waiters:
        link.turns.resolve(waiter, error=event.error())


def _delivered(link: Link, event: Delivered) -> None:
    intake = link.intakes.get(event.consumer)
    if intake is not None:
        intake.take(event)


def _cancelled(link: Link, event: Cancelled) -> None:
    intake = link.intakes.get(event.consumer)
    if intake is not None:
        intake.cancelled(event.deliveries)


def _stopped(link: Link, event: ConsumerStopped) -> None:
    intake = link.intakes.get(event.consumer)
    if intake is not None:
        intake.stopped(event.error)


def _ended(link: Link, event: Ended) -> None:
    link.turns.resolve(link.welcomed, error=event.error)
    intakes, link.intakes = link.intakes, {}
    for intake in intakes.values():
        intake.stopped(event.error)
    link.turns.resolve_all(link.idle)
    link.end_stream()


_TELL: dict[type, Callable[[Link, Any], None]] = {
    Welcomed: _welcomed,
    Confirmed: _confirmed,
    Settled: _settled,
    Answered: _answered,
    Failed: _failed,
    Delivered: _delivered,
    Cancelled: _cancelled,
    ConsumerStopped: _stopped,
    Ended: _ended,
}
