"""Records to the bytes of a log and back. Pure. broker/wherry_broker/log/FORMAT.md is the specification.

A commit is one *entry*: a fixed prefix, a head (a msgpack array of records), and the blocks of the batches that it
publishes, as they came off the wire. The prefix and the head are checked by a CRC-32C; each block by a CRC-32C of its
own, which stands in the head, so that a block can be checked when it is read back alone. Every entry begins with the
mark of its segment, a random number, so that no message and no other file can hold what looks like one of its entries.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
from crc32c import crc32c

from wherry_broker.core import records
from wherry_broker.core.batch import Envelope, Failure
from wherry_broker.core.block import Block
from wherry_broker.core.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


VERSION = 1
VERSION_MAX = 0xFFFF
"""What is over it is no version, but damage."""
SEGMENT_MAGIC = b"WHERRYLG"

_SEGMENT = struct.Struct(">8sIQQQQI")
_ENTRY = struct.Struct(">QIQQQQI")
_MARK = struct.Struct(">Q")
SEGMENT_HEAD_BYTES = _SEGMENT.size
ENTRY_PREFIX_BYTES = _ENTRY.size
_CHECKED_BYTES = ENTRY_PREFIX_BYTES - 4

KINDS: dict[int, type[Any]] = {
    1: records.Declared,
    2: records.Changed,
    3: records.Deleted,
    4: records.Published,
    5: records.Removed,
    6: records.Returned,
    7: records.Died,
    8: records.Rehomed,
    9: records.Preamble,
    10: records.Sequenced,
    11: records.Routed,
    12: records.Limited,
    14: records.Scheduled,
    15: records.Unscheduled,
    16: records.Fired,
    17: records.Gated,
    18: records.Joined,
    19: records.Tallied,
}
_PLAIN_FIELDS = 4
"""How many fields an envelope has whose messages are not tracked."""
_NUMBERS = {cls: number for number, cls in KINDS.items()}


class Damaged(Exception):
    """Bytes that are not what was written."""


class UnknownVersion(Exception):
    """A segment is written in another version of the format; nothing is known of what follows."""


class Prefix(NamedTuple):
    """The fixed start of an entry.

    Attributes:
        number: the entry's number in the log; each is one more than that before it, over all segments.
        synced: the number of the newest entry known to be on disk when this one was written.
        oldest: the number of the oldest segment that still matters.
        head_bytes: the length of the head.
        blocks_bytes: the length of all blocks together.
    """

    number: int
    synced: int
    oldest: int
    head_bytes: int
    blocks_bytes: int


class Entry(NamedTuple):
    """One commit, as it was read.

    Attributes:
        prefix: its fixed start.
        segment: the segment that it stands in.
        offset: where it begins there, in bytes.
        records: what it holds; `Block.data` of what it publishes is not filled in unless asked for.
    """

    prefix: Prefix
    segment: int
    offset: int
    records: list[Record]

    @property
    def end(self) -> int:
        """Where the next entry begins."""
        return self.offset + ENTRY_PREFIX_BYTES + self.prefix.head_bytes + self.prefix.blocks_bytes


class SegmentHead(NamedTuple):
    """The first bytes of a segment's file.

    Attributes:
        segment: its number.
        log: a random number, not 0, that all segments of a log share.
        mark: a random number, not 0, that every entry in this segment begins with.
        previous: the mark of the segment before it; 0 when the log began with this one.
    """

    segment: int
    log: int
    mark: int
    previous: int


def encode_segment_head(head: SegmentHead) -> bytes:
    """The first bytes of a segment's file."""
    start = _SEGMENT.pack(SEGMENT_MAGIC, VERSION, *head, 0)[:-4]
    return start + struct.pack(">I", crc32c(start))


def read_segment_head(data: bytes, segment: int) -> SegmentHead:
    """The head of a segment, checked.

    Args:
        data: the segment, or the start of it.
        segment: the number that it should have.

    Raises:
        Damaged: it is not the head of this segment.
        UnknownVersion: it is that of another version of the format.
    """
    if len(data) < SEGMENT_HEAD_BYTES:
        raise Damaged(f"{len(data)} bytes are less than a segment's head of {SEGMENT_HEAD_BYTES}")
    magic, version, number, log, mark, previous, checksum = _SEGMENT.unpack_from(data)
    if magic != SEGMENT_MAGIC:
        raise Damaged("the file does not begin as a segment of a log does")
    sound = crc32c(_SEGMENT.pack(magic, VERSION, number, log, mark, previous, 0)[:-4]) == checksum
    # A sound head but for the version is one of this version, with a bit flipped.
    if version != VERSION and 0 < version <= VERSION_MAX and not sound:
        raise UnknownVersion(f"it has format version {version}, and this program reads version {VERSION}")
    if version != VERSION or not sound:
        raise Damaged("the checksum of the segment's head does not match")
    if number != segment:
        raise Damaged(f"the file is segment {number}, and not {segment} as its name says")
    return SegmentHead(number, log, mark, previous)


