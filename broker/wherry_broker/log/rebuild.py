"""The state that a damaged log leaves: like replay, but records may be missing, and what that costs is counted.

Replay relies on every record; here a queue may turn up whose declaration is lost, a deletion may be missing, and
messages may be settled that were never seen. What later records tell of earlier ones is used: a preamble names all
queues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry_broker.core.batch import DEAD
from wherry_broker.core.evolve import evolve
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.records import (
    SETTLED,
    Changed,
    Declared,
    Deleted,
    Died,
    Fired,
    Gated,
    Joined,
    Limited,
    Preamble,
    Published,
    Rehomed,
    Removed,
    Returned,
    Routed,
    Scheduled,
    Sequenced,
    Standing,
    Tallied,
    Unscheduled,
)
from wherry_broker.core.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Record

Ranges = list[tuple[int, int]]
"""Messages, as (low, high)."""
_UNKNOWN = 0
"""The next offset of a queue of which nothing is known; a real one is 1 or more."""


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same messages in as few ranges as they fit into, in order."""
    result: Ranges = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1]:
            result[-1] = (result[-1][0], max(high, result[-1][1]))
        elif low < high:
            result.append((low, high))
    return result


def without(ranges: Iterable[tuple[int, int]], taken: Iterable[tuple[int, int]]) -> Ranges:
    """The messages of the first ranges that are in none of the others."""
    result, gone = [], merged(taken)
    for low, high in merged(ranges):
        at = low
        for start, stop in gone:
            if stop > at and start < high:
                if start > at:
                    result.append((at, start))
                at = max(at, stop)
        if at < high:
            result.append((at, high))
    return result


