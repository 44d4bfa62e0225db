"""Batches by offset. Publishes append; what is gone in the middle leaves a hole until holes are half of it all."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry_broker.core.batch import Batch, Span

HOLES_MIN = 64


class BatchIndex:
    """The batches of a queue in the order of their offsets. Every operation is O(log n), amortised."""

    __slots__ = ("_batches", "_firsts", "_holes", "_start")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._batches: list[Batch | None] = []
        self._holes = 0
        self._start = 0  # no batch stands before it: a queue is emptied from its front, and holes gather there

    def __len__(self) -> int:
        return len(self._batches) - self._holes

    def append(self, batch: Batch) -> None:
        """Adds a batch; its offsets are after all others."""
        assert not self._firsts or batch.first > self._firsts[-1], (batch.first, self._firsts[-1])
        self._firsts.append(batch.first)
        self._batches.append(batch)

    def insert(self, batch: Batch) -> None:
        """Adds a batch at its place; O(n), for the few that a log has moved."""
        position = bisect_left(self._firsts, batch.first)
        self._firsts.insert(position, batch.first)
        self._batches.insert(position, batch)
        self._start = min(self._start, position)

    def discard(self, batch: Batch) -> None:
        """Takes a batch out."""
        position = bisect_left(self._firsts, batch.first)
        assert self._batches[position] is batch, batch.first
        self._batches[position] = None
        self._holes += 1
        while self._start < len(self._batches) and self._batches[self._start] is None:
            self._start += 1
        if self._holes > HOLES_MIN and 2 * self._holes > len(self._batches):
            self._batches = [each for each in self._batches if each is not None]
            self._firsts = [each.first for each in self._batches if each is not None]
            self._holes = self._start = 0

    def since(self, offset: int) -> Iterator[Batch]:
        """The batches that hold `offset` or later ones, in order. The index must not change meanwhile."""
        batches = self._batches
        # By position, since a slice would copy all that follows for each settle of one message.
        for position in range(max(bisect_right(self._firsts, offset) - 1, self._start), len(batches)):
            batch = batches[position]
            if batch is not None and batch.end > offset:
                yield batch

    def spans(self, low: int, high: int | None) -> Iterator[Span]:
        """The spans that hold any of the offsets [low, high), in order. They must not change meanwhile."""
        for batch in self.since(low):
            if high is not None and batch.first >= high:
                return
            spans = batch.spans
            for position in range(batch.position(low), len(spans)):
                span = spans[position]
                if high is not None and span.low >= high:
                    return
                yield span

    def find(self, offset: int) -> Batch | None:
        """The batch that holds `offset`."""
        position = bisect_right(self._firsts, offset) - 1
        batch = self._batches[position] if position >= 0 else None
        return batch if batch is not None and offset < batch.end else None