class Encoded(NamedTuple):
    """An entry, ready to be written.

    Attributes:
        pieces: its bytes, in order.
        size: how many bytes that is.
        blocks: the blocks in it, with where each begins, in bytes from the start of the entry.
    """

    pieces: list[bytes]
    size: int
    blocks: list[tuple[Block, int]]


def encode_entry(
    mark: int, number: int, synced: int, oldest: int, new: Sequence[Record], load: Callable[[Block], bytes]
) -> Encoded:
    """One commit as bytes; its blocks know their checksums afterwards, for when they are read back.

    Args:
        mark: the mark of the segment that it goes into.
        number: the entry's number.
        synced: the number of the newest entry known to be on disk.
        oldest: the number of the oldest segment that still matters.
        new: the records.
        load: gives the bytes of a block that is not in memory.
    """
    blocks: list[Block] = []
    datas: list[bytes] = []
    rows: list[Any] = []
    for record in new:
        number_of_kind = _NUMBERS[type(record)]
        block = getattr(record, "block", None)
        if block is None:
            rows.append((number_of_kind, *(record if type(record) not in _GROWN else _trimmed(record))))
            continue
        data = block.data  # looked at once: another thread may page it out meanwhile
        data = load(block) if data is None else data
        block.checksum = block.checksum or crc32c(data)
        rows.append((number_of_kind, *_fields(record), block.lengths, len(data), block.checksum))
        blocks.append(block)
        datas.append(data)
    head: bytes = msgpack.packb(rows)
    blocks_bytes = sum(map(len, datas))
    prefix = _ENTRY.pack(mark, len(head), blocks_bytes, number, synced, oldest, 0)[:-4]
    checksum = crc32c(head, crc32c(prefix))
    start = ENTRY_PREFIX_BYTES + len(head)
    places = []
    for block, data in zip(blocks, datas, strict=True):
        places.append((block, start))
        start += len(data)
    return Encoded([prefix + struct.pack(">I", checksum) + head, *datas], start, places)


_GROWN = frozenset({records.Declared, records.Changed, records.Preamble})
"""Records whose last fields are left out when they say nothing, as it was before there were such fields."""


def _trimmed(record: Any) -> Any:
    """The fields of a record, without the last ones that have their defaults."""
    if type(record) is records.Preamble:
        record = record._replace(queues=tuple(map(_without_defaults, record.queues)))
    return _without_defaults(record)


def _without_defaults(fields: Any) -> Any:
    defaults, names, count = fields._field_defaults, fields._fields, len(fields)
    while names[count - 1] in defaults and fields[count - 1] == defaults[names[count - 1]]:
        count -= 1
    return fields[:count]


def _fields(record: Any) -> Any:
    """The fields of a record but for its block; an envelope ends before it says that it is not tracked, or sent."""
    if type(record) is records.Routed or record.envelope.lineage:
        return record[:-1]
    queue, first, envelope, *rest = record[:-1]
    return (queue, first, envelope[: -1 if any(envelope[_PLAIN_FIELDS:]) else _PLAIN_FIELDS], *rest)


def mark_bytes(mark: int) -> bytes:
    """How each entry of a segment begins."""
    return _MARK.pack(mark)


def read_prefix(data: memoryview, offset: int, mark: int) -> tuple[Prefix, int]:
    """The prefix of the entry at `offset`, not checked but for what can be known from the file's length.

    Returns:
        The prefix and its checksum.

    Raises:
        Damaged: there is none, or the entry would reach beyond the data.
    """
    if len(data) - offset < ENTRY_PREFIX_BYTES:
        raise Damaged(f"{len(data) - offset} bytes are less than an entry's prefix of {ENTRY_PREFIX_BYTES}")
    begun, head_bytes, blocks_bytes, number, synced, oldest, checksum = _ENTRY.unpack_from(data, offset)
    if begun != mark:
        raise Damaged(f"there is no entry here: it would begin with {mark:016x}, not with {begun:016x}")
    left = len(data) - offset - ENTRY_PREFIX_BYTES
    if head_bytes + blocks_bytes > left:
        raise Damaged(f"the entry claims {head_bytes + blocks_bytes} bytes, and {left} follow")
    return Prefix(number, synced, oldest, head_bytes, blocks_bytes), checksum


