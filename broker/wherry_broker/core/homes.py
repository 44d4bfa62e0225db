"""Homes: which segments of the log still hold something alive, so that the log can forget the others.

A batch is at home in the segment that holds its block. Segments are forgotten whole and from the oldest on: that is
what makes it safe to forget the records of removals with them, since they speak of batches in the same or older ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry_broker.core.batch import Batch

SETTLE_BYTES = 128
"""What a log needs at most to settle one message, in an entry of its own."""
OUTCOME_BYTES = 2_688
"""What it needs at most to tell how a tracked message ended, but for its result, and to forget that again."""
BATCH_BYTES = 128
"""What a log needs at most to write a batch again in an entry of its own, but for its block and its texts."""
SPAN_BYTES = 96
"""What each span of it adds to that at most, but for the text of a failure."""
CHARACTER_BYTES = 4


class Homes:
    """Live batches and their bytes, by segment.

    Attributes:
        current: the segment that new records go into; 0 when no log keeps them.
        oldest: the oldest segment that is not forgotten.
        live_bytes: how long a log of nothing but what is alive would be, at most.
        resident_bytes: the bytes of live batches that are in memory as well as in the log; `residence` counts them.
        owed_bytes: what the log will need to settle all that is alive in it, one message at a time.
        room_bytes: how many bytes the log can take before publishes are refused; None when it sets no limit.
        reserve_bytes: how many more it can take after that.
    """

    def __init__(self) -> None:
        self.current = 0
        self.oldest = 0
        self.live_bytes = 0
        self.resident_bytes = 0
        self.owed_bytes = 0
        self.room_bytes: int | None = None
        self.reserve_bytes = 0
        self._batches: dict[int, int] = {}

    @property
    def is_short(self) -> bool:
        """Whether the log has little room left, so that it should be asked before every publish."""
        return self.room_bytes is not None and self.room_bytes < self.reserve_bytes

    @property
    def moving_bytes(self) -> int | None:
        """How much may be written again now, to forget a segment for it; None for any amount."""
        return None if self.room_bytes is None else self.room_bytes + self.reserve_bytes // 2

    def enter(self, batch: Batch, segment: int) -> None:
        """A batch is stored in a segment; 0 for none."""
        batch.home = segment
        if batch.home:
            self._batches[batch.home] = self._batches.get(batch.home, 0) + 1
            batch.log_bytes = _log_bytes(batch)
            self.live_bytes += batch.log_bytes
            self.owed_bytes += _owed_bytes(batch)

    def leave(self, batch: Batch) -> None:
        """A batch is gone, or is about to be stored elsewhere."""
        if batch.home:
            self._batches[batch.home] -= 1
            self.live_bytes -= batch.log_bytes
            self.owed_bytes -= _owed_bytes(batch)
            batch.home = 0

    def live(self, segment: int) -> int:
        """How many live batches a segment holds."""
        return self._batches.get(segment, 0)

    def advance(self) -> int:
        """Forgets the leading segments that hold nothing alive; returns the oldest one that is left."""
        while self.oldest < self.current and not self.live(self.oldest):
            self._batches.pop(self.oldest, None)
            self.oldest += 1
        return self.oldest


def _owed_bytes(batch: Batch) -> int:
    """What a log will need to settle the messages of a batch, one at a time."""
    return (SETTLE_BYTES + OUTCOME_BYTES * batch.envelope.tracked) * batch.block.count


def _log_bytes(batch: Batch) -> int:
    """How much of a log a batch takes at most when it is written again now, with an entry of its own.

    Were it less than it takes, cleaning would never see a clean log, and write all of it again for ever.
    """
    block = batch.block
    size = block.size + len(block.lengths) + BATCH_BYTES + CHARACTER_BYTES * len(batch.envelope.key)
    for span in batch.spans:
        size += SPAN_BYTES
        if span.failure is not None:
            size += CHARACTER_BYTES * len(span.failure.error)
    return size
