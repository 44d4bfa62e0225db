"""Which broker to try next, and when: addresses in turn, with an exponential back-off and full jitter."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from wherry.conversation.backoff import reconnect_pause_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.address import Address


class Itinerary:
    """The addresses of brokers, and the moment of the next attempt to connect.

    Times are seconds of the link's clock.

    Args:
        addresses: where brokers are; each round begins where the last connection was.

    Attributes:
        next_at: when to make the next attempt.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.next_at = 0.0
        self._addresses = list(addresses)
        self._tries = 0
        self._connected_at = 0.0

    def __len__(self) -> int:
        return len(self._addresses)

    @property
    def address(self) -> Address:
        """The one to try."""
        return self._addresses[0]

    def connected(self, now: float) -> None:
        """The attempt has succeeded: the broker has accepted the connection."""
        self._connected_at = now

    def failed(self, now: float) -> None:
        """The attempt has failed: the next one is for the next address."""
        self._tries += 1
        self._addresses.append(self._addresses.pop(0))
        self._plan(now)

    def lost(self, now: float) -> None:
        """A connection was lost."""
        if now - self._connected_at > reconnect_pause_s(self._tries, 1.0):
            self._tries = 0  # a broker that welcomes and goes at once is not asked more often for that
        else:
            self._tries += 1
        self._plan(now)

    def _plan(self, now: float) -> None:
        self.next_at = now + reconnect_pause_s(self._tries, random.random())  # noqa: S311 (jitter, not a secret)
