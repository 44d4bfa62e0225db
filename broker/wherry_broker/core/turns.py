"""Whose turn it is: the keys of one priority share it by weighted round robin, so that no key waits for another's end.

It is deficit round robin (Shreedhar and Varghese, 1995) with the message as unit: a key whose turn it is may be
leased `QUANTUM` messages times its weight, then the next key comes. Messages without a key share one turn. A queue
that knows only one key cuts nothing and counts nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from wherry_broker.core.lane import Lane
from wherry_broker.core.memory import LANE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wherry_broker.core.batch import Span
    from wherry_broker.core.memory import Memory

QUANTUM = 32
"""How many messages a key of weight 1 is leased in its turn."""
UNLIMITED = 1 << 62


class Turns:
    """The ready spans of one priority, by key.

    Args:
        priority: which one.
        memory: where it is told how many keys there are.

    Attributes:
        weights: how much each key weighs; 1 for one that is not there.
        mark: the newest commit that a delivery has waited for; later ones do not overtake it.
    """

    __slots__ = ("_lanes", "_memory", "_ring", "mark", "priority", "weights")

    def __init__(self, priority: int, memory: Memory) -> None:
        self.priority = priority
        self._memory = memory
        self.weights: Mapping[str, int] = {}
        self.mark = 0
        self._lanes: dict[str, Lane] = {}
        self._ring: OrderedDict[str, Lane] = OrderedDict()

    def append(self, span: Span) -> None:
        """Adds a span whose offsets are after all that were ever appended."""
        self._lane(span.batch.envelope.key).append(span)

    def put_back(self, span: Span) -> None:
        """Adds a span at its place by offset."""
        self._lane(span.batch.envelope.key).put_back(span)

    def discarded(self, key: str) -> None:
        """Takes note that a span of a key is ready no longer, though nobody popped it."""
        lane = self._lanes[key]
        lane.discarded()
        if lane.is_empty:
            self._forget(key)

    def enter(self, key: str) -> None:
        """Lets a key take turns again that may have been skipped."""
        lane = self._lanes.get(key)
        if lane is not None and key not in self._ring:
            self._join(key, lane)

    def enter_all(self) -> None:
        """Lets all keys take turns again."""
        for key in self._lanes:
            self.enter(key)

    def clear(self) -> None:
        """Forgets all keys."""
        for key in list(self._lanes):
            self._forget(key)

    def head(self, allowed: Callable[[str], int] | None) -> tuple[Span, int] | None:
        """The span that is next, and how many messages of it may be leased; it stays.

        Args:
            allowed: how many messages of a key may be leased now; None when nothing limits any. A key of which none
                may is skipped until it enters again.
        """
        ring = self._ring
        while ring:
            key, lane = next(iter(ring.items()))
            span = lane.head()
            if span is None:
                self._forget(key)
                continue
            count = UNLIMITED if allowed is None else allowed(key)
            if count <= 0:
                del ring[key]
                continue
            return span, count if len(ring) == 1 else min(count, lane.deficit)
        return None

    def pop(self, count: int) -> Span:
        """Takes the span out that `head` has just returned, of which `count` messages are leased."""
        ring = self._ring
        key, lane = next(iter(ring.items()))
        span = lane.pop()
        if len(ring) > 1:
            lane.deficit -= count
            if lane.deficit <= 0:
                lane.deficit += self._quantum(key)
                ring.move_to_end(key)
        return span

    def _lane(self, key: str) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane()
            self._memory.take(LANE_BYTES)
        if key not in self._ring:
            self._join(key, lane)
        return lane

    def _join(self, key: str, lane: Lane) -> None:
        lane.deficit = self._quantum(key)
        self._ring[key] = lane

    def _forget(self, key: str) -> None:
        del self._lanes[key]
        self._ring.pop(key, None)
        self._memory.free(LANE_BYTES)

    def _quantum(self, key: str) -> int:
        return QUANTUM * self.weights.get(key, 1)
