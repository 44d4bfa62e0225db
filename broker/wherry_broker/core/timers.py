"""All that waits for a moment, in one heap: leases, delays, expiries.

An item carries `due_ms` (when) and `timer` (the number of its entry). Moving an item to a later moment is an
assignment: the entry finds out when it comes up, and goes back in. Disarming leaves the entry behind; once such
entries are more than half of the heap they are swept, so a lease that is always settled in time costs no more memory
than the leases that run.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

GARBAGE_MIN = 256


class Timed(Protocol):
    """What can wait."""

    due_ms: int
    timer: int


class Timers:
    """A heap of moments, in milliseconds of the wall clock."""

    __slots__ = ("_garbage", "_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timed]] = []
        self._number = 0
        self._garbage = 0

    def __len__(self) -> int:
        return len(self._heap) - self._garbage

    @property
    def entries(self) -> int:
        """How many entries there are, those included that nobody waits for any more."""
        return len(self._heap)

    def arm(self, item: Timed, due_ms: int) -> None:
        """Makes `item` due at `due_ms`, whether it waited before or not."""
        if item.timer:
            if due_ms >= item.due_ms:
                item.due_ms = due_ms
                return
            self.disarm(item)
        self._number += 1
        item.due_ms, item.timer = due_ms, self._number
        heappush(self._heap, (due_ms, self._number, item))

    def disarm(self, item: Timed) -> None:
        """Makes `item` wait no longer."""
        item.due_ms = 0
        if not item.timer:
            return
        item.timer = 0
        self._garbage += 1
        if self._garbage > GARBAGE_MIN and 2 * self._garbage > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].timer == entry[1]]
            heapify(self._heap)
            self._garbage = 0

    def may_be_due(self, now_ms: int) -> bool:
        """Whether `due` has to look: an item comes up no earlier than its entry."""
        return bool(self._heap) and self._heap[0][0] <= now_ms

    def next_ms(self) -> int | None:
        """When the next item is due; None when nothing waits."""
        heap = self._heap
        while heap:
            due_ms, number, item = heap[0]
            if item.timer != number:
                heappop(heap)
                self._garbage -= 1
            elif item.due_ms > due_ms:
                heappop(heap)
                heappush(heap, (item.due_ms, number, item))
            else:
                return due_ms
        return None

    def due(self, now_ms: int) -> Iterator[Timed]:
        """Takes out what is due at `now_ms`, the earliest first; an item's `due_ms` stays until it is armed anew."""
        while True:
            next_ms = self.next_ms()
            if next_ms is None or next_ms > now_ms:
                return
            item = heappop(self._heap)[2]
            item.timer = 0
            yield item
