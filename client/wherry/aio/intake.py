"""What a link tells its consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry import errors
    from wherry.conversation import Delivered
    from wherry.delivery import Delivery


class Intake(Protocol):
    """Where a consumer's messages go."""

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

    def look(self, now: float) -> float | None:
        """Time has passed: looks at the leases. Returns when to look again; None when none runs."""

    async def stop(self) -> None:
        """Takes no more, and hands back what nobody has taken."""

    async def drain(self, grace: float) -> None:
        """Waits until nothing is held any more, `grace` seconds at most, and hands back the rest unspent."""