def read_entry(
    data: memoryview, offset: int, head: SegmentHead, *, with_blocks: bool, spoiled: list[int] | None = None
) -> Entry:
    """The entry at `offset` of a segment, checked, blocks included.

    Args:
        data: the whole segment.
        offset: where the entry begins.
        head: the segment's head.
        with_blocks: whether to copy the blocks' bytes out.
        spoiled: takes the positions of records whose block is damaged; without it, such an entry is damaged.

    Raises:
        Damaged: what is there is not an entry as it was written.
    """
    prefix, checksum = read_prefix(data, offset, head.mark)
    start = offset + ENTRY_PREFIX_BYTES
    end = start + prefix.head_bytes
    if crc32c(data[start:end], crc32c(data[offset : offset + _CHECKED_BYTES])) != checksum:
        raise Damaged("the checksum of an entry's head does not match")
    try:
        rows = _rows_of(data[start:end])
        new, end = _records_of(rows, data, end, head.segment, with_blocks=with_blocks, spoiled=spoiled)
    except (ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
        raise Damaged(f"an entry's head cannot be read: {error}") from error
    if end != start + prefix.head_bytes + prefix.blocks_bytes:
        raise Damaged("the blocks of an entry do not have the length that its prefix says")
    return Entry(prefix, head.segment, offset, new)


def _rows_of(head: memoryview) -> Any:
    # An array is made as long as it claims to be. What is claimed has to be there, or nested claims would multiply.
    walker = msgpack.Unpacker(max_buffer_size=0)
    walker.feed(head)
    walker.skip()
    return msgpack.unpackb(head, use_list=False, strict_map_key=False)


def _records_of(
    rows: Any, data: memoryview, position: int, segment: int, *, with_blocks: bool, spoiled: list[int] | None
) -> tuple[list[Record], int]:
    result: list[Record] = []
    for row in rows:
        make = _DECODERS.get(row[0])
        if make is not None:
            result.append(make(row[1:]))
            continue
        *fields, lengths, size, checksum = row[1:]
        stop = position + size
        if stop > len(data) or crc32c(data[position:stop]) != checksum:
            if spoiled is None:
                raise Damaged("the checksum of a block does not match")
            spoiled.append(len(result))
        block = Block(lengths, bytes(data[position:stop]) if with_blocks else None, size)
        block.place, block.checksum = (segment, position), checksum
        result.append(_WITH_BLOCK[row[0]](fields, block))
        position = stop
    return result, position


def _returned(fields: Any) -> Record:
    return records.Returned(*fields)


def _died(fields: Any) -> Record:
    queue, ranges, failure, *cause = fields
    return records.Died(queue, ranges, Failure(*failure), *cause)


def _preamble(fields: Any) -> Record:
    epoch, next_number, next_first, queues, *more = fields
    standing = tuple(records.Standing(*queue) for queue in queues)
    producers, schedules, gates = more + [()] * (3 - len(more))
    known, kept = tuple(map(_known, producers)), tuple(map(_kept, schedules))
    waiting = tuple(records.Waiting(*gate) for gate in gates)
    return records.Preamble(epoch, next_number, next_first, standing, known, kept, waiting)


def _kept(fields: Any) -> records.Kept:
    name, plan, *rest = fields
    return records.Kept(name, records.Plan(*plan), *rest)


def _scheduled(fields: Any) -> Record:
    name, plan, *rest = fields
    return records.Scheduled(name, records.Plan(*plan), *rest)


def _known(fields: Any) -> records.Known:
    producer, answered, at_ms, rows = fields
    return records.Known(producer, answered, at_ms, tuple(records.Row(*row) for row in rows))


def _sequenced(fields: Any) -> Record:
    producer, answered, at_ms, rows = fields
    return records.Sequenced(producer, answered, at_ms, tuple(records.Row(*row) for row in rows))


def _published(fields: Any, block: Block) -> Record:
    queue, first, envelope, ready_at_ms, dedupe = fields
    return records.Published(queue, first, Envelope(*envelope), ready_at_ms, dedupe, block)


def _routed(fields: Any, block: Block) -> Record:
    subject, published_at_ms, key, ready_at_ms, dedupe, targets = fields
    parts = tuple(records.Target(*target) for target in targets)
    return records.Routed(subject, published_at_ms, key, ready_at_ms, dedupe, parts, block)


def _rehomed(fields: Any, block: Block) -> Record:
    queue, first, envelope, stages = fields
    return records.Rehomed(queue, first, Envelope(*envelope), tuple(map(_stage, stages)), block)


def _stage(fields: Any) -> records.Stage:
    stage = records.Stage(*fields)
    return stage if stage.failure is None else stage._replace(failure=Failure(*stage.failure))


_DECODERS: dict[int, Callable[[Any], Record]] = {
    1: lambda fields: records.Declared(*fields),
    2: lambda fields: records.Changed(*fields),
    3: lambda fields: records.Deleted(*fields),
    5: lambda fields: records.Removed(*fields),
    6: _returned,
    7: _died,
    9: _preamble,
    10: _sequenced,
    12: lambda fields: records.Limited(*fields),
    14: _scheduled,
    15: lambda fields: records.Unscheduled(*fields),
    16: lambda fields: records.Fired(*fields),
    17: lambda fields: records.Gated(*fields),
    18: lambda fields: records.Joined(*fields),
    19: lambda fields: records.Tallied(*fields),
}
_WITH_BLOCK: dict[int, Callable[[Any, Block], Record]] = {4: _published, 8: _rehomed, 11: _routed}