class Rebuild:
    """Makes a state of the records that can be read.

    Args:
        standing: the queues by number, as preambles and declarations anywhere in the log tell of them.

    Attributes:
        state: what was made so far.
    """

    def __init__(self, standing: dict[int, Standing]) -> None:
        self.state = State(0)
        self.state.restoring = True
        self._standing = standing
        self._has_preamble = False
        self._first = _UNKNOWN
        self._missing: dict[int, Ranges] = {}
        self._told: dict[int, Ranges] = {}

    def take(self, record: Record, segment: int, *, spoiled: bool = False) -> None:
        """Takes the next record.

        Args:
            record: the record.
            segment: the segment that it stands in.
            spoiled: whether its block is damaged, so that its messages are lost.
        """
        self.state.homes.current = segment
        match record:
            case Preamble():
                self._preamble(record)
            case Declared():
                self._declared(record)
            case Published():
                self._published(record, spoiled=spoiled)
            case Routed():
                self._routed(record, spoiled=spoiled)
            case Rehomed():
                self._rehomed(record, spoiled=spoiled)
            case Removed() | Returned() | Died():
                self._moved(record)
            case Sequenced():
                self._sequenced(record)
            case Scheduled() | Unscheduled() | Fired():
                self._scheduled(record)
            case _ if self._is_there(record):
                evolve(self.state, record)

    def _is_there(self, record: Changed | Deleted | Limited | Gated | Joined | Tallied) -> bool:
        """Whether there is what a record speaks of."""
        if isinstance(record, Joined | Tallied):
            return record.gate in self.state.gates
        if isinstance(record, Gated):
            return self._holds(record.queue, record.offset)
        return record.queue in self.state.queues

    def miss(self) -> None:
        """Something could not be read before the next record.

        A queue may have been declared in what is missing: it began where the next new queue would have then, or behind
        that. It is not known where when the log has begun with what is missing.
        """
        if self._has_preamble and self._first == _UNKNOWN:
            self._first = self.state.next_first

    def lost(self) -> dict[str, Ranges]:
        """The messages that are lost, of those that can be told, by the name of their queue."""
        result = {}
        for number, ranges in self._missing.items():
            queue = self.state.queues.get(number)
            if queue is not None:
                left = without(ranges, self._told.get(number, []))
                if left:
                    result[queue.name] = left
        return result

    def skip_offsets(self, count: int) -> None:
        """Leaves out so many offsets of every queue: they may have been given to messages of which nothing is left."""
        for queue in self.state.queues.values():
            queue.next_offset += count
        self.state.next_first = max([self.state.next_first + count, *self._next_offsets()])

    def _next_offsets(self) -> Sequence[int]:
        return [queue.next_offset for queue in self.state.queues.values()]

    # Queues.

    def _preamble(self, record: Preamble) -> None:
        numbers = {standing.number for standing in record.queues}
        for queue in list(self.state.queues.values()):
            if queue.number not in numbers:
                evolve(self.state, Deleted(queue.number))
        for standing in record.queues:
            queue = self._queue(standing.number)
            queue.options = QueueOptions().changed(standing.options)
            queue.asked = None if standing.asked is None else frozenset(standing.asked)
            if queue.is_logged:
                self._miss(queue, queue.next_offset, standing.next_offset)
        for schedule in list(self.state.schedules):  # it tells of all, and what became of them
            self.state.schedules.discard(schedule.name)
        evolve(self.state, record)
        self._has_preamble = True

    def _declared(self, record: Declared) -> None:
        if record.queue not in self.state.queues:
            self._make_room(record.name)
            evolve(self.state, record)

    def _queue(self, number: int) -> Queue:
        """The queue of a number; made now, if the record that told of it is lost."""
        if number not in self.state.queues:
            known = self._standing.get(number)
            name = known.name if known is not None else f"recovered.{number}"
            options = known.options if known is not None else {"durability": "synced"}
            self._make_room(name)
            asked = known.asked if known is not None else None
            evolve(self.state, Declared(number, name, options, self._first, asked))
        return self.state.queues[number]

    def _make_room(self, name: str) -> None:
        """A queue of this name was deleted before, and the record that told so is lost."""
        old = self.state.names.get(name)
        if old is not None:
            evolve(self.state, Deleted(old.number))

    # Messages.

    def _published(self, record: Published, *, spoiled: bool) -> None:
        queue = self._queue(record.queue)
        end = record.first + record.block.count
        if record.first < queue.next_offset:
            return  # these offsets are taken: the file is of a log that was put back, and went another way
        self._miss(queue, queue.next_offset, record.first)
        queue.next_offset = record.first
        if spoiled:  # its dedupe key is not remembered: a publisher that tries again is welcome
            self._miss(queue, record.first, end)
            queue.next_offset = end
        else:
            evolve(self.state, record)

    def _routed(self, record: Routed, *, spoiled: bool) -> None:
        for part in record.parts():
            self._published(part, spoiled=spoiled)

    def _scheduled(self, record: Scheduled | Unscheduled | Fired) -> None:
        """Takes what happened to a schedule, unless the record that it began with is lost."""
        if isinstance(record, Scheduled) or self.state.schedules.get(record.name) is not None:
            evolve(self.state, record)

    def _sequenced(self, record: Sequenced) -> None:
        """Remembers what was stored, but for what is lost: a producer that tries that again is welcome."""
        stored = [row for row in record.rows if row.stored]
        held = {row.sequence for row in stored if self._holds(row.queue, row.first)}
        lost = {row.sequence for row in stored} - held
        # All rows of a sequence or none: they are told apart by their places.
        rows = tuple(row for row in record.rows if row.sequence not in lost)
        evolve(self.state, record._replace(rows=rows))

    def _holds(self, number: int, offset: int) -> bool:
        queue = self.state.queues.get(number)
        return queue is not None and queue.batch_at(offset) is not None

    def _rehomed(self, record: Rehomed, *, spoiled: bool) -> None:
        queue = self._queue(record.queue)
        batch = queue.batch_at(record.first)
        left = [(stage.low, stage.high) for stage in record.stages]
        if spoiled:
            if batch is None:
                self._missing.setdefault(record.queue, []).extend(left)
            return
        if batch is None or (batch.first, batch.block.count) == (record.first, record.block.count):
            self._told.setdefault(record.queue, []).extend(left)
            self._miss(queue, queue.next_offset, record.first)
            evolve(self.state, record)
            # What it leaves out was gone by then, and its block need not hold it.
            gone = without([(record.first, record.first + record.block.count)], left)
            evolve(self.state, Removed(record.queue, SETTLED, tuple(gone), record.envelope.published_at_ms))

    def _moved(self, record: Removed | Returned | Died) -> None:
        queue = self.state.queues.get(record.queue)
        if isinstance(record, Removed):
            self._told.setdefault(record.queue, []).extend(record.ranges)
        if queue is None:
            return
        if not isinstance(record, Removed):
            record = record._replace(ranges=tuple(_living(queue, record.ranges)))
        evolve(self.state, record)

    def _miss(self, queue: Queue, low: int, high: int) -> None:
        """The messages [low, high) were published, and the records of that are lost."""
        if _UNKNOWN < low < high:
            self._missing.setdefault(queue.number, []).append((low, high))


def _living(queue: Queue, ranges: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """The messages that are there and not dead."""
    for low, high in ranges:
        for span in list(queue.spans(low, high)):
            if span.state != DEAD:
                yield max(low, span.low), min(high, span.high)
