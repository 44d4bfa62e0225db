"""Attendance: consumers come, ask for more, and go. What they are delivered is the dispatcher's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.model import commands, replies
from wherry_broker.core import decide, records
from wherry_broker.core.consumers import Consumer
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from wherry.model.fields import Range
    from wherry_broker.core.answers import Answers
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.dispatch import Dispatcher
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.queue import Queue


CONSUMERS_MAX = 10_000
"""How many consumers one session has at a time."""


class Attendance:
    """Attaches consumers to queues, and detaches them.

    Args:
        ledger: the durable state.
        answers: where answers go.
        dispatcher: told who can take something.
    """

    def __init__(self, ledger: Ledger, answers: Answers, dispatcher: Dispatcher) -> None:
        self._ledger = ledger
        self._answers = answers
        self._dispatcher = dispatcher

    def check_free(self, session: Session, command: commands.Consume) -> None:
        """Refuses a consumer whose number is taken, and one too many.

        Raises:
            Refusal: invalid, the session has one of that number; unavailable, it has too many.
        """
        if command.consumer in session.consumers:
            raise Refusal("invalid", f"consumer {command.consumer} is attached already", queue=command.queue)
        if len(session.consumers) >= CONSUMERS_MAX:
            text = f"this connection has {CONSUMERS_MAX} consumers, which is the limit"
            raise Refusal("unavailable", text, queue=command.queue, retryable=True)

    def consume(self, session: Session, queue: Queue, command: commands.Consume, now_ms: int) -> None:
        """Attaches a consumer to a queue."""
        decide.check_is_queue(queue)
        if command.lease_ms:
            decide.check_lease(queue, command.lease_ms)
        mark = self._ledger.newest_mark
        consumer = Consumer(session, command.consumer, queue, command.credit, command.lease_ms, mark)
        session.consumers[command.consumer] = consumer
        queue.consumers[consumer] = None
        stale: tuple[Range, ...] = ()
        if command.held or command.consumer in session.left:
            stale = self._take_over(session, consumer, command, now_ms)
            mark = consumer.mark = max(mark, queue.mark)
        self._answers.say(session, replies.Done(command.request, 0, stale), mark)
        self._dispatcher.line_up(consumer)
        self._dispatcher.run_queue(queue, now_ms)

    def _take_over(
        self, session: Session, consumer: Consumer, command: commands.Consume, now_ms: int
    ) -> tuple[Range, ...]:
        """Gives a consumer that is attached again what it holds; what was lost on the way to it is ready again.

        Returns:
            What it holds no longer.
        """
        queue = consumer.queue
        old = session.left.pop(command.consumer, None)
        asked = commands.Settle(command.request, queue.name, commands.Verb.RELEASE, command.epoch, command.held)
        parts, stale = decide.match(self._ledger.state, queue, asked)
        mine = [part for part in parts if old is not None and part.span.consumer is old]
        stale += [(low, high - low) for span, low, high in parts if old is None or span.consumer is not old]
        for _, low, high in mine:
            queue.hand_over(low, high, consumer)
        rest = [decide.Held(span, span.low, span.high) for span in old.spans] if old is not None else []
        if old is not None and rest:
            self._ledger.apply(decide.ended(old.queue, rest, records.RELEASED, "", now_ms, lambda _: 0))
            self._ledger.dirty[old.queue] = None
        return tuple(stale)

    def credit(self, session: Session, command: commands.Credit, _now_ms: int) -> None:
        """Raises the credit of a consumer."""
        consumer = session.consumers.get(command.consumer)
        if consumer is not None:  # it may have been stopped while the credit was on its way
            consumer.granted = max(consumer.granted, command.total)
            self._dispatcher.line_up(consumer)

    def stop(self, session: Session, command: commands.Stop, _now_ms: int) -> None:
        """Detaches a consumer that asks for it; its leases go on."""
        consumer = session.consumers.get(command.consumer)
        if consumer is None or not consumer.attached:
            raise Refusal("not_found", f"there is no consumer {command.consumer}")
        session.retire(consumer)
        mark = max(consumer.mark, consumer.queue.mark)
        self._answers.say(session, replies.Done(command.request, consumer.delivered), mark)

    def dismiss(self, queue: Queue, code: str, text: str, mark: int) -> None:
        """Detaches all consumers of a queue, and tells them why."""
        for consumer in list(queue.consumers):
            self._dismiss(consumer, code, text, mark)

    def dismiss_session(self, session: Session, code: str, text: str) -> None:
        """Detaches all consumers of a session, and tells them why."""
        for consumer in list(session.consumers.values()):
            self._dismiss(consumer, code, text, max(consumer.mark, consumer.queue.mark))

    def _dismiss(self, consumer: Consumer, code: str, text: str, mark: int) -> None:
        consumer.session.retire(consumer)
        self._answers.say(consumer.session, replies.Stopped(consumer.number, code, text), mark)
