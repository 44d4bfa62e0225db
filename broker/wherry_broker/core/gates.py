"""Gates: a message that waits until others have ended, counted with the records that end them.

A message that waits at a gate is delayed until as many messages as the gate was made for have left their queues, or
died. Whoever counts for a gate is counted in the same commit that ends it, so that no crash comes between, and a fan-in
never waits for what is done. A message that is settled has ended well, every other one has failed. At a strict gate the
first that fails makes the message that waits dead; otherwise it is let through when all have ended, and whoever gets it
asks how they did.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from wherry.model.fields import BATCH_MESSAGES_MAX
from wherry_broker.core.batch import DEAD, DELAYED, Failure
from wherry_broker.core.records import SETTLED, Deleted, Died, Gated, Joined, Removed, Tallied, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wherry_broker.core.batch import Span
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Fact
    from wherry_broker.core.state import State

NEVER_MS = 253_402_300_799_000
"""The last moment of the year 9999: until when a message that waits at a gate is delayed."""
GATE = "gate"
"""Why a message is dead that waited at a gate; no delivery of it has ended."""


class Members(NamedTuple):
    """Messages that count for gates: those with the offsets [low, high) of a queue, which were published together."""

    low: int
    high: int
    gates: tuple[str, ...]


class Gate:
    """One gate.

    Attributes:
        queue: the number of the queue of the message that waits.
        offset: its offset.
        remaining: how many messages have to end yet.
        failed: how many have ended otherwise than well.
        strict: whether the first of these makes the message dead.
        members: the messages that count for it, in the order of their publishes: (queue number, first, count).
    """

    __slots__ = ("failed", "members", "offset", "queue", "remaining", "strict")

    def __init__(self, queue: int, offset: int, remaining: int, failed: int, *, strict: bool) -> None:
        self.queue = queue
        self.offset = offset
        self.remaining = remaining
        self.failed = failed
        self.strict = strict
        self.members: list[tuple[int, int, int]] = []

    @property
    def is_closed(self) -> bool:
        """Whether the message waits still."""
        return self.remaining > 0 and not (self.strict and self.failed)


class Gates(dict[str, Gate]):
    """All gates, by name; each is there as long as the message that waits, or waited, at it."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, dict[int, str]] = {}
        self._members: dict[int, list[Members]] = {}

    def make(self, record: Gated) -> None:
        """A message waits."""
        self._add(record.gate, Gate(record.queue, record.offset, record.expects, 0, strict=record.strict))

    def restate(self, row: Waiting) -> None:
        """A gate, as the preamble of a segment tells of it; nothing if it is known."""
        name, queue, offset, remaining, failed, strict, members = row
        if name not in self:
            self._add(name, Gate(queue, offset, remaining, failed, strict=strict))
            for number, first, count in members:
                self.join(Joined(queue, name, number, first, count))

    def _add(self, name: str, gate: Gate) -> None:
        self[name] = gate
        self._waiting.setdefault(gate.queue, {})[gate.offset] = name

    def join(self, record: Joined) -> None:
        """Messages have come that count for a gate."""
        gate = self.get(record.gate)
        if gate is None:
            return
        _, name, number, first, count = record
        gate.members.append((number, first, count))
        members = self._members.setdefault(number, [])
        place = bisect_left(members, (first,))
        if place < len(members) and members[place].low == first:
            members[place] = members[place]._replace(gates=(*members[place].gates, name))
        else:
            members.insert(place, Members(first, first + count, (name,)))

    def counts(self, queue: int) -> bool:
        """Whether any message of a queue counts for a gate."""
        return bool(self._members.get(queue))

    def members_between(self, queue: int, low: int, high: int) -> Iterator[Members]:
        """The parts of [low, high) that count for gates, in order."""
        members = self._members.get(queue, [])
        for place in range(max(0, bisect_right(members, low, key=_low) - 1), len(members)):
            start, stop, gates = members[place]
            if start >= high:
                return
            if stop > low:
                yield Members(max(low, start), min(high, stop), gates)

    def forget(self, queue: int, low: int, high: int) -> None:
        """The messages [low, high) of a queue are gone, and those gates with them that they waited at."""
        waiting = self._waiting.get(queue)
        if not waiting:
            return
        for offset in range(low, high) if high - low < len(waiting) else list(waiting):
            if low <= offset < high and offset in waiting:
                self._discard(waiting[offset])

    def forget_queue(self, queue: int) -> None:
        """A queue is gone."""
        for name in list(self._waiting.get(queue, {}).values()):
            self._discard(name)

    def restored(self, queues: dict[int, Queue]) -> None:
        """A log is read to its end: gates of messages that had gone before what is left of it begins are no more."""
        for name, gate in list(self.items()):
            queue = queues.get(gate.queue)
            if queue is None or queue.span_at(gate.offset) is None:
                self._discard(name)

    def _discard(self, name: str) -> None:
        gate = self.pop(name)
        del self._waiting[gate.queue][gate.offset]
        for number, first, _ in gate.members:
            self._leave(name, number, first)

    def _leave(self, name: str, queue: int, first: int) -> None:
        members = self._members[queue]
        place = bisect_left(members, (first,))
        left = tuple(each for each in members[place].gates if each != name)
        if left:
            members[place] = members[place]._replace(gates=left)
        else:
            del members[place]

    def standing(self, queues: dict[int, Queue]) -> Iterator[Waiting]:
        """What the preamble of a segment restates: the gates of messages that a log keeps."""
        for name, gate in self.items():
            if queues[gate.queue].is_logged:
                place = (gate.queue, gate.offset, gate.remaining, gate.failed)
                yield Waiting(name, *place, gate.strict, tuple(gate.members))


