"""Reading a log that is there: what is whole, what is torn, what is damaged. FORMAT.md has the rules.

Only what was never synced may be missing. So an entry that cannot be read is a *torn tail* when it is in the last
segment and no entry after it shows that it had been on the disk (each entry tells the newest one that was known to be
there when it was written). It is cut, and its bytes are kept aside. Anything else is *damage*: the log does not start.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from wherry_broker.log.codec import (
    SEGMENT_HEAD_BYTES,
    Damaged,
    Entry,
    Prefix,
    SegmentHead,
    UnknownVersion,
    mark_bytes,
    read_entry,
    read_segment_head,
)
from wherry_broker.log.journal import segment_name, segment_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wherry_broker.log.store import Store


NO_PREAMBLE = "there is no entry, where the preamble should be"


class CorruptLog(Exception):
    """The log cannot be read; the text names the file, the offset, and what can be done.

    Attributes:
        name: the file.
        offset: where in it the damage is, in bytes.
        reason: what is wrong there.
    """

    what = "is damaged"
    advice = "put the file back from a backup, or keep what can be read: `wherry log repair` or `wherry serve --repair`"

    def __init__(self, name: str, offset: int, reason: str) -> None:
        where = f"{name} at offset {offset}: {reason}"
        super().__init__(f"the log {self.what}: {where}. Nothing was changed; {self.advice}")
        self.name = name
        self.offset = offset
        self.reason = reason


class ForeignLog(CorruptLog):
    """The log is of a version that this program does not read."""

    what = "cannot be read"
    advice = "run the version of wherry that wrote it, or a newer one"


class Torn(NamedTuple):
    """The unfinished tail of the last segment."""

    name: str
    offset: int
    size: int
    reason: str

    @property
    def aside(self) -> str:
        """The name of the file that keeps its bytes once it is cut."""
        return f"{self.name}.torn-{self.offset}"


class Scan(NamedTuple):
    """What a log's segments are, before they are read.

    Attributes:
        segments: the numbers of those that matter, in order.
        forgotten: files of segments that do not matter any more; a power cut may bring them back.
        unfinished: temporary files.
        head: the head of the last segment; None when there is none.
    """

    segments: list[int]
    forgotten: list[str]
    unfinished: list[str]
    head: SegmentHead | None


class Bad(NamedTuple):
    """A place where no entry can be read, though bytes follow."""

    offset: int
    reason: str


def no_blocks() -> bool:
    """Leaves the bytes of blocks where they are."""
    return False


def scan(store: Store) -> Scan:
    """Finds the segments of a log.

    Raises:
        CorruptLog: one is missing, is of another log, or does not begin as it should.
    """
    names = store.names()
    numbers = sorted(number for name in names if (number := segment_number(name)) is not None)
    unfinished = [name for name in names if name.endswith(".log.tmp")]
    if not numbers:
        return Scan([], [], unfinished, None)
    # Those that do not matter any more are looked at too: they go, so they had better be of this log.
    heads = [head_of(store.read(segment_name(number), 0, SEGMENT_HEAD_BYTES), number) for number in numbers]
    for before, head in pairwise(heads):
        follows = head.segment == before.segment + 1
        if head.log != before.log or (follows and head.previous != before.mark):
            reason = f"it does not go on from {segment_name(before.segment)}: one of the two is of another log"
            raise CorruptLog(segment_name(head.segment), 0, reason)
    oldest = _oldest(store, heads[-1], numbers)
    forgotten = [segment_name(number) for number in numbers if number < oldest]
    return Scan(numbers[len(forgotten) :], forgotten, unfinished, heads[-1])


def head_of(data: bytes, segment: int) -> SegmentHead:
    """The head of a segment.

    Raises:
        CorruptLog: it is none.
    """
    try:
        return read_segment_head(data, segment)
    except Damaged as error:
        raise CorruptLog(segment_name(segment), 0, str(error)) from error
    except UnknownVersion as error:
        raise ForeignLog(segment_name(segment), 0, str(error)) from error


def _oldest(store: Store, head: SegmentHead, numbers: list[int]) -> int:
    """The oldest segment that matters, which the newest entry tells; from there on, none may be missing.

    Args:
        store: where the segments are.
        head: the head of the last one.
        numbers: those that are there, in order.

    Raises:
        CorruptLog: one is missing, or the last one has no preamble.
    """
    name, oldest = segment_name(head.segment), 0
    bad: Bad | None = None
    for item in entries(store.read(name), head):
        if isinstance(item, Bad):
            bad = item
        else:
            oldest = item.prefix.oldest
    if not oldest:
        raise CorruptLog(name, SEGMENT_HEAD_BYTES, NO_PREAMBLE if bad is None else bad.reason)
    present = set(numbers)
    missing = next((number for number in range(oldest, head.segment) if number not in present), None)
    if missing is None:
        return oldest
    if bad is not None:  # which may be where it was told that older ones do not matter any more
        raise CorruptLog(name, bad.offset, f"{bad.reason}; and {segment_name(missing)} is missing")
    raise CorruptLog(segment_name(missing), 0, "the file is missing")


def entries(data: bytes, head: SegmentHead, keeps_blocks: Callable[[], bool] = no_blocks) -> Iterator[Entry | Bad]:
    """The entries of a segment, in order; a Bad ends them.

    Args:
        data: the whole segment.
        head: its head.
        keeps_blocks: asked for each entry whether to copy its blocks' bytes out.
    """
    view, offset = memoryview(data), SEGMENT_HEAD_BYTES
    while offset < len(data):
        try:
            entry = read_entry(view, offset, head, with_blocks=keeps_blocks())
        except Damaged as error:
            yield Bad(offset, str(error))
            return
        yield entry
        offset = entry.end


def entries_after(data: bytes, head: SegmentHead, offset: int, number: int) -> Iterator[Entry]:
    """All whole entries after `offset` whose number is over `number`, found by the mark that they begin with.

    What a block holds may be a copy of an entry of this segment: one that was there before, with a lower number.
    """
    view, mark = memoryview(data), mark_bytes(head.mark)
    position = data.find(mark, offset + 1)
    while position >= 0:
        try:
            entry = read_entry(view, position, head, with_blocks=False)
        except Damaged:
            entry = None
        if entry is not None and entry.prefix.number > number:
            yield entry
            position = data.find(mark, entry.end)
        else:
            position = data.find(mark, position + 1)


def cut(store: Store, torn: Torn) -> None:
    """Cuts a torn tail off, and keeps its bytes aside, in a file named `torn.aside`."""
    file = store.create(torn.aside)
    file.append([store.read(torn.name, torn.offset)])
    file.sync()
    file.close()
    store.sync_names()
    store.truncate(torn.name, torn.offset)


def read_segments(
    store: Store, segments: list[int], keeps_blocks: Callable[[], bool] = no_blocks
) -> Iterator[Entry | Torn]:
    """All entries of a log, in order; at the end, perhaps, its torn tail.

    Args:
        store: where the segments are.
        segments: their numbers, as `scan` found them.
        keeps_blocks: asked for each entry whether to copy its blocks' bytes out.

    Raises:
        CorruptLog: the log is damaged.
    """
    previous: Prefix | None = None
    for segment in segments:
        data = store.read(segment_name(segment))
        head = head_of(data, segment)
        first = True
        for item in entries(data, head, keeps_blocks):
            if isinstance(item, Bad):
                torn = _torn(data, head, item, previous) if segment == segments[-1] else None
                if torn is None:
                    raise CorruptLog(segment_name(segment), item.offset, item.reason)
                yield torn
                return
            if previous is not None and item.prefix.number != previous.number + 1:
                raise _gap(store, item, previous, first=first)
            previous, first = item.prefix, False
            yield item
        if first:
            raise CorruptLog(segment_name(segment), SEGMENT_HEAD_BYTES, NO_PREAMBLE)


def _gap(store: Store, entry: Entry, previous: Prefix, *, first: bool) -> CorruptLog:
    """An entry that does not follow the one before it; the first one of a segment tells that the file before is cut."""
    name = segment_name(entry.segment)
    if not first or entry.prefix.number < previous.number:
        return CorruptLog(name, entry.offset, f"entry {entry.prefix.number} follows entry {previous.number}")
    before = segment_name(entry.segment - 1)
    reason = f"it ends with entry {previous.number}, and {name} begins with entry {entry.prefix.number}"
    return CorruptLog(before, store.size(before), reason)


def _torn(data: bytes, head: SegmentHead, bad: Bad, previous: Prefix | None) -> Torn | None:
    """The tail from a bad place on, when nothing shows that it had ever been on the disk; else None."""
    if bad.offset == SEGMENT_HEAD_BYTES or previous is None:
        return None  # head and preamble were synced before the segment had its name
    if any(entry.prefix.synced > previous.number for entry in entries_after(data, head, bad.offset, previous.number)):
        return None
    return Torn(segment_name(head.segment), bad.offset, len(data) - bad.offset, bad.reason)
