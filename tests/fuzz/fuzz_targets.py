"""What is fuzzed: functions that take any bytes, and raise only when something is wrong with the code.

Only the declared errors may come out of a decoder, whatever it is given; and what is read does not depend on how it
came. `python tests/fuzz/run.py` feeds them by atheris, `test_fuzz.py` by itself.
"""

from __future__ import annotations

import struct
from typing import Any

from crc32c import crc32c

from log_files import MemoryStore, Segment, preamble, write_log
from wherry.model.fields import TEXT_BYTES_MAX
from wherry.wire import codec
from wherry.wire.framing import SCRATCH_BYTES, FrameReader
from wherry_broker.log import recovery
from wherry_broker.log.codec import read_segment_head
from wherry_broker.log.journal import segment_name
from wherry_broker.log.recovery import CorruptLog

LIMITS = (16, 4_096, 65_536, 1 << 24)
"""Frame limits; the first byte of an input for `frames` chooses one."""
PIECES_MAX = 32
SCRATCH = memoryview(bytearray(SCRATCH_BYTES))
BETWEEN_FILES = b"\xf0NEXT\xf0"
"""What stands between the files of an input for `log`."""
WHOLE_FILES, ONE_ENTRY = 0, 1
"""What the first byte of an input for `log` says about the rest: files, or the head and blocks of one entry, which is
given sound checksums, since no fuzzer finds them."""


def frames(data: bytes) -> None:
    """Framing and codec: the bytes of a connection."""
    limit = LIMITS[data[0] % len(LIMITS)] if data else LIMITS[0]
    size, data = 1 + (data[1] if len(data) > 1 else 0), data[2:]
    size = max(size, len(data) // PIECES_MAX)
    whole, pieces = FrameReader(limit, SCRATCH), FrameReader(limit, SCRATCH)
    found = whole.feed(data)
    again = [frame for at in range(0, len(data), size) for frame in pieces.feed(data[at : at + size])]
    assert (found, whole.failure, whole.size_exceeded) == (again, pieces.failure, pieces.size_exceeded)
    if not whole.failure:
        assert whole.buffered_bytes == pieces.buffered_bytes <= len(data)
    for frame in found:
        _decode(frame)


def _decode(frame: Any) -> None:
    try:
        message = codec.decode(frame)
    except (codec.BadFrame, codec.BadValue) as error:
        if not 0 < len(str(error).encode()) <= TEXT_BYTES_MAX:
            raise AssertionError("the other end would not take a GOODBYE with this text") from error
        return
    (again,) = FrameReader(1 << 30, SCRATCH).feed(codec.encode(message))
    assert repr(codec.decode(again)) == repr(message)  # not ==, for the sake of nan


def log(data: bytes) -> None:
    """Recovery: the files of a log."""
    files = [_with_entry(data[1:])] if data[:1] == bytes([ONE_ENTRY]) else data[1:].split(BETWEEN_FILES)
    store = MemoryStore({segment_name(number): file for number, file in enumerate(files, start=1)})
    try:
        entries, torn = _read(store)
    except CorruptLog:  # ForeignLog is one
        return
    if torn is None:
        return
    recovery.cut(store, torn)
    try:
        assert _read(store) == (entries, None), "what was cut off took something along, or left something"
    except CorruptLog as error:
        raise AssertionError(f"a log whose torn tail was cut is not whole: {error}") from error


def _read(store: MemoryStore) -> tuple[list[Any], Any]:
    """The numbers and places of all entries, and the torn tail."""
    entries, torn = [], None
    for item in recovery.read_segments(store, recovery.scan(store).segments, lambda: True):
        if isinstance(item, recovery.Torn):
            torn = item
        else:
            entries.append((item.prefix, item.segment, item.offset, len(item.records)))
    return entries, torn


def _with_entry(data: bytes) -> bytes:
    """A segment that is sound as far as its second entry, whose head and blocks are the data."""
    size = min(int.from_bytes(data[:2], "big"), max(len(data) - 2, 0))
    head, blocks = data[2 : 2 + size], data[2 + size :]
    mark = read_segment_head(PLAIN[: recovery.SEGMENT_HEAD_BYTES], 1).mark
    prefix = struct.pack(">QIQQQ", mark, len(head), len(blocks), 2, 1) + struct.pack(">Q", 1)
    return PLAIN + prefix + struct.pack(">I", crc32c(head, crc32c(prefix))) + head + blocks


def _plain_segment() -> bytes:
    store = MemoryStore()
    write_log(store, [Segment(preamble(), [])])
    return bytes(store.files[segment_name(1)])


PLAIN = _plain_segment()
TARGETS = {"frames": frames, "log": log}
