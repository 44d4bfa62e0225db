"""Reading a log that is there: what is whole, what is torn, what is damaged.

Only what was never synced may be missing. So an entry that cannot be read is a *torn tail* when it is in the last
segment and no entry after it shows that it had been on the disk (each entry tells the newest one that was known to be
there when it was written). It is cut, and its bytes are kept aside. Anything else is *damage*: the log does not start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wherry_broker.log.codec import (
    ENTRY_MAGIC,
    SEGMENT_HEAD_BYTES,
    Damaged,
    Entry,
    Prefix,
    check_segment_head,
    read_entry,
)
from wherry_broker.log.journal import segment_name, segment_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wherry_broker.log.store import Store


class CorruptLog(Exception):
    """The log is damaged; the text names the file, the offset, and what can be done.

    Attributes:
        name: the file.
        offset: where in it the damage is, in bytes.
        reason: what is wrong there.
    """

    def __init__(self, name: str, offset: int, reason: str) -> None:
        super().__init__(
            f"the log is damaged: {name} at offset {offset}: {reason}. Nothing was changed. Put the file back from a "
            "backup, or keep what can be read with `wherry log repair DIR` (or `wherry serve --repair`)"
        )
        self.name = name
        self.offset = offset
        self.reason = reason


class Torn(NamedTuple):
    """The unfinished tail of the last segment."""

    name: str
    offset: int
    size: int
    reason: str


class Scan(NamedTuple):
    """What a log's segments are, before they are read.

    Attributes:
        segments: the numbers of those that matter, in order.
        forgotten: files of segments that do not matter any more; a power cut may bring them back.
        unfinished: temporary files.
    """

    segments: list[int]
    forgotten: list[str]
    unfinished: list[str]


def scan(store: Store) -> Scan:
    """Finds the segments of a log.

    Raises:
        CorruptLog: one is missing in the middle, or the last one has no preamble.
    """
    names = store.names()
    numbers = sorted(number for name in names if (number := segment_number(name)) is not None)
    unfinished = [name for name in names if name.endswith(".log.tmp")]
    if not numbers:
        return Scan([], [], unfinished)
    oldest = _oldest(store, numbers[-1])
    segments = [number for number in numbers if number >= oldest]
    for expected, number in enumerate(segments, start=oldest):
        if number != expected:
            raise CorruptLog(segment_name(expected), 0, "the file is missing")
    return Scan(segments, [segment_name(number) for number in numbers if number < oldest], unfinished)


def _oldest(store: Store, last: int) -> int:
    """The oldest segment that matters, which the newest entry tells."""
    data = memoryview(store.read(segment_name(last)))
    oldest = 0
    for item in entries(data, last):
        if isinstance(item, Entry):
            oldest = item.prefix.oldest
        elif item.offset <= SEGMENT_HEAD_BYTES:
            raise CorruptLog(segment_name(last), item.offset, item.reason)
    return oldest


class Bad(NamedTuple):
    """A place where no entry can be read, though bytes follow."""

    offset: int
    reason: str


def no_blocks() -> bool:
    """Leaves the bytes of blocks where they are."""
    return False


def entries(data: memoryview, segment: int, keeps_blocks: Callable[[], bool] = no_blocks) -> Iterator[Entry | Bad]:
    """The entries of a segment, in order; a Bad ends them.

    Args:
        data: the whole segment.
        segment: its number.
        keeps_blocks: asked for each entry whether to copy its blocks' bytes out.
    """
    try:
        check_segment_head(data, segment)
    except Damaged as error:
        yield Bad(0, str(error))
        return
    offset = SEGMENT_HEAD_BYTES
    while offset < len(data):
        try:
            entry = read_entry(data, offset, segment, with_blocks=keeps_blocks())
        except Damaged as error:
            yield Bad(offset, str(error))
            return
        yield entry
        offset = entry.end


def entries_after(data: memoryview, segment: int, offset: int) -> Iterator[Entry]:
    """All whole entries anywhere after `offset`, found by their first bytes."""
    whole = bytes(data)
    position = whole.find(ENTRY_MAGIC, offset + 1)
    while position >= 0:
        try:
            entry = read_entry(data, position, segment, with_blocks=False)
        except Damaged:
            position = whole.find(ENTRY_MAGIC, position + 1)
        else:
            yield entry
            position = whole.find(ENTRY_MAGIC, entry.end)


def cut(store: Store, torn: Torn) -> str:
    """Cuts a torn tail off, and keeps its bytes aside.

    Returns:
        The name of the file that holds them.
    """
    aside = f"{torn.name}.torn-{torn.offset}"
    file = store.create(aside)
    file.append([store.read(torn.name, torn.offset)])
    file.sync()
    file.close()
    store.sync_names()
    store.truncate(torn.name, torn.offset)
    return aside


def read_segments(
    store: Store, segments: list[int], keeps_blocks: Callable[[], bool] = no_blocks, *, lenient: bool = False
) -> Iterator[Entry | Torn | CorruptLog]:
    """All entries of a log, in order; at the end, perhaps, its torn tail.

    Args:
        store: where the segments are.
        segments: their numbers, as `scan` found them.
        keeps_blocks: asked for each entry whether to copy its blocks' bytes out.
        lenient: whether to tell of damage and go on with what can be read after it, instead of raising.

    Raises:
        CorruptLog: the log is damaged (unless lenient, when it is yielded instead).
    """
    previous: Prefix | None = None
    for segment in segments:
        name = segment_name(segment)
        data = memoryview(store.read(name))
        for item in _whole(data, segment, keeps_blocks, lenient=lenient):
            bad = _problem(previous, item)
            if bad is not None:
                torn = _torn(data, segment, bad, previous) if segment == segments[-1] else None
                if torn is not None:
                    yield torn
                    return
                damage = CorruptLog(name, bad.offset, bad.reason)
                if not lenient:
                    raise damage
                yield damage
            if isinstance(item, Entry):
                previous = item.prefix
                yield item


def _whole(data: memoryview, segment: int, keeps_blocks: Callable[[], bool], *, lenient: bool) -> Iterator[Entry | Bad]:
    for item in entries(data, segment, keeps_blocks):
        yield item
        if isinstance(item, Bad) and lenient:
            for entry in entries_after(data, segment, item.offset):
                yield read_entry(data, entry.offset, segment, with_blocks=keeps_blocks())


def _problem(previous: Prefix | None, item: Entry | Bad) -> Bad | None:
    """What is wrong with an item that follows an entry; None when nothing is."""
    if isinstance(item, Entry) and previous is not None and item.prefix.number != previous.number + 1:
        return Bad(item.offset, f"entry {item.prefix.number} follows entry {previous.number}")
    return item if isinstance(item, Bad) else None


def _torn(data: memoryview, segment: int, bad: Bad, previous: Prefix | None) -> Torn | None:
    """The tail from a bad place on, when nothing shows that it had ever been on the disk; else None."""
    if bad.offset <= SEGMENT_HEAD_BYTES or previous is None:
        return None  # head and preamble were synced before the segment had its name
    for entry in entries_after(data, segment, bad.offset):
        if entry.prefix.synced > previous.number:
            return None
    return Torn(segment_name(segment), bad.offset, len(data) - bad.offset, bad.reason)
