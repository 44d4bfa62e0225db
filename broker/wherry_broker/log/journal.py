"""The journal: entries into segments, in order. Every call does its work before it returns.

A segment is made whole before it gets its name: head and preamble are written and synced under a temporary name, then
renamed, then the directory is synced. Before that, the segment before it is synced; so only the last segment can have
an unfinished tail. Segments go from the oldest on: first an entry that says so is synced, then files are removed.

Space is taken before it is needed (decision 0007): the segment owns what comes after its end, and the file of the next
segment is there beforehand and owns its space too. So a settle, and a new segment, need nothing of a disk that others
fill.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from crc32c import crc32c

from wherry_broker.log.allocate import SHORT
from wherry_broker.log.codec import SegmentHead, encode_entry, encode_segment_head

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry_broker.core.block import Block
    from wherry_broker.core.records import Preamble, Record
    from wherry_broker.log.store import File, Files

AHEAD_BYTES = 8_388_608
"""How much more than the reserve is owned, so that not every commit asks for more; as much as the reserve, at most."""
HEAD_BYTES = 4_096
"""What a segment needs beside its preamble until more is taken."""

Place = tuple[int, int]
"""(segment, offset in bytes): where a block lies."""


def segment_name(segment: int) -> str:
    """The name of a segment's file."""
    return f"{segment:016d}.log"


def segment_number(name: str) -> int | None:
    """The number of the segment of that file name; None when it is no segment's."""
    stem, dot, suffix = name.partition(".")
    return int(stem) if dot and suffix == "log" and len(stem) == 16 and stem.isdigit() else None  # noqa: PLR2004


def new_mark() -> int:
    """A random number that is not 0, for what nobody should be able to guess or to make twice."""
    return 1 + secrets.randbelow((1 << 64) - 1)


