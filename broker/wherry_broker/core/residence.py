"""Residence: where the bytes of a queue's batches are, in memory or only in the log.

Every way in which a batch gets bytes, or loses them, goes through here, so that what is counted as being in memory,
and as alive in each segment of the log, is always what is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry_broker.core.memory import batch_bytes

if TYPE_CHECKING:
    from wherry_broker.core.batch import Batch
    from wherry_broker.core.block import Block
    from wherry_broker.core.homes import Homes
    from wherry_broker.core.memory import Memory

COMPACT_BYTES_MIN = 4_096
"""A block shorter than this is kept whole as long as any message of it is left."""


class Residence:
    """The bytes of one queue's batches.

    Args:
        homes: where it is told which segments of the log hold its batches.
        memory: where it is told what they take in memory.
        is_logged: whether a log keeps them.

    Attributes:
        absent: how many batches have their bytes in the log only.
    """

    def __init__(self, homes: Homes, memory: Memory, *, is_logged: bool) -> None:
        self.absent = 0
        self._homes = homes
        self._memory = memory
        self._is_logged = is_logged

    def enter(self, batch: Batch) -> None:
        """A batch has come, into the segment that is being written."""
        self.absent += batch.block.data is None
        if self._is_logged:
            self._homes.enter(batch, self._homes.current)
        self._memory.take(batch_bytes(batch) + self._hold(batch))

    def leave(self, batch: Batch) -> None:
        """A batch has gone."""
        self._memory.free(batch_bytes(batch) + self._let_go(batch))
        self._homes.leave(batch)
        self.absent -= batch.block.data is None

    def replace(self, batch: Batch, block: Block) -> None:
        """A batch was written again, as this block: it lies in the current segment now."""
        before = batch_bytes(batch) + self._let_go(batch)
        self.absent += (block.data is None) - (batch.block.data is None)
        self._homes.leave(batch)
        batch.block = block
        self._homes.enter(batch, self._homes.current)
        self._memory.shift(batch_bytes(batch) + self._hold(batch) - before)

    def page_out(self, batch: Batch) -> None:
        """Leaves the bytes of a batch to the log, which has them."""
        assert batch.block.place is not None
        if batch.block.data is not None:
            self._memory.shift(-self._let_go(batch))
            batch.block.data = None
            self.absent += 1

    def page_in(self, batch: Batch, data: bytes) -> None:
        """Puts the bytes of a batch back into memory."""
        if batch.block.data is None and batch.spans:
            batch.block.data, batch.block.shared = data, None
            self.absent -= 1
            self._memory.shift(self._hold(batch))
            self.compact(batch)

    def compact(self, batch: Batch) -> None:
        """Lets go of the bytes of messages that are gone, once they are half of what is in memory of the batch.

        So the memory that a queue takes is at most about twice the bytes that it holds, whatever is settled first.
        Bytes that other queues need too stay: a copy of some of them would only come on top.
        """
        block = batch.block
        if block.data is None or block.size < COMPACT_BYTES_MIN or 2 * batch.held_bytes > block.size:
            return
        if block.shared is not None and block.shared.holders > 1:
            return
        home, before = batch.home, self._let_go(batch)
        self._homes.leave(batch)
        batch.block = block.keeping((span.low - batch.first, span.high - batch.first) for span in batch.spans)
        self._homes.enter(batch, home)
        self._memory.free(before - self._hold(batch))

    def _hold(self, batch: Batch) -> int:
        """Counts the bytes of a batch as being in memory; returns by how many there are more, 0 if a twin has them."""
        block = batch.block
        if block.data is None:
            return 0
        if block.shared is not None:
            block.shared.holders += 1
            if block.shared.holders > 1:
                return 0
        if batch.home:
            self._homes.resident_bytes += block.size
        return block.size

    def _let_go(self, batch: Batch) -> int:
        """Counts the bytes of a batch as being in memory no longer; returns by how many there are fewer."""
        block = batch.block
        if block.data is None:
            return 0
        if block.shared is not None:
            block.shared.holders -= 1
            if block.shared.holders:
                return 0
        if batch.home:
            self._homes.resident_bytes -= block.size
        return block.size