def _low(members: Members) -> int:
    return members.low


def joined(members: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Members as few rows: neighbours that follow each other are one, of as many messages as a row may have."""
    rows: list[tuple[int, int, int]] = []
    for queue, first, count in members:
        last_queue, last_first, last_count = rows[-1] if rows else (0, 0, 0)
        follows = last_queue == queue and last_first + last_count == first
        if follows and last_count + count <= BATCH_MESSAGES_MAX:
            rows[-1] = (queue, last_first, last_count + count)
        else:
            rows.append((queue, first, count))
    return rows


class Ended(NamedTuple):
    """Messages that count for a gate have ended: how many, whether well, and what became of the first of them."""

    gate: str
    messages: int
    well: bool
    failure: Failure


def ended(state: State, record: Fact, now_ms: int) -> list[Ended]:
    """What ends with a record, which is not applied yet, of what counts for gates."""
    if not isinstance(record, Removed | Died | Deleted) or not state.gates.counts(record.queue):
        return []
    queue = state.queues[record.queue]
    well = isinstance(record, Removed) and record.cause == SETTLED
    ends: dict[str, tuple[int, int]] = {}  # by gate: how many, and the first offset
    for low, high in ((0, queue.next_offset),) if isinstance(record, Deleted) else record.ranges:
        for span in queue.spans(low, high):
            if span.state == DEAD:  # it was counted when it died
                continue
            for start, stop, names in state.gates.members_between(queue.number, *_within(span, low, high)):
                for name in names:
                    count, first = ends.get(name, (0, start))
                    ends[name] = (count + stop - start, first)
    return [
        Ended(name, count, well, Failure(GATE, f"{queue.name}/{first}, which it waited for, {_fate(record)}", now_ms))
        for name, (count, first) in ends.items()
    ]


def tallied(state: State, ended: Ended) -> list[Fact]:
    """What it means for a gate that messages have ended; nothing when what waited there has gone with them."""
    gate = state.gates.get(ended.gate)
    if gate is None:
        return []
    facts: list[Fact] = [Tallied(gate.queue, ended.gate, ended.messages, 0 if ended.well else ended.messages)]
    if gate.strict and gate.is_closed and not ended.well:
        facts.append(Died(gate.queue, ((gate.offset, gate.offset + 1),), ended.failure, GATE))
    return facts


def _within(span: Span, low: int, high: int) -> tuple[int, int]:
    return max(low, span.low), min(high, span.high)


def _fate(record: Removed | Died | Deleted) -> str:
    if isinstance(record, Died):
        return f"is dead: {record.failure.error or record.failure.reason}"
    return f"was {record.cause}" if isinstance(record, Removed) else "went with its queue"


def count(state: State, record: Tallied) -> None:
    """Counts ends, and lets the message that waits through when they were the last ones."""
    gate = state.gates.get(record.gate)
    if gate is None:
        return
    gate.remaining -= record.ended
    gate.failed += record.failed
    queue = state.queues[gate.queue]
    span = queue.span_at(gate.offset)
    if gate.remaining <= 0 and not (gate.strict and gate.failed) and span is not None and span.state == DELAYED:
        span.batch.mark = queue.mark
        queue.wake(span)
