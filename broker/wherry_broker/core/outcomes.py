"""Outcomes: how tracked messages ended, by the queue and the offset of each, and who waits to be told.

Messages that end together, in the same way and next to each other, are one batch of outcomes: its envelope's key is the
id of the first of them. An outcome is a line of JSON, the same in all of a batch, and then the result of its message.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry_broker.core import bounds, records
from wherry_broker.core.batch import Batch, Envelope
from wherry_broker.core.block import LENGTH_BYTES, Block
from wherry_broker.core.memory import ENDED_BYTES
from wherry_broker.core.stores import Keeper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wherry.model.fields import Range
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.records import Fact, Stage

STORE_PREFIX = "$results."
"""How the name begins of a store of outcomes; no client can use it."""
BATCH_BYTES_MAX = 65_536
"""The longest batch of outcomes; short ones keep what is read again, dropped or moved cheap."""


class Kept(NamedTuple):
    """How one message ended: the outcome at a `place` of a batch."""

    batch: Batch
    place: int

    @property
    def data(self) -> bytes | None:
        """The bytes that remember it; None while only the log has them."""
        block = self.batch.block
        return None if block.data is None else block.cut(self.place, self.place + 1)[1]

    @property
    def size(self) -> int:
        """How many bytes these are."""
        return self.batch.block.bytes_between(self.place, self.place + 1)


class Wait:
    """One who waits for the ends of the messages [low, high) of a queue, each of which is a request of its own.

    Args:
        session: who it is.
        request: the request that stands for the first message; those of the others follow it.
        queue: the name of the queue.
        low: the offset of the first message.
        high: the one after the last.
        store: where the outcomes come.
        results_only: whether nobody asks how a message ended that has a result.

    Attributes:
        left: how many of them have no answer yet.
        due_ms: when it waits no longer.
        timer: the entry in `Timers` that stands for it.
    """

    __slots__ = ("due_ms", "high", "left", "low", "queue", "request", "results_only", "session", "store", "timer")

    def __init__(
        self, session: Session, request: int, queue: str, low: int, high: int, store: Outcomes, *, results_only: bool
    ) -> None:
        self.session = session
        self.request = request
        self.queue = queue
        self.low = low
        self.high = high
        self.store = store
        self.results_only = results_only
        self.left = high - low
        self.due_ms = 0
        self.timer = 0

    def request_of(self, offset: int) -> int:
        """The request that stands for the message at `offset`."""
        return self.request + offset - self.low


class Outcomes(Keeper):
    """How messages ended, of all queues of one durability.

    Attributes:
        waits: who waits for the end of which message, by the name of its queue and its offset.
        news: the batches in which there are some that somebody waits for, since somebody looked.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        self.waits: dict[str, dict[int, tuple[Wait, ...]]] = {}
        self.news: dict[Batch, None] = {}
        self._kept: dict[str, dict[int, Batch]] = {}
        super().__init__(*given, **more)

    def outcome(self, queue: str, offset: int) -> Kept | None:
        """How a message ended."""
        kept = self._kept.get(queue)
        batch = kept.get(offset) if kept is not None else None
        return None if batch is None else Kept(batch, offset - place_of(batch)[1])

    def ranges(self, queue: str, low: int, high: int) -> list[Range]:
        """Where the outcomes are of those of the messages [low, high) that have one, by offset in this store."""
        found = (self.outcome(queue, offset) for offset in range(low, high))
        places = sorted(each.batch.first + each.place for each in found if each is not None)
        return list(records.joined((place, place + 1) for place in places))

    def publish(self, first: int, block: Block, envelope: Envelope, ready_at_ms: int) -> None:
        """Keeps outcomes, in the place of those that their messages have."""
        queue, offset = split(envelope.key)
        kept = self._kept.get(queue)
        if kept is not None and not kept.keys().isdisjoint(range(offset, offset + block.count)):
            for low, high in self.ranges(queue, offset, offset + block.count):
                self.remove(low, high, records.REPLACED, envelope.published_at_ms)
        super().publish(first, block, envelope, ready_at_ms)
        self._take(first, first, first + block.count)

    def adopt(self, first: int, block: Block, envelope: Envelope, stages: tuple[Stage, ...]) -> None:
        """Takes outcomes that the log has written again."""
        super().adopt(first, block, envelope, stages)
        for stage in stages:
            self._take(first, stage.low, stage.high)

    def remove(self, low: int, high: int, cause: str, now_ms: int) -> None:
        """Forgets outcomes."""
        for span in self.spans(low, high):
            queue, offset = place_of(span.batch)
            offset -= span.batch.first
            kept = self._kept[queue]
            for place in range(max(low, span.low), min(high, span.high)):
                del kept[offset + place]
                self._memory.free(ENDED_BYTES)
            if not kept:
                del self._kept[queue]
        super().remove(low, high, cause, now_ms)

    def wait(self, wait: Wait) -> None:
        """Somebody waits from now on."""
        waits = self.waits.setdefault(wait.queue, {})
        offsets = range(wait.low, wait.high)
        if waits.keys().isdisjoint(offsets):
            waits.update(dict.fromkeys(offsets, (wait,)))
        else:
            waits.update({offset: (*waits.get(offset, ()), wait) for offset in offsets})

    def awaited(self, wait: Wait) -> list[int]:
        """The offsets of the messages of whose end somebody is not told yet."""
        waits = self.waits.get(wait.queue, {})
        return [offset for offset in range(wait.low, wait.high) if wait in waits.get(offset, ())]

    def forget(self, wait: Wait, offsets: Iterable[int]) -> None:
        """Somebody waits no longer for some of these."""
        waits = self.waits.get(wait.queue, {})
        for offset in offsets:
            left = tuple(other for other in waits.pop(offset) if other is not wait)
            if left:
                waits[offset] = left
        if not waits:
            self.waits.pop(wait.queue, None)

    def _take(self, first: int, low: int, high: int) -> None:
        batch = self.batch_at(first)
        assert batch is not None
        queue, offset = place_of(batch)
        offsets = range(offset + low - first, offset + high - first)
        self._kept.setdefault(queue, {}).update(dict.fromkeys(offsets, batch))
        self._memory.take(ENDED_BYTES * len(offsets))
        waits = self.waits.get(queue)
        if waits is not None and not waits.keys().isdisjoint(offsets):
            self.news[batch] = None


