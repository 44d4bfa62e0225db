"""The ready spans of one key and priority, by offset: which is next.

New spans come in the order of their offsets and wait in a deque. What comes back (a lease that ended, a delay that
passed, the rest of a split) has its old, smaller offset and waits in a heap beside it. The next one is the smaller of
the two heads, so a returned message takes its old place, and plain first-in-first-out work pays for no heap.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush

from wherry_broker.core.batch import READY, Span

GARBAGE_MIN = 64


class Lane:
    """Ready spans in the order of their offsets.

    Attributes:
        deficit: how many more messages may be leased in this turn; see `turns`.
    """

    __slots__ = ("_fresh", "_garbage", "_returned", "deficit")

    def __init__(self) -> None:
        self.deficit = 0
        self._fresh: deque[Span] = deque()
        self._returned: list[tuple[int, Span]] = []
        self._garbage = 0

    @property
    def is_empty(self) -> bool:
        """Whether no span in here is ready."""
        return self._garbage == len(self._fresh) + len(self._returned)

    def append(self, span: Span) -> None:
        """Adds a span whose offsets are after all that were ever appended."""
        self._fresh.append(span)

    def put_back(self, span: Span) -> None:
        """Adds a span at its place by offset."""
        heappush(self._returned, (span.low, span))

    def head(self) -> Span | None:
        """The span that is next; it stays."""
        fresh, returned = self._fresh, self._returned
        while fresh and fresh[0].state != READY:
            fresh.popleft()
            self._garbage -= 1
        while returned and returned[0][1].state != READY:
            heappop(returned)
            self._garbage -= 1
        if returned and (not fresh or returned[0][0] < fresh[0].low):
            return returned[0][1]
        return fresh[0] if fresh else None

    def pop(self) -> Span:
        """Takes the span out that `head` has just returned."""
        if self._returned and (not self._fresh or self._returned[0][0] < self._fresh[0].low):
            return heappop(self._returned)[1]
        return self._fresh.popleft()

    def discarded(self) -> None:
        """Takes note that a span in here is ready no longer, though nobody popped it."""
        self._garbage += 1
        if self._garbage > GARBAGE_MIN and 2 * self._garbage > len(self._fresh) + len(self._returned):
            self._fresh = deque(span for span in self._fresh if span.state == READY)
            self._returned = [entry for entry in self._returned if entry[1].state == READY]
            heapify(self._returned)
            self._garbage = 0
