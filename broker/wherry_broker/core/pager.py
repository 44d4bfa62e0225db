"""Paging: which batches have their bytes in memory, when all of them together are too many.

A batch that comes when memory is full, and is not next in its queue, leaves its bytes to the log. They are fetched
again, a stretch at a time, ahead of the consumers: the next stretch is asked for when half of the last one is leased.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from wherry_broker.core.batch import READY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry_broker.core.batch import Batch
    from wherry_broker.core.homes import Homes
    from wherry_broker.core.memory import Memory
    from wherry_broker.core.queue import Queue

AHEAD_BYTES = 8_388_608
"""How much of a queue is kept in memory ahead of its consumers, and fetched at a time."""
AHEAD_BATCHES = 8_192


class Pager:
    """Keeps the bytes in memory under a limit.

    Args:
        homes: counts them.
        memory: counts what else there is.
        resident_bytes_max: the limit.
    """

    def __init__(self, homes: Homes, memory: Memory, resident_bytes_max: int) -> None:
        self._homes = homes
        self._memory = memory
        self._resident_bytes_max = resident_bytes_max
        self._wanted: dict[Batch, None] = {}
        self._asked: dict[Batch, None] = {}
        self._stretches: dict[Queue, tuple[int, int]] = {}

    @property
    def is_full(self) -> bool:
        """Whether there is too much in memory."""
        return self._homes.resident_bytes > self._resident_bytes_max or self._memory.is_tight

    @property
    def ahead_bytes(self) -> int:
        """How much of a queue is kept in memory ahead of its consumers."""
        return AHEAD_BYTES // 16 if self._memory.is_tight else AHEAD_BYTES

    def stored(self, batch: Batch) -> None:
        """A batch is in the log now."""
        queue = batch.queue
        if self.is_full and queue.sizes[READY] > self.ahead_bytes:
            queue.residence.page_out(batch)

    def leased(self, batch: Batch) -> None:
        """All of a batch has been leased; it is needed again only if its deliveries fail."""
        if batch.block.place is not None and self.is_full:
            batch.queue.residence.page_out(batch)

    def look_ahead(self, queue: Queue, offset: int) -> None:
        """Consumers have come to `offset` in a queue: asks for the next stretch, when it is time."""
        begin, end = self._stretches.get(queue, (0, 0))
        if begin <= offset < (begin + end) // 2:
            return
        start = end if begin <= offset < end else offset
        size, last, ahead_bytes = 0, start, self.ahead_bytes
        for batch in islice(queue.batches_since(start), AHEAD_BATCHES):
            self.want(batch)
            size += batch.block.size
            last = batch.end
            if size >= ahead_bytes:
                break
        self._stretches[queue] = (offset, last)

    def want(self, batch: Batch) -> None:
        """Asks for the bytes of a batch, unless they are there or asked for already."""
        if batch.block.data is None and batch not in self._asked:
            self._wanted[batch] = None

    def take_wanted(self) -> list[Batch]:
        """The batches whose bytes are to be read now; each is told once."""
        if not self._wanted:
            return []
        wanted, self._wanted = self._wanted, {}
        self._asked.update(wanted)
        return list(wanted)

    def fetched(self, batches: Sequence[Batch], datas: Sequence[bytes | None]) -> None:
        """The bytes of batches that were asked for; None for one that the log has moved meanwhile."""
        for batch, data in zip(batches, datas, strict=True):
            self._asked.pop(batch, None)
            if data is not None:
                batch.queue.residence.page_in(batch, data)
            elif batch.spans:
                self.want(batch)

    def forget(self, queue: Queue) -> None:
        """A queue is gone."""
        self._stretches.pop(queue, None)
