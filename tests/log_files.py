"""What tests of the log share: a directory that is only in memory, and small logs to try things on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry_broker.core.batch import Envelope, Failure
from wherry_broker.core.block import Block
from wherry_broker.core.records import (
    Changed,
    Declared,
    Deleted,
    Died,
    Preamble,
    Published,
    Record,
    Rehomed,
    Removed,
    Returned,
    Stage,
    Standing,
)
from wherry_broker.log import recovery
from wherry_broker.log.journal import Journal
from wherry_broker.log.recovery import Torn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wherry_broker.log.store import Store

NOW_MS = 1_800_000_000_000


class MemoryFile:
    """A file of a MemoryStore, open for appending."""

    def __init__(self, data: bytearray) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def append(self, pieces: Sequence[bytes]) -> None:
        self._data += b"".join(pieces)

    def sync(self) -> None:
        """All of it is as safe as it gets."""

    def close(self) -> None:
        """Nothing to do."""


class MemoryStore:
    """A directory without a disk: what is written is there, and nothing fails."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = {name: bytearray(data) for name, data in (files or {}).items()}

    def copy(self) -> MemoryStore:
        return MemoryStore(self.contents())

    def contents(self) -> dict[str, bytes]:
        return {name: bytes(data) for name, data in self.files.items()}

    def lock(self) -> None:
        """Nobody else knows of it."""

    def unlock(self) -> None:
        """Nobody else knows of it."""

    def names(self) -> list[str]:
        return sorted(self.files)

    def size(self, name: str) -> int:
        return len(self._file(name))

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        return bytes(self._file(name)[offset : None if size is None else offset + size])

    def create(self, name: str) -> MemoryFile:
        self.files[name] = bytearray()
        return MemoryFile(self.files[name])

    def truncate(self, name: str, size: int) -> None:
        del self._file(name)[size:]

    def rename(self, old: str, new: str) -> None:
        self.files[new] = self._file(old)
        del self.files[old]

    def remove(self, name: str) -> None:
        self._file(name)
        del self.files[name]

    def sync_names(self) -> None:
        """All of it is as safe as it gets."""

    def free_bytes(self) -> tuple[int, int]:
        return 1 << 40, 1 << 40

    def _file(self, name: str) -> bytearray:
        if name not in self.files:
            raise FileNotFoundError(name)
        return self.files[name]


def draw_from(first: int) -> Callable[[], int]:
    """Marks that are the same in every run: each is the first eight bytes of a text with a number in it."""
    numbers = iter(range(first, 1 << 30))
    return lambda: int.from_bytes(f"MARK{next(numbers):04d}".encode(), "big")


def block_of(*bodies: bytes) -> Block:
    return Block(b"".join(len(each).to_bytes(4, "big") for each in bodies), b"".join(bodies))


def published(first: int, *bodies: bytes, queue: int = 1, dedupe: str = "") -> Published:
    return Published(queue, first, Envelope(NOW_MS, 0, 0, ""), 0, dedupe, block_of(*bodies))


def preamble(*queues: Standing, epoch: int = NOW_MS) -> Preamble:
    return Preamble(epoch, len(queues) + 1, 1, queues)


EMAILS = Declared(1, "emails", {"durability": "synced"}, 1)
EVERY_KIND: list[Record] = [
    EMAILS,
    Changed(1, {"durability": "synced", "max_attempts": 3}),
    Declared(2, "old", {"durability": "written"}, 1),
    Deleted(2),
    Published(1, 1, Envelope(NOW_MS, NOW_MS + 60_000, 3, "user-7"), NOW_MS + 1_000, "welcome-7", block_of(b"one", b"")),
    published(3, b"three", b"four", b"five"),
    Removed(1, "settled", ((3, 4),), NOW_MS + 5),
    Returned(1, "failed", ((4, 5),), NOW_MS + 2_000, "no such host", NOW_MS + 6),
    Died(1, ((5, 6),), Failure("rejected", "spam", NOW_MS + 7)),
    Rehomed(
        1,
        3,
        Envelope(NOW_MS, 0, 0, ""),
        (
            Stage(4, 5, 1, 0, NOW_MS + 2_000, False, Failure("failed", "no such host", NOW_MS + 6)),
            Stage(5, 6, 1, 0, 0, True, Failure("rejected", "spam", NOW_MS + 7)),
        ),
        block_of(b"three", b"four", b"five"),
    ),
    Preamble(
        NOW_MS + 1,
        3,
        2,
        (Standing(1, "emails", {"durability": "synced", "max_attempts": 3}, 6, (("welcome-7", 1, NOW_MS + 120_000),)),),
    ),
]
"""One record of every kind, in an order in which a broker could have written them."""


class Segment(NamedTuple):
    """What a segment of a small log holds: the preamble, then one entry for each list of records."""

    preamble: Preamble
    entries: Sequence[Sequence[Record]]


def write_log(
    store: Any, segments: Iterable[Segment], *, first: int = 1, marks: int = 0, sync: bool = True, entry: int = 1
) -> Journal:
    """Writes a log, as a broker would.

    Args:
        store: an empty one.
        segments: what it is to hold.
        first: the number of the first segment.
        marks: where the marks begin; logs with different ones are different logs.
        sync: whether each entry is synced before the next one.
        entry: the number of the first entry.

    Returns:
        The journal, still open.
    """
    journal = Journal(store, first, entry, first, draw=draw_from(marks))
    for segment in segments:
        journal.roll(segment.preamble)
        for records in segment.entries:
            journal.append(records)
            if sync:
                journal.sync()
    return journal


def plain(value: Any) -> Any:
    """A record, or what is in one, with blocks as their lengths and bytes, so that it can be compared."""
    if isinstance(value, Block):
        return (value.lengths, value.data)
    if isinstance(value, tuple):
        return (type(value).__name__, *map(plain, value))
    return value


class Read(NamedTuple):
    """What was read of a log: the records of each entry, and the torn tail, if there is one."""

    entries: list[Any]
    torn: Torn | None


def read_log(store: Store) -> Read:
    """Reads a log as the broker does at its start, and changes nothing.

    Raises:
        CorruptLog: it is damaged.
    """
    found, torn = [], None
    for item in recovery.read_segments(store, recovery.scan(store).segments, lambda: True):
        if isinstance(item, recovery.Torn):
            torn = item
        else:
            found.append([plain(record) for record in item.records])
    return Read(found, torn)
