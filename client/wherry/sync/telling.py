"""What a conversation tells, handed to those whom it concerns. All of it runs under the lock of the carrier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from wherry.conversation import (
    Answered,
    Cancelled,
    Confirmed,
    ConsumerStopped,
    ConsumerSuspended,
    Delivered,
    Ended,
    Event,
    Failed,
    Interrupted,
    LeasesLost,
    Settled,
    Welcomed,
)
from wherry.model.options import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wherry import errors
    from wherry.delivery import Delivery
    from wherry.sync.carrier import Carrier


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

    def suspended(self) -> None:
        """No more will come before there is another connection: the broker shuts down."""

    def leases_lost(self, parts: Sequence[tuple[Delivery, int, int]]) -> None:
        """Messages are held no longer: (delivery, low, high) of each range."""

    def look(self, now: float) -> None:
        """Time has passed: looks at the leases."""

    def abandon(self) -> None:
        """Stops without waiting for the broker."""

    def stop(self) -> None:
        """Takes no more, and hands back what nobody has taken."""

    def drain(self, until: float) -> None:
        """Waits until nothing is held any more, or the time is over, and hands back the rest unspent."""


def tell(carrier: Carrier, events: Iterable[Event]) -> None:
    """Hands on what has happened, in order."""
    for event in events:
        _TELL[type(event)](carrier, event)


def _welcomed(carrier: Carrier, event: Welcomed) -> None:
    carrier.turns.resolve(carrier.welcomed)
    carrier.set_status("connected")
    if event.welcome.producer_ms:  # what is older must not be sent again
        carrier.timeout = min(carrier.timeout, event.welcome.producer_ms / 2000)


def _confirmed(carrier: Carrier, event: Confirmed) -> None:
    _, queue, offset, durability, duplicate = event
    for waiter in event.waiters:
        carrier.turns.resolve(waiter, Receipt(queue, offset, durability, duplicate))
        offset += 1


def _settled(_carrier: Carrier, event: Settled) -> None:
    for outcome, error in event.outcomes:
        outcome.resolve(error)


def _answered(carrier: Carrier, event: Answered) -> None:
    carrier.turns.resolve(event.waiter, event.reply)


def _failed(carrier: Carrier, event: Failed) -> None:
    for waiter in event.waiters:
        carrier.turns.resolve(waiter, error=event.error())


def _delivered(carrier: Carrier, event: Delivered) -> None:
    intake = carrier.intakes.get(event.consumer)
    if intake is not None:
        intake.take(event)


def _cancelled(carrier: Carrier, event: Cancelled) -> None:
    intake = carrier.intakes.get(event.consumer)
    if intake is not None:
        intake.cancelled(event.deliveries)


def _stopped(carrier: Carrier, event: ConsumerStopped) -> None:
    intake = carrier.intakes.get(event.consumer)
    if intake is not None:
        intake.stopped(event.error)


def _suspended(carrier: Carrier, event: ConsumerSuspended) -> None:
    intake = carrier.intakes.get(event.consumer)
    if intake is not None:
        intake.suspended()


def _leases_lost(carrier: Carrier, event: LeasesLost) -> None:
    intake = carrier.intakes.get(event.consumer)
    if intake is not None:
        intake.leases_lost(event.parts)


def _interrupted(carrier: Carrier, event: Interrupted) -> None:
    carrier.interrupted(event.error)


def _ended(carrier: Carrier, event: Ended) -> None:
    carrier.turns.resolve(carrier.welcomed, error=event.error)
    carrier.set_status("closed")
    intakes, carrier.intakes = carrier.intakes, {}
    for intake in intakes.values():
        intake.stopped(event.error)
    carrier.turns.resolve_all(carrier.idle)
    carrier.end_stream()


_TELL: dict[type, Callable[[Carrier, Any], None]] = {
    Welcomed: _welcomed,
    Confirmed: _confirmed,
    Settled: _settled,
    Answered: _answered,
    Failed: _failed,
    Delivered: _delivered,
    Cancelled: _cancelled,
    ConsumerStopped: _stopped,
    ConsumerSuspended: _suspended,
    LeasesLost: _leases_lost,
    Interrupted: _interrupted,
    Ended: _ended,
}
