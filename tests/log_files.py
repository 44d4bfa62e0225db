"""What tests of the log share: a directory that is only in memory, and small logs to try things on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry.model import commands
from wherry.model.commands import Verb
from wherry_broker.core.batch import Envelope, Failure
from wherry_broker.core.block import Block
from wherry_broker.core.effects import Delivery
from wherry_broker.core.gates import NEVER_MS
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.records import (
    Changed,
    Declared,
    Deleted,
    Died,
    Fired,
    Gated,
    Joined,
    Kept,
    Known,
    Limited,
    Plan,
    Preamble,
    Published,
    Record,
    Rehomed,
    Removed,
    Returned,
    Routed,
    Row,
    Scheduled,
    Sequenced,
    Stage,
    Standing,
    Tallied,
    Target,
    Unscheduled,
    Waiting,
)
from wherry_broker.core.shard import Shard
from wherry_broker.log import recovery
from wherry_broker.log.codec import Entry
from wherry_broker.log.journal import Journal, read_block
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

    def own(self, size: int) -> int:
        return size

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
        return sorted(name for name in self.files if "/" not in name)

    def keep(self, names: Sequence[str]) -> str:
        folder = next(f"damaged-{n}" for n in range(1, 99) if not any(f"damaged-{n}/" in name for name in self.files))
        self.files |= {f"{folder}/{name}": self.files[name] for name in names}
        return folder

    def size(self, name: str) -> int:
        return len(self._file(name))

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        return bytes(self._file(name)[offset : None if size is None else offset + size])

    def create(self, name: str) -> MemoryFile:
        self.files[name] = bytearray()
        return MemoryFile(self.files[name])

    def truncate(self, name: str, size: int) -> None:
        del self._file(name)[size:]

    def rewrite(self, name: str, offset: int) -> None:
        """All of it is as safe as it gets."""

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


PLAN = Plan(
    *("emails", "0 3 * * *", "Europe/Paris", 0, 0, 0, NOW_MS - 1, NOW_MS + 9_000_000_000),
    *(4, "reports", 0, "skip", "skip", 60_000, 9, b"\x81\xa6due_ms\xcf" + bytes(8) + b"report", True),
)
STAMPED = PLAN.message[:9] + (NOW_MS + 5_000).to_bytes(8, "big") + PLAN.message[17:]
EMAILS = Declared(1, "emails", {"durability": "synced"}, 1)
EVERY_KIND: list[Record] = [
    EMAILS,
    Changed(1, {"durability": "synced", "max_attempts": 3}),
    Declared(2, "old", {"durability": "written"}, 1),
    Deleted(2),
    Published(
        1,
        1,
        Envelope(NOW_MS, NOW_MS + 60_000, 3, "user-7", tracked=True, publisher="web-1"),
        NOW_MS + 1_000,
        "welcome-7",
        block_of(b"one", b""),
    ),
    published(3, b"three", b"four", b"five"),
    Removed(1, "settled", ((3, 4),), NOW_MS + 5),
    Returned(1, "failed", ((4, 5),), NOW_MS + 2_000, "no such host", NOW_MS + 6),
    Died(1, ((5, 6),), Failure("rejected", "spam", NOW_MS + 7), "rejected"),
    Sequenced("p-4f2a", 6, NOW_MS, (Row(7, 1, 1, 2), Row(8, 1, 3, 3))),
    Rehomed(
        1,
        3,
        Envelope(NOW_MS, 0, 0, "", lineage=((3, 1), (1, 2))),
        (
            Stage(4, 5, 1, 0, NOW_MS + 2_000, False, Failure("failed", "no such host", NOW_MS + 6)),
            Stage(5, 6, 1, 0, 0, True, Failure("rejected", "spam", NOW_MS + 7)),
        ),
        block_of(b"three", b"four", b"five"),
    ),
    Declared(3, "copies", {"durability": "written", "bind": ("users.>",)}, 2, ("bind", "durability")),
    Changed(3, {"max_attempts": 5}, asked=False),
    Routed(
        "users.eu.created",
        NOW_MS + 8,
        "user-7",
        NOW_MS + 3_000,
        "created-7",
        (Target(1, 6, NOW_MS + 60_000, 3), Target(3, 2, 0, 1)),
        block_of(b"to both"),
    ),
    Limited(1, 5, NOW_MS + 90_000),
    Scheduled(
        "old-report", PLAN._replace(cron="", zone="", at_ms=NOW_MS + 4_000), NOW_MS, False, NOW_MS + 4_000, NOW_MS
    ),
    Unscheduled("old-report"),
    Scheduled("nightly", PLAN, NOW_MS, False, NOW_MS + 5_000, NOW_MS + 9),
    Published(1, 7, Envelope(NOW_MS + 5_001, 0, 4, "reports"), 0, "", block_of(STAMPED)),
    Fired("nightly", NOW_MS + 5_000, NOW_MS + 86_405_000, NOW_MS + 5_001, 1, 7, 0, False, ""),
    Fired("nightly", 0, NOW_MS + 259_205_000, NOW_MS + 259_000_000, 0, 0, 2, False, "queue 'emails' is full"),
    published(8, b"afterwards")._replace(ready_at_ms=NEVER_MS),
    Gated(1, "all", 8, 3, False),
    Joined(1, "all", 3, 2, 1),
    Tallied(1, "all", 1, 1),
    Preamble(
        NOW_MS + 1,
        4,
        2,
        (
            Standing(
                1,
                "emails",
                {"durability": "synced", "max_attempts": 3},
                9,
                (("welcome-7", 1, NOW_MS + 120_000), ("created-7", 6, NOW_MS + 120_008)),
            ),
            Standing(
                3,
                "copies",
                {"durability": "written", "bind": ("users.>",), "max_attempts": 5},
                3,
                (("created-7", 2, NOW_MS + 120_008),),
                ("bind", "durability"),
            ),
        ),
        (Known("p-4f2a", 6, NOW_MS, (Row(7, 1, 1, 2), Row(8, 1, 3, 3))),),
        (
            Kept(
                *("nightly", PLAN, NOW_MS, False, NOW_MS + 259_205_000, NOW_MS + 259_000_000),
                *(NOW_MS + 5_000, NOW_MS + 5_001, 1, 7, 1, 2, 0, "queue 'emails' is full"),
            ),
        ),
        (Waiting("all", 1, 8, 2, 1, strict=False, members=((3, 2, 1),)),),
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


def lived_log(store: Any, seed: int, *, turns: int = 60, roll_every: int = 12, marks: int = 0) -> Shard:
    """A log as a broker leaves it that had some queues, publishes, failed attempts, settles, and a deleted queue.

    Returns:
        The broker's core, as it is at the end.
    """
    chance = random.Random(seed)
    shard = Shard(0, chance.random, QueueOptions(durability="synced", retry_base_ms=50, max_attempts=3))
    journal = Journal(store, 1, 1, 1, draw=draw_from(marks))
    journal.roll(shard.ledger.open(1, 1, NOW_MS))
    session = shard.attach(1 << 30)
    life = _Life(shard, session, chance)
    life.say(commands.Declare, "emails", {"bind": ["users.*"]}, now_ms=NOW_MS)
    life.say(commands.Declare, "jobs", {"bind": ["users.>"]}, now_ms=NOW_MS)
    for turn in range(turns):
        life.turn(NOW_MS + 100 * turn)
        commit = shard.take_batch(roll=turn % roll_every == roll_every - 1)
        if commit is not None:
            places = journal.append(commit.records) if commit.records else []
            journal.sync()
            if commit.preamble is not None:
                journal.roll(commit.preamble)
            shard.committed(commit.mark, places)
            life.hear()
    journal.close()
    return shard


class _Life:
    """What happens in a lived log, a turn at a time."""

    def __init__(self, shard: Shard, session: int, chance: random.Random) -> None:
        self.shard = shard
        self.session = session
        self.chance = chance
        self.request = 0
        self.count = 0
        self.held: list[tuple[str, int, int, int]] = []
        self.names: dict[int, str] = {}

    def turn(self, now_ms: int) -> None:
        self.shard.tick(now_ms)
        name = self.chance.choice(["emails", "jobs", "jobs", "short-lived"])
        match self.chance.randrange(6):
            case 0 | 1 | 2:
                bodies = [b"message %d" % (self.count + each) for each in range(self.chance.randint(1, 4))]
                self.count += len(bodies)
                dedupe = f"key-{self.count}" if self.chance.random() < 0.3 else ""
                block = block_of(*bodies)
                if self.chance.random() < 0.2:
                    subject = self.chance.choice(["users.eu", "users.eu.created"])
                    self.say(commands.PublishTopic, subject, block.lengths, block=block.data, now_ms=now_ms)
                    return
                self.say(commands.Publish, name, block.lengths, dedupe=dedupe, block=block.data, now_ms=now_ms)
            case 3 if name not in self.names.values():
                number = len(self.names) + 1
                self.names[number] = name
                self.say(commands.Consume, number, name, 1000, now_ms=now_ms)
            case 4 | 3 if self.held:
                queue, first, count, attempt = self.held.pop(self.chance.randrange(len(self.held)))
                verb = self.chance.choice([Verb.ACK, Verb.ACK, Verb.NACK, Verb.REJECT])
                rows = ((first, self.chance.randint(1, count), attempt),)
                self.say(commands.Settle, queue, verb, self.shard.state.epoch, rows, now_ms=now_ms)
            case 5 if name == "short-lived" and name in self.shard.state.names:
                self.say(commands.Delete, name, now_ms=now_ms)
                self.names = {number: each for number, each in self.names.items() if each != name}
                self.held = [each for each in self.held if each[0] != name]
        self.shard.dispatch(now_ms)

    def say(self, kind: Any, *fields: Any, now_ms: int, **more: Any) -> None:
        self.request += 1
        self.shard.submit(self.session, kind(self.request, *fields, **more), now_ms)

    def hear(self) -> None:
        for effect in self.shard.take_effects():
            if isinstance(effect.say, Delivery):
                first, count, attempt = effect.say.row[:3]
                self.held.append((self.names.get(effect.say.consumer, ""), first, count, attempt))


def live_messages(shard: Shard, store: Any) -> dict[tuple[int, int], bytes]:
    """Every message that is held, by the number of its queue and its offset."""
    result = {}
    for queue in shard.state.queues.values():
        for span in queue.spans():
            result |= bodies_of(store, queue.number, span.batch.first, span.batch.block, span.low, span.high)
    return result


def published_messages(store: Any) -> dict[tuple[int, int], bytes]:
    """Every message that a log tells of, by the number of its queue and its offset."""
    result = {}
    for item in recovery.read_segments(store, recovery.scan(store).segments):
        for record in item.records if isinstance(item, Entry) else ():
            for part in record.parts() if isinstance(record, Routed) else (record,):
                if isinstance(part, Published):
                    end = part.first + part.block.count
                    result |= bodies_of(store, part.queue, part.first, part.block, part.first, end)
    return result


def bodies_of(store: Any, queue: int, first: int, block: Block, low: int, high: int) -> dict[tuple[int, int], bytes]:
    """The messages [low, high) of a batch."""
    if block.data is None:
        block = Block(block.lengths, read_block(store, block))
    return {(queue, offset): block.cut(offset - first, offset - first + 1)[1] for offset in range(low, high)}


def restored(store: Any) -> Shard:
    """The core of a broker that starts from a log."""
    shard = Shard(0, lambda: 0.5)
    for item in recovery.read_segments(store, recovery.scan(store).segments):
        for record in item.records if isinstance(item, Entry) else ():
            shard.restore(record, item.segment)
    shard.restored(NOW_MS)
    return shard