def key_of(queue: str, offset: int) -> str:
    """The key of outcomes: the id of the first message."""
    return f"{queue}/{offset}"


def split(key: str) -> tuple[str, int]:
    """The queue and the offset of that message."""
    queue, _, offset = key.rpartition("/")
    return queue, int(offset)


def place_of(batch: Batch) -> tuple[str, int]:
    """The queue and the offset of the first message whose outcome a batch holds, or held."""
    return split(batch.envelope.key)


def keep(
    store: Outcomes, queue: str, first: int, values: Sequence[bytes], expires_at_ms: int, now_ms: int
) -> Iterator[Fact]:
    """The records that keep outcomes of neighbours; each is to be applied before the next one is asked for.

    Args:
        store: where.
        queue: the name of the queue of the messages.
        first: the offset of the first one.
        values: the outcomes, all with the same line.
        expires_at_ms: when they are forgotten.
        now_ms: the time.
    """
    for piece in _pieces(values):
        block = Block(struct.pack(f">{len(piece)}I", *map(len, piece)), b"".join(piece))
        yield from bounds.drop_oldest(store, block.count, block.size, now_ms)
        envelope = Envelope(now_ms, expires_at_ms, 0, key_of(queue, first))
        yield records.Published(store.number, store.next_offset, envelope, 0, "", block)
        first += len(piece)


def _pieces(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    start = size = 0
    for stop, value in enumerate(values):
        size += len(value)
        if size > BATCH_BYTES_MAX and stop > start:
            yield values[start:stop]
            start, size = stop, len(value)
    yield values[start:]


def results_between(batch: Batch, low: int, high: int) -> tuple[bytes, bytes]:
    """The results of the outcomes [low, high) of a batch, whose bytes are in memory: their lengths, and the bytes."""
    lengths, data = batch.block.cut(low, high)
    head = data.index(b"\n") + 1
    sizes = struct.unpack(f">{len(lengths) // LENGTH_BYTES}I", lengths)
    results = [data[end - size + head : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
    return struct.pack(f">{len(results)}I", *map(len, results)), b"".join(results)


def same(offsets: Iterable[int], waits: dict[int, tuple[Wait, ...]]) -> Iterator[tuple[int, int, tuple[Wait, ...]]]:
    """Ranges (low, high) of offsets in order, and who waits for all of a range; those are left out nobody waits for."""
    low = high = 0
    who: tuple[Wait, ...] = ()
    for offset in offsets:
        now = waits.get(offset, ())
        if now is not who:
            if who:
                yield low, high, who
            low, who = offset, now
        high = offset + 1
    if who:
        yield low, high, who
