"""Reading a damaged log: everything that is whole, and an account of what is not. Changes nothing.

The start of a broker stops at the first damage (`recovery`); this goes on behind it, for those who look at a log or
repair it. What it gives is never altered or invented: every record comes out of an entry whose head has its checksum.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from wherry_broker.log.codec import (
    SEGMENT_HEAD_BYTES,
    Damaged,
    Entry,
    SegmentHead,
    UnknownVersion,
    mark_bytes,
    read_entry,
    read_segment_head,
)
from wherry_broker.log.journal import segment_name, segment_number
from wherry_broker.log.recovery import NO_PREAMBLE, CorruptLog, ForeignLog, Torn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry_broker.log.store import Store


class Damage(NamedTuple):
    """A place that cannot be read.

    Attributes:
        name: the file.
        offset: where in it, in bytes.
        size: how many bytes cannot be read; 0 for a file, or entries, that are not there.
        reason: what is wrong.
        entries: how many entries are known to be missing between the one before and the one after; None at the
            beginning and the end of the log, where there is no such one.
    """

    name: str
    offset: int
    size: int
    reason: str
    entries: int | None

    def __str__(self) -> str:
        return f"{self.name} at offset {self.offset}: {self.reason}"


class Salvaged(NamedTuple):
    """An entry whose records can be read.

    Attributes:
        entry: the entry.
        spoiled: the positions of the records in it whose blocks are damaged.
    """

    entry: Entry
    spoiled: list[int]


class Part(NamedTuple):
    """A file of the log.

    Attributes:
        number: its number.
        head: its head; if that is damaged, as much of it as could be found out.
        damage: what is wrong with the head, or with the whole file; None when nothing is.
        is_ours: whether its entries belong to the log.
    """

    number: int
    head: SegmentHead
    damage: Damage | None
    is_ours: bool


Item = Salvaged | Damage | Torn


class Salvage:
    """One reading of a log.

    Args:
        store: where the log is.

    Attributes:
        parts: its files, in order.
        oldest: the number of the oldest segment that matters; 0 when there is none.

    Raises:
        ForeignLog: a file is of a version that this program does not read.
        CorruptLog: it cannot be told which of the files are of one log.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        names = store.names()
        numbers = sorted(number for name in names if (number := segment_number(name)) is not None)
        self.parts = self._of_one_log([self._part(number) for number in numbers])
        self.oldest = self._find_oldest()

    def _part(self, number: int) -> Part:
        name = segment_name(number)
        data = self._store.read(name, 0, SEGMENT_HEAD_BYTES + 8)
        try:
            return Part(number, read_segment_head(data, number), None, is_ours=True)
        except UnknownVersion as error:
            raise ForeignLog(name, 0, str(error)) from error
        except Damaged as error:
            # The first entry has the mark as well; that it is one, its checksum will tell.
            mark = int.from_bytes(data[SEGMENT_HEAD_BYTES : SEGMENT_HEAD_BYTES + 8], "big")
            damage = Damage(name, 0, min(SEGMENT_HEAD_BYTES, self._store.size(name)), str(error), 0)
            return Part(number, SegmentHead(number, 0, mark, 0), damage, is_ours=True)

    def _of_one_log(self, parts: list[Part]) -> list[Part]:
        """Tells the files of another log apart: those that are fewer."""
        logs = Counter(part.head.log for part in parts if part.damage is None).most_common(2)
        if len(logs) > 1 and logs[0][1] == logs[1][1]:
            other = next(part for part in parts if part.head.log == logs[1][0])
            reason = "as many files are of one log as of another; move those that do not belong here away"
            raise CorruptLog(segment_name(other.number), 0, reason)
        return [
            part
            if part.damage is not None or part.head.log == logs[0][0]
            else part._replace(damage=self._foreign(part.number), is_ours=False)
            for part in parts
        ]

    def _foreign(self, number: int) -> Damage:
        name = segment_name(number)
        return Damage(name, 0, self._store.size(name), "the file is of another log", 0)

    def _find_oldest(self) -> int:
        """What the newest entry says; but not what one says that comes after something that cannot be read.

        Such an entry may have been written, and not synced, like what is missing before it: then older segments still
        matter, and are still there. Once one of them is gone, it was synced.
        """
        ours = [part for part in self.parts if part.is_ours]
        sure = claimed = 0
        for part in ours:
            is_whole = part.damage is None
            for item in _read(self._store, part, is_last=part is ours[-1], last=0):
                if isinstance(item, Salvaged):
                    claimed = max(claimed, item.entry.prefix.oldest)
                    sure = claimed if is_whole else sure
                else:
                    is_whole = False
        present = {part.number for part in ours}
        oldest = sure if present.issuperset(range(sure, claimed)) else claimed
        return oldest or min(present, default=0)

    @property
    def last(self) -> SegmentHead | None:
        """The newest head that can be read; None when there is none."""
        return next((part.head for part in reversed(self.parts) if part.damage is None), None)

    def items(self) -> Iterator[Item]:
        """Everything that can be read, in order, and what cannot where it is missing; at last, perhaps, a torn tail."""
        parts = [part for part in self.parts if part.number >= self.oldest or not part.is_ours]
        ours = [part for part in parts if part.is_ours]
        last, expected = 0, self.oldest
        before: SegmentHead | None = None
        for part in parts:
            if part.damage is not None:
                is_extra = not part.is_ours and part.number > ours[-1].number
                yield part.damage._replace(entries=None) if is_extra else part.damage
            if not part.is_ours:
                continue
            for missing in range(expected, part.number):
                yield Damage(segment_name(missing), 0, 0, "the file is missing", 0 if last else None)
                before = None
            if part.damage is None and before is not None and part.head.previous != before.mark:
                yield Damage(
                    segment_name(part.number), 0, 0, f"it does not go on from {segment_name(before.segment)}", 0
                )
            before, expected = (part.head if part.damage is None else None), part.number + 1
            for item in _read(self._store, part, is_last=part is ours[-1], last=last):
                if isinstance(item, Salvaged):
                    last = item.entry.prefix.number
                yield item


