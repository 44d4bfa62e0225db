"""Settling: deliveries end, by what consumers say of them or because they say nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.model import commands, replies
from wherry_broker.core import bounds, decide, records
from wherry_broker.core.batch import DEAD, LEASED
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wherry_broker.core.answers import Answers
    from wherry_broker.core.batch import Batch, Span
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.queue import Queue


class Settling:
    """Ends deliveries.

    Args:
        ledger: the durable state.
        answers: where answers go.
        draw: returns a number evenly drawn from [0, 1), for jitter.
    """

    def __init__(self, ledger: Ledger, answers: Answers, draw: Callable[[], float]) -> None:
        self._ledger = ledger
        self._answers = answers
        self._draw = draw

    def settle(self, session: Session, command: commands.Settle, now_ms: int) -> None:
        """Does what a SETTLE asks for the deliveries that are really leased, and tells of the stale rest."""
        state = self._ledger.state
        queue = decide.named(state, command.queue)
        if command.again and command.request in session.recalled:
            known = session.recalled[command.request]
            self._answers.say(session, replies.Settled(((command.request, known),)), queue.mark)
            return
        try:
            verb = commands.Verb(command.verb)
        except ValueError:
            raise Refusal("invalid", f"verb {command.verb} is not within 0 to {max(commands.Verb)}") from None
        held, stale = decide.match(state, queue, command)
        if verb == commands.Verb.EXTEND:
            self._extend(queue, command, held, now_ms)
        else:
            self._ledger.apply(decide.settle(queue, command, held, now_ms, self._draw))
            self.limit_dead(queue, now_ms)
        self._ledger.dirty[queue] = None
        answer = (command.request, tuple(stale))
        if session.answers_kept:
            session.answers.append(answer)
        self._answers.say(session, replies.Settled((answer,)), queue.mark)

    def lose(self, spans: Iterable[Span], now_ms: int) -> None:
        """Ends deliveries whose consumer has gone, or let their time run out."""
        for span in spans:
            held = (decide.Held(span, span.low, span.high),)
            queue = span.batch.queue
            self._ledger.apply(decide.ended(queue, held, records.LOST, "", now_ms, lambda _: 0))
            self.limit_dead(queue, now_ms)

    def expire(self, batch: Batch, now_ms: int) -> None:
        """Takes the messages of a batch out whose time is over; those that are leased or dead stay."""
        waiting = (span for span in batch.spans if span.state not in (LEASED, DEAD))
        self._ledger.apply(decide.remove(waiting, batch.queue, records.EXPIRED, now_ms))

    def limit_dead(self, queue: Queue, now_ms: int) -> None:
        """Drops the dead that a queue has over its bound."""
        excess = queue.counts[DEAD] - queue.options.dead_max_messages
        if excess > 0:
            self._ledger.apply(bounds.dead_overflow(queue, excess, now_ms))

    def _extend(self, queue: Queue, command: commands.Settle, held: list[decide.Held], now_ms: int) -> None:
        asked_ms = command.duration_ms
        if asked_ms is not None:
            decide.check_lease(queue, asked_ms)
        for span, low, high in held:
            own_ms = span.consumer.lease_ms if span.consumer is not None else 0
            queue.extend(low, high, now_ms + (asked_ms or own_ms or queue.options.lease_ms))
