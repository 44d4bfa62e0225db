"""Inquiring: how one message stands, or how it ended, now or once it has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from wherry.model import commands, replies
from wherry_broker.core import tracking, why
from wherry_broker.core.batch import DEAD, DELAYED, LEASED, READY, STATE_NAMES
from wherry_broker.core.lookups import LOOK_BYTES
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.stores import Store, Watch

if TYPE_CHECKING:
    from wherry_broker.core.answers import Answers
    from wherry_broker.core.batch import Batch, Span
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.lookups import Lookups
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.watching import Watching

SECOND_MS = 1_000


class Inquiring:
    """Answers who asks about messages.

    Args:
        ledger: the durable state.
        answers: where answers go.
        lookups: where a command waits for bytes that the log has.
        watching: keeps those who wait for an end.
    """

    def __init__(self, ledger: Ledger, answers: Answers, lookups: Lookups, watching: Watching) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._answers = answers
        self._lookups = lookups
        self._watching = watching

    def status(self, session: Session, command: commands.Status, now_ms: int) -> None:
        """Tells how a message stands; of a tracked one, if asked, once it has ended."""
        queue = self._state.names.get(command.queue)
        span = queue.span_at(command.offset) if queue is not None else None
        if queue is not None and span is not None:
            self._lookups.count(session, LOOK_BYTES)
            if command.wait_ms and span.state != DEAD:
                self._wait(session, command, queue, span, now_ms)
            else:
                told = replies.Told(command.request, status_of(queue, span, command.offset, now_ms))
                self._answers.say(session, told, queue.mark)
            return
        outcome = tracking.outcome_of(self._state, command.queue, command.offset)
        if outcome is None:
            raise _unknown(command)
        if self._lookups.has_bytes(session, command, [outcome]):
            self._lookups.count(session, LOOK_BYTES)
            session.answered_bytes += outcome.block.size
            self._answers.say(session, _ended(command.request, outcome), outcome.queue.mark)

    def _wait(self, session: Session, command: commands.Status, queue: Queue, span: Span, now_ms: int) -> None:
        if not span.batch.envelope.tracked:
            text = f"message {command.queue}/{command.offset} is not tracked: nobody will know how it ended"
            raise Refusal("invalid", text, queue=command.queue)
        durability = queue.options.durability
        self._ledger.apply(tracking.store_facts(self._state, durability))
        store = self._state.names[tracking.store_name(durability)]
        assert isinstance(store, Store)
        key = tracking.key_of(command.queue, command.offset)
        answer = partial(self._told_later, command)
        self._watching.wait(Watch(session, command.request, store, key, 0, answer), command.wait_ms, now_ms)

    def _told_later(self, command: commands.Status, outcome: Batch | None, now_ms: int) -> replies.Told | replies.Error:
        if outcome is not None:
            return _ended(command.request, outcome)
        queue = self._state.names.get(command.queue)
        span = queue.span_at(command.offset) if queue is not None else None
        if queue is None or span is None:  # it has ended, and that is forgotten already
            return replies.Error(command.request, "not_found", _unknown(command).text, queue=command.queue)
        return replies.Told(command.request, status_of(queue, span, command.offset, now_ms))


def _unknown(command: commands.Status) -> Refusal:
    text = f"there is no message {command.queue}/{command.offset}, and it is not remembered how it ended"
    return Refusal("not_found", text, queue=command.queue)


def _ended(request: int, outcome: Batch) -> replies.Told:
    assert outcome.block.data is not None
    status, result = tracking.read_outcome(outcome.block.data)
    return replies.Told(request, {**status, "tracked": True, "why": why.ended(status)}, result)


def status_of(queue: Queue, span: Span, offset: int, now_ms: int) -> dict[str, Any]:
    """How a message stands that its queue holds: what TOLD says of it, by name."""
    envelope = span.batch.envelope
    status: dict[str, Any] = {
        "state": STATE_NAMES[span.state],
        "tracked": envelope.tracked,
        "attempt": span.attempt + (span.state == LEASED),
        "published_at_ms": envelope.published_at_ms,
        "expires_at_ms": envelope.expires_at_ms,
        "why": why.why(queue, span, offset, now_ms),
        "history": tracking.history_of(span) if envelope.tracked else (),
    }
    if span.failure is not None:
        reason, error, at_ms = span.failure
        status |= {"reason": reason, "error": error, "failed_at_ms": at_ms}
    if span.state in (DELAYED, LEASED):
        status["due_ms"] = span.due_ms
    if span.state == LEASED:
        status |= _lease(span)
    if span.state == READY:
        status |= _place(queue, span, offset, now_ms)
    return status


def _lease(span: Span) -> dict[str, Any]:
    progress, note = span.progress or (None, "")
    worker = span.consumer.session.name if span.consumer is not None else ""
    return {
        "leased_by": worker,
        "leased_at_ms": tracking.leased_at_ms(span),
        "progress": progress,
        "note": note,
    }


def _place(queue: Queue, span: Span, offset: int, now_ms: int) -> dict[str, Any]:
    place = why.position(queue, span, offset)
    rate = queue.settled.per_second(now_ms)
    # As slow a rate as there may be after an hour of nothing says nothing.
    starts_in_ms = round(SECOND_MS * place.before / rate) if rate > 1 / SECOND_MS else None
    return {"position": place.before, "position_is_exact": place.is_exact, "starts_in_ms": starts_in_ms}