def _read(store: Store, part: Part, *, is_last: bool, last: int) -> Iterator[Item]:
    """Everything that can be read of one segment.

    Args:
        store: where it is.
        part: the segment.
        is_last: whether it is the last one, which may have a torn tail.
        last: the number of the last entry before it; 0 when that is not known.
    """
    name = segment_name(part.number)
    data = store.read(name)
    position = SEGMENT_HEAD_BYTES
    while position < len(data):
        found, reason = _entry_from(data, position, part.head, last)
        if found is None:
            yield _end(data, part, position, reason, is_last=is_last, last=last)
            return
        entry = found.entry
        lost = entry.prefix.number - last - 1 if last else None
        if entry.offset > position or lost:
            reason = reason or f"entry {entry.prefix.number} follows entry {last}"
            yield Damage(name, position, entry.offset - position, reason, lost)
        yield from _spoiled(name, found)
        yield found
        last, position = entry.prefix.number, entry.end
    if position == SEGMENT_HEAD_BYTES:
        yield Damage(name, min(position, len(data)), 0, NO_PREAMBLE, None if is_last or not last else 0)


def _entry_from(data: bytes, position: int, head: SegmentHead, last: int) -> tuple[Salvaged | None, str]:
    """The first entry at or after a position with a higher number than the last one; and what is wrong before it."""
    view, mark, reason = memoryview(data), mark_bytes(head.mark), ""
    at = position
    while at >= 0:
        spoiled: list[int] = []
        try:
            entry = read_entry(view, at, head, with_blocks=False, spoiled=spoiled)
        except Damaged as error:
            reason = reason or str(error)
        else:
            if entry.prefix.number > last:
                return Salvaged(entry, spoiled), reason
            reason = reason or f"entry {entry.prefix.number} follows entry {last}"
        at = data.find(mark, at + 1)
    return None, reason


def _spoiled(name: str, found: Salvaged) -> Iterator[Damage]:
    for position in found.spoiled:
        record = found.entry.records[position]
        block = getattr(record, "block", None)
        assert block is not None
        assert block.place is not None
        yield Damage(name, block.place[1], block.size, "the checksum of a block does not match", 0)


def _end(data: bytes, part: Part, position: int, reason: str, *, is_last: bool, last: int) -> Damage | Torn:
    """What follows the last entry that can be read."""
    name, size = segment_name(part.number), len(data) - position
    if is_last and last and position > SEGMENT_HEAD_BYTES:
        return Torn(name, position, size, reason)
    return Damage(name, position, size, reason, None if is_last or not last else 0)