class Journal:
    """The writing end of a log.

    Args:
        store: where the segments are.
        segment: the number of the segment to begin with; it does not exist yet.
        entry: the number of the first entry to write.
        oldest: the number of the oldest segment that still matters.
        before: the head of the segment before the first one to write; None when there is none, and a log begins.
        draw: returns a random number that is not 0.
        reserve_bytes: how much space is taken beforehand: so much for this segment, and so much for the next one.

    Attributes:
        segment: the number of the segment that is being written.
        mark: the mark of that segment.
        entry: the number of the next entry.
        synced: the number of the newest entry that is known to be on the disk.
        oldest: the number of the oldest segment that still matters.
        opening_bytes: how long that segment was when it got its name: its head and its preamble.
        written_bytes: how many bytes were written in all, for the write amplification.
        can_roll: whether the next segment has the space that it needs, whatever else is written to the disk.
    """

    def __init__(
        self,
        store: Files,
        segment: int,
        entry: int,
        oldest: int,
        before: SegmentHead | None = None,
        draw: Callable[[], int] = new_mark,
        *,
        reserve_bytes: int = 0,
    ) -> None:
        self._store = store
        self._draw = draw
        self._reserve_bytes = reserve_bytes
        self._file: File | None = None
        self._owned_end = 0
        self._next: File | None = None
        self.can_roll = False
        self.segment = segment - 1
        self.mark = before.mark if before is not None else 0
        self._log = before.log if before is not None else draw()
        self.entry = entry
        self.synced = entry - 1
        self.oldest = oldest
        self.opening_bytes = 0
        self.written_bytes = 0
        self._pins = 0
        self._forgotten: list[int] = []

    @property
    def size(self) -> int:
        """The length of the segment that is being written, in bytes."""
        return self._file.size if self._file is not None else 0

    @property
    def is_synced(self) -> bool:
        """Whether all entries are on the disk."""
        return self.synced == self.entry - 1

    @property
    def owned_bytes(self) -> int:
        """How many bytes the segment can take for certain, whatever else is written to the disk."""
        return max(0, self._owned_end - self.size)

    @property
    def ahead_bytes(self) -> int:
        """How much more than the reserve, and what is owed, is owned when the disk is not full."""
        return min(AHEAD_BYTES, self._reserve_bytes)

    def take_space(self, owed_bytes: int, *, for_next: bool) -> bool:
        """Takes space for what is to come, as much as there is.

        Args:
            owed_bytes: what the settles of all that is stored will need.
            for_next: whether the next segment is due, and so should be able to take all these settles.

        Returns:
            Whether there was enough for this segment.
        """
        assert self._file is not None
        least = self._reserve_bytes + owed_bytes
        if self.owned_bytes < least + self.ahead_bytes // 2:
            self._owned_end = self._file.size + self._file.own(least + self.ahead_bytes)
        needed = owed_bytes + 2 * self.opening_bytes + HEAD_BYTES
        next_bytes = self._own_next(max(self._reserve_bytes, needed if for_next else 0))
        self.can_roll = next_bytes >= needed
        return self.owned_bytes >= least

    def _own_next(self, size: int) -> int:
        """Makes the file of the next segment, and takes space for it; returns how much it has."""
        try:
            if self._next is None:
                self._next = self._store.create(segment_name(self.segment + 1) + ".tmp")
        except OSError as error:
            if error.errno not in SHORT:
                raise
            return 0  # no more files: this segment grows on, and nothing is lost by that
        return self._next.own(size)

    def append(self, new: Sequence[Record]) -> list[tuple[Block, Place]]:
        """Writes one entry.

        Returns:
            The blocks in it, with where each lies now.
        """
        assert self._file is not None
        return self._write(self._file, new)

    def sync(self) -> None:
        """Returns once all entries are on the disk."""
        if self._file is not None and not self.is_synced:
            self._file.sync()
            self.synced = self.entry - 1

    def roll(self, preamble: Preamble) -> None:
        """Ends the segment and begins the next one, which opens with the preamble."""
        self.sync()
        old = self._file
        head = SegmentHead(self.segment + 1, self._log, self._draw(), self.mark)
        self.segment, self.mark = head.segment, head.mark
        name = segment_name(self.segment)
        self._file, self._next = self._next or self._store.create(name + ".tmp"), None
        encoded = encode_segment_head(head)
        self._file.append([encoded])
        self.written_bytes += len(encoded)
        self._write(self._file, (preamble,))
        self._owned_end, self.can_roll = self._file.size + self._file.own(0), False
        self._file.sync()
        if old is not None:
            old.close()  # gives its space back before the new name needs some
        self._store.rename(name + ".tmp", name)
        self._store.sync_names()
        self.opening_bytes = self._file.size
        self.synced = self.entry - 1

    def forget(self, oldest: int) -> None:
        """Forgets the segments before `oldest`: nothing in them is alive."""
        if oldest <= self.oldest:
            return
        old, self.oldest = self.oldest, oldest
        # First it is on the disk that they do not matter, then they go: those that a power cut brings back are known.
        self.append(())
        self.sync()
        self._forgotten += range(old, oldest)
        self._sweep()

    def pin(self) -> None:
        """Keeps the files of segments that are forgotten from now on, until `unpin`."""
        self._pins += 1

    def unpin(self) -> None:
        """Lets go of what `pin` has kept."""
        self._pins -= 1
        self._sweep()

    def _sweep(self) -> None:
        if self._pins or not self._forgotten:
            return
        for segment in self._forgotten:
            self._store.remove(segment_name(segment))
        self._forgotten = []
        self._store.sync_names()

    def close(self) -> None:
        """Syncs and closes the segment, and gives all space back that is not used."""
        self.sync()
        if self._next is not None:
            self._next.close()
            self._store.remove(segment_name(self.segment + 1) + ".tmp")
        if self._file is not None:
            self._file.close()
        self._file = self._next = None

    def _write(self, file: File, new: Sequence[Record]) -> list[tuple[Block, Place]]:
        start = file.size
        encoded = encode_entry(self.mark, self.entry, self.synced, self.oldest, new, self._load)
        file.append(encoded.pieces)
        self.entry += 1
        self.written_bytes += encoded.size
        return [(block, (self.segment, start + offset)) for block, offset in encoded.blocks]

    def _load(self, block: Block) -> bytes:
        return read_block(self._store, block)


def read_block(store: Files, block: Block) -> bytes:
    """The bytes of a block that is not in memory, checked.

    Raises:
        OSError: they cannot be read, or are not what was written.
    """
    assert block.place is not None
    segment, offset = block.place
    data = store.read(segment_name(segment), offset, block.size)
    if len(data) != block.size or crc32c(data) != block.checksum:
        raise OSError(f"the block at offset {offset} of {segment_name(segment)} is damaged")
    return data
