"""A store: a queue that keeps the newest value of each key, and delivers none.

A value is a batch of one message: its key is that of the envelope, its version is its offset. So whatever holds for
queues (bounds, times to live, paging, logs, backups) holds for stores. A publish to a store takes the earlier value of
the same key out, so that a put is one record. The functions decide, as those of `decide` do, and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wherry_broker.core import bounds, records
from wherry_broker.core.batch import Batch, Envelope, Span
from wherry_broker.core.block import Block
from wherry_broker.core.effects import Say
from wherry_broker.core.queue import Queue
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.turns import Turns

if TYPE_CHECKING:
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.families import Families
    from wherry_broker.core.homes import Homes
    from wherry_broker.core.memory import Memory
    from wherry_broker.core.options import QueueOptions
    from wherry_broker.core.records import Fact, Stage
    from wherry_broker.core.state import State
    from wherry_broker.core.timers import Timers

WatchAnswer = Callable[["Batch | None", int], Say]
NUMBER_BYTES_MAX = 20
NUMBER_MIN, NUMBER_MAX = -(1 << 63), (1 << 63) - 1


class Watch:
    """One who waits for a value of a key that is newer than the version `after`.

    Args:
        session: who it is.
        request: what is answered.
        store: where the value comes from.
        key: which value.
        after: the version that is known already.
        answer: makes the answer, of the value or of None when the time is over, and of the time.

    Attributes:
        due_ms: when it waits no longer.
        timer: the entry in `Timers` that stands for it.
    """

    __slots__ = ("after", "answer", "due_ms", "key", "request", "session", "store", "timer")

    def __init__(self, session: Session, request: int, store: Store, key: str, after: int, answer: WatchAnswer) -> None:
        self.session = session
        self.request = request
        self.store = store
        self.key = key
        self.after = after
        self.answer = answer
        self.due_ms = 0
        self.timer = 0


class _NoTurns(Turns):
    """Nobody's turn ever comes in a store."""

    __slots__ = ()

    def append(self, span: Span) -> None:
        pass

    def put_back(self, span: Span) -> None:
        pass

    def discarded(self, key: str) -> None:
        pass


class Keeper(Queue):
    """What keeps messages and delivers none; they count as ready."""

    is_store = True

    def __init__(
        self,
        number: int,
        name: str,
        options: QueueOptions,
        first: int,
        timers: Timers,
        homes: Homes,
        memory: Memory,
        *,
        families: Families | None = None,
        restoring: bool = False,  # noqa: ARG002 (nothing is ever leased here, whatever a log does not tell)
    ) -> None:
        self._no_turns = _NoTurns(0, memory)
        super().__init__(number, name, options, first, timers, homes, memory, families=families)

    def _turn(self, priority: int) -> Turns:  # noqa: ARG002 (there is one for all)
        return self._no_turns


class Store(Keeper):
    """The values of one store.

    Attributes:
        watches: who waits for a value, by key.
        news: the keys somebody waits for that have got a value since somebody looked.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        self.watches: dict[str, dict[Watch, None]] = {}
        self.news: dict[str, None] = {}
        self._values: dict[str, Batch] = {}
        super().__init__(*given, **more)

    def value(self, key: str) -> Batch | None:
        """The value of a key."""
        return self._values.get(key)

    def publish(self, first: int, block: Block, envelope: Envelope, ready_at_ms: int) -> None:
        """Keeps a value in the place of the one that its key has."""
        key = envelope.key
        old = self._values.get(key)
        if old is not None:
            self.remove(old.first, old.end, records.REPLACED, envelope.published_at_ms)
        super().publish(first, block, envelope, ready_at_ms)
        self._take(key, first)

    def adopt(self, first: int, block: Block, envelope: Envelope, stages: tuple[Stage, ...]) -> None:
        """Takes a value that the log has written again."""
        super().adopt(first, block, envelope, stages)
        self._take(envelope.key, first)

    def _take(self, key: str, first: int) -> None:
        batch = self.batch_at(first)
        assert batch is not None
        self._values[key] = batch
        if key in self.watches:
            self.news[key] = None

    def _drop(self, span: Span) -> None:
        super()._drop(span)
        if self._values.get(span.batch.envelope.key) is span.batch:
            del self._values[span.batch.envelope.key]


def check_key(store: Store, key: str) -> None:
    """Refuses a key that no value can have.

    Raises:
        Refusal: invalid, it is empty.
    """
    if not key:
        raise Refusal("invalid", "the key of a value cannot be empty", queue=store.name)


def check_version(store: Store, key: str, wanted: int | None) -> None:
    """Refuses a put when the key's value has another version than was asked for; 0 stands for no value.

    Raises:
        Refusal: conflict, it has.
    """
    value = store.value(key)
    version = value.first if value is not None else 0
    if wanted is not None and wanted != version:
        has = f"has the version {version}" if version else "has no value"
        raise Refusal("conflict", f"key {key[:40]!r} of store {store.name!r} {has}, not {wanted}", queue=store.name)


def expiry(store: Store, ttl_ms: int, now_ms: int) -> int:
    """When a value expires that has a time to live of its own (0 for none): the shorter of that and the store's."""
    ttl_ms = min(filter(None, (ttl_ms, store.options.ttl_ms)), default=0)
    return now_ms + ttl_ms if ttl_ms else 0


