"""Effects, held under the commit that they depend on. Memory may run ahead; the world may not.

There is at most one commit in flight, so an effect depends on something committed already, on the commit in flight,
or on the one that is being gathered: three lists are all it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry_broker.core.effects import Effect


class Outbox:
    """What waits to be said.

    Attributes:
        gathering: the mark of the commit that new records go into. Marks count up from 1.
        committed: the mark of the newest commit that is durable.
    """

    def __init__(self) -> None:
        self.gathering = 1
        self.committed = 0
        self._free: list[Effect] = []
        self._in_flight: list[Effect] = []
        self._gathered: list[Effect] = []

    def hold(self, effect: Effect, mark: int) -> None:
        """Holds an effect until the commit `mark` is durable."""
        if mark <= self.committed:
            self._free.append(effect)
        elif mark < self.gathering:
            self._in_flight.append(effect)
        else:
            self._gathered.append(effect)

    def start_commit(self) -> int:
        """Closes the commit that was gathered; returns its mark."""
        assert self.committed == self.gathering - 1, "a commit is in flight"
        self._in_flight, self._gathered = self._gathered, []
        self.gathering += 1
        return self.gathering - 1

    def finish_commit(self, mark: int) -> None:
        """Frees what waited for the commit `mark`, which is durable now."""
        assert mark == self.gathering - 1 == self.committed + 1, (mark, self.gathering, self.committed)
        self.committed = mark
        self._free += self._in_flight
        self._in_flight = []

    def take(self) -> list[Effect]:
        """What may be said now, in order."""
        free, self._free = self._free, []
        return free
