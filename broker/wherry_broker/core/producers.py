"""Producers: which publishes of a client were stored, so that one that is sent again is answered and not stored.

A producer is a client that numbers its publishes. What became of each is remembered until the client says that it has
the answer, which it does with its next publish, so a producer costs what it has in flight. One that is not heard of
for the window is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from wherry_broker.core.records import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wherry_broker.core.records import Row, Sequenced

WINDOW_MS = 600_000
"""The default of how long a producer is remembered that is not heard of."""
SEQUENCES_MAX = 16_384
"""How many publishes of one producer are remembered: it has no answer to any of them, or has not said so."""
PRODUCERS_MAX = 100_000
"""How many producers are remembered at a time."""
ROWS_MAX = 1_000_000
"""How many publishes of all producers are remembered at a time."""


class Producer:
    """One producer.

    Attributes:
        answered: the client has the answers to all sequences up to it.
        newest: the highest sequence that was stored.
        heard_at_ms: when something of it was stored last.
        stored: what became of each sequence that may be sent again.
    """

    __slots__ = ("answered", "heard_at_ms", "newest", "stored")

    def __init__(self) -> None:
        self.answered = 0
        self.newest = 0
        self.heard_at_ms = 0
        self.stored: dict[int, tuple[Row, ...]] = {}


class Producers:
    """All producers, the one that was not heard of for longest first.

    Attributes:
        window_ms: how long one is remembered that is not heard of.
        rows: how many rows are remembered in all: a sequence has one for each queue that it went to.
        idle_ms: before this moment none can be forgotten for being idle.
    """

    def __init__(self) -> None:
        self.window_ms = WINDOW_MS
        self.rows = 0
        self.idle_ms = 0
        self._known: OrderedDict[str, Producer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, name: str) -> Producer | None:
        """A producer that is remembered."""
        return self._known.get(name)

    def take(self, record: Sequenced) -> None:
        """Publishes of a producer were stored, and others answered."""
        if record.at_ms >= self.idle_ms:
            self.forget_idle(record.at_ms)
        producer = self._entered(record.producer, record.at_ms)
        self._answer(producer, record.answered)
        self._store(producer, record.rows)
        if not producer.stored:
            del self._known[record.producer]  # its client wants no answer any more

    def _store(self, producer: Producer, rows: tuple[Row, ...]) -> None:
        stored, known = producer.stored, max(producer.newest, producer.answered)
        if len(rows) == 1 and rows[0][0] > known:
            stored[rows[0][0]] = rows
            producer.newest = rows[0][0]
            self.rows += 1
            return
        fresh = {row[0]: (row,) for row in rows}
        producer.newest = max(producer.newest, max(fresh, default=0))
        if len(fresh) == len(rows) and min(fresh, default=0) > known:
            # What a run of joined publishes is: all are new, and each went to one queue.
            stored.update(fresh)
            self.rows += len(rows)
            return
        for row in rows:
            if row[0] > producer.answered:
                stored[row[0]] = (*stored.get(row[0], ()), row)
                self.rows += 1

    def restate(self, known: Known) -> None:
        """A log that is read has forgotten how a producer came to be what it was."""
        name, answered, at_ms, rows = known
        if name in self._known:
            return
        producer = self._entered(name, at_ms)
        producer.answered = answered
        for row in rows:
            producer.stored[row[0]] = (*producer.stored.get(row[0], ()), row)
        producer.newest = max(producer.stored, default=answered)
        self.rows += len(rows)

    def forget_idle(self, now_ms: int) -> None:
        """Forgets those that were not heard of for the window."""
        while self._known:
            name = next(iter(self._known))
            self.idle_ms = self._known[name].heard_at_ms + self.window_ms
            if self.idle_ms > now_ms:
                return
            self.rows -= _count(self._known.pop(name).stored.values())
        self.idle_ms = now_ms + self.window_ms

    def limit(self, now_ms: int) -> None:
        """Takes all as heard of by now at the latest: a clock that was set back makes none last longer."""
        for name, producer in sorted(self._known.items(), key=lambda each: each[1].heard_at_ms):
            producer.heard_at_ms = min(producer.heard_at_ms, now_ms)
            self._known.move_to_end(name)
        self.idle_ms = 0

    def standing(self, is_logged: Callable[[int], bool]) -> Iterator[Known]:
        """The facts of each, as a preamble restates them.

        Args:
            is_logged: whether a log keeps the messages of the queue of a number; what none keeps is not restated.
        """
        for name, producer in self._known.items():
            stored = producer.stored.values()
            kept = tuple(row for rows in stored if any(is_logged(each.queue) for each in rows) for row in rows)
            if kept:
                yield Known(name, producer.answered, producer.heard_at_ms, kept)

    def _entered(self, name: str, at_ms: int) -> Producer:
        producer = self._known.get(name)
        if producer is None:
            producer = self._known[name] = Producer()
        else:
            self._known.move_to_end(name)
        producer.heard_at_ms = max(producer.heard_at_ms, at_ms)
        return producer

    def _answer(self, producer: Producer, answered: int) -> None:
        if answered <= producer.answered:
            return
        producer.answered = answered
        stored = producer.stored
        # A client sends its sequences in order, so those that are answered stand first.
        over = []
        for sequence in stored:
            if sequence > answered:
                break
            over.append(sequence)
        for sequence in over:
            self.rows -= len(stored.pop(sequence))


def _count(stored: Iterable[tuple[Row, ...]]) -> int:
    return sum(map(len, stored))
