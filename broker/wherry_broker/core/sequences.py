"""Sequences: a publish that is sent again under its producer's sequence is answered as it was, and not stored again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry_broker.core import producers
from wherry_broker.core.records import Sequenced
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wherry.model import commands
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.records import Row
    from wherry_broker.core.state import State


class Sequences:
    """Looks sequences up, and makes the fact of new ones.

    Whoever stores something under a sequence asks `known` first, and applies `fact` in one go with the records of what
    it stores.

    Args:
        state: the durable state.
    """

    def __init__(self, state: State) -> None:
        self._producers = state.producers

    def known(self, session: Session, sequence: int) -> tuple[Row, ...]:
        """What was stored under a sequence before; nothing when it is new.

        Raises:
            Refusal: invalid, the client has no producer, or has said that it has the answer; unavailable, there is no
                room for one more.
        """
        if not session.producer:
            raise Refusal("invalid", f"sequence {sequence} needs a producer, and HELLO named none")
        producer = self._producers.find(session.producer)
        if producer is None:
            if len(self._producers) >= producers.PRODUCERS_MAX:
                raise _full("producers", len(self._producers), producers.PRODUCERS_MAX)
            return ()
        rows = producer.stored.get(sequence)
        if rows is not None:
            return rows
        if sequence <= producer.answered:
            text = f"sequence {sequence} was answered: the client has said so of all up to {producer.answered}"
            raise Refusal("invalid", text)
        if len(producer.stored) >= producers.SEQUENCES_MAX:
            what = "publishes that this producer has not answered"
            raise _full(what, len(producer.stored), producers.SEQUENCES_MAX)
        if self._producers.rows >= producers.ROWS_MAX:
            raise _full("publishes of all producers", self._producers.rows, producers.ROWS_MAX)
        return ()

    def are_new(self, session: Session, publishes: Sequence[commands.Publish]) -> bool:
        """Whether publishes have sequences that are new, there is room for, and grow from one to the next."""
        if not session.producer:
            return False
        producer = self._producers.find(session.producer)
        last = max(producer.newest, producer.answered) if producer is not None else 0
        held = len(producer.stored) if producer is not None else 0
        for publish in publishes:
            if publish.sequence <= last:
                return False
            last = publish.sequence
        return (
            held + len(publishes) <= producers.SEQUENCES_MAX
            and self._producers.rows + len(publishes) <= producers.ROWS_MAX
            and (producer is not None or len(self._producers) < producers.PRODUCERS_MAX)
        )

    def fact(self, session: Session, answered: int, now_ms: int, rows: Iterable[Row]) -> Sequenced:
        """The fact that something was stored under sequences.

        Args:
            session: whose they are.
            answered: what the command says of the answers that its client has.
            now_ms: the time.
            rows: one for each queue that a sequence went to.
        """
        return Sequenced(session.producer, answered, now_ms, tuple(rows))


def _full(what: str, count: int, limit: int) -> Refusal:
    return Refusal("unavailable", f"{count} {what} are remembered, and {limit} is the limit", retryable=True)