def put(state: State, store: Store, key: str, value: bytes, expires_at_ms: int, now_ms: int) -> list[Fact]:
    """A value in the place of the one that its key has, and what has to go so that it fits.

    Raises:
        Refusal: invalid, the key is empty; too_large, the value is over the store's bounds; busy, it does not fit now.
    """
    check_key(store, key)
    block = Block(len(value).to_bytes(4, "big"), value)
    bounds.check_broker(state, store, block, Envelope(now_ms, key=key), "", settles=store.value(key) is not None)
    dropped = _make_room(store, store.value(key), block.size, now_ms)
    envelope = Envelope(now_ms, expires_at_ms, 0, key)
    return [*dropped, records.Published(store.number, store.next_offset, envelope, 0, "", block)]


def _make_room(store: Store, old: Batch | None, size: int, now_ms: int) -> list[Fact]:
    """The oldest values that have to go so that one more of `size` bytes fits, in the place of `old`."""
    options = store.options
    count, held_bytes = (1, old.held_bytes) if old is not None else (0, 0)
    messages = store.messages_held - count + 1 - options.max_messages
    too_many_bytes = store.bytes_held - held_bytes + size - options.max_bytes
    if messages <= 0 and too_many_bytes <= 0:
        return []
    bounds.check_amount(store, 1, size)
    if options.overflow != "drop_oldest":
        raise bounds.busy(store, 1, size, now_ms, by_messages=messages > 0)
    ranges: list[tuple[int, int]] = []
    for batch in store.batches_since(0):
        if messages <= 0 and too_many_bytes <= 0:
            break
        if batch is not old:
            ranges.append((batch.first, batch.end))
            messages -= 1
            too_many_bytes -= batch.held_bytes
    return [records.Removed(store.number, records.DROPPED, records.joined(ranges), now_ms)]


def unset(store: Store, keys: tuple[str, ...], now_ms: int) -> list[Fact]:
    """The values of keys, out."""
    values = {key: value for key in keys if (value := store.value(key)) is not None}
    ranges = records.joined(sorted((value.first, value.end) for value in values.values()))
    return [records.Removed(store.number, records.UNSET, ranges, now_ms)] if ranges else []


def added(store: Store, key: str, by: int, ttl_ms: int, now_ms: int) -> tuple[int, int]:
    """The number of a key (0 when it has none) and `by` more, and when it expires; its bytes must be in memory.

    The time to live is that of a number that begins now; one that is there keeps its own.

    Raises:
        Refusal: invalid, the value is no whole number, or becomes too large for 64 bits.
    """
    old = store.value(key)
    if old is None:
        number, expires_at_ms = by, expiry(store, ttl_ms, now_ms)
    else:
        assert old.block.data is not None
        number, expires_at_ms = _number(store, key, old.block.data) + by, old.envelope.expires_at_ms
    if not NUMBER_MIN <= number <= NUMBER_MAX:
        raise Refusal("invalid", f"{number} is not within {NUMBER_MIN} to {NUMBER_MAX}", queue=store.name)
    return number, expires_at_ms


def _number(store: Store, key: str, value: bytes) -> int:
    digits = value.removeprefix(b"-")
    if len(value) > NUMBER_BYTES_MAX or not digits.isdigit():  # `isdigit` of bytes knows ASCII only
        text = f"the value of key {key[:40]!r} in store {store.name!r} is no whole number in decimal digits"
        raise Refusal("invalid", text, queue=store.name)
    return int(value)


def expire(store: Store, key: str, ttl_ms: int, now_ms: int) -> list[Fact]:
    """Another time to live for the value of a key; nothing when it has none."""
    value = store.value(key)
    if value is None:
        return []
    return [records.Limited(store.number, value.first, expiry(store, ttl_ms, now_ms))]
