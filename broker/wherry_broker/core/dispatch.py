"""Dispatch: who is delivered what. Ready messages meet consumers with credit, and sessions with room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry_broker.core import view
from wherry_broker.core.batch import LEASED, READY, STATE_NAMES
from wherry_broker.core.effects import Delivery, Effect
from wherry_broker.core.memory import EVENT_BYTES

if TYPE_CHECKING:
    from wherry_broker.core.consumers import Consumer, Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.queue import Queue

SPAN_BYTES_MAX = 262_144
"""A span of at most this many bytes is delivered whole whenever there is room at all; a longer one is cut to fit."""


class Dispatcher:
    """Leases what is ready to the consumers that can take it, a span each in turn.

    Args:
        ledger: the durable state, and where deliveries wait for it.

    Attributes:
        stopped: whether nothing is delivered any more.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.stopped = False
        self._ledger = ledger

    def line_up(self, consumer: Consumer) -> None:
        """Takes note that a consumer may be able to take something."""
        consumer.line_up()
        self._ledger.dirty[consumer.queue] = None

    def make_room(self, session: Session, room_bytes: int) -> None:
        """Takes note that a session can be sent `room_bytes` bytes now."""
        session.room_bytes = room_bytes
        if room_bytes <= 0:
            return
        session.answered_bytes = 0
        if session.parked:
            parked, session.parked = session.parked, {}
            for consumer in parked:
                consumer.queued = False
                self.line_up(consumer)

    def run(self, now_ms: int) -> None:
        """Leases all that can be leased in the queues that have changed."""
        dirty, self._ledger.dirty = self._ledger.dirty, {}
        for queue in dirty:
            self.run_queue(queue, now_ms)

    def run_queue(self, queue: Queue, now_ms: int) -> None:
        """Leases all that can be leased in a queue."""
        waiting, options = queue.waiting, queue.options
        while waiting and queue.counts[READY] and not options.paused and not self.stopped:
            consumer = next(iter(waiting))
            session = consumer.session
            if consumer.granted <= consumer.delivered:
                del waiting[consumer]
                consumer.queued = False
                continue
            if session.room_bytes <= 0:
                del waiting[consumer]
                session.parked[consumer] = None
                continue
            count = queue.may_lease(now_ms)
            if count <= 0 or not self._lease(queue, consumer, min(count, consumer.credit), now_ms):
                return
            waiting.move_to_end(consumer)

    def _lease(self, queue: Queue, consumer: Consumer, count: int, now_ms: int) -> bool:
        """Leases the next span, or as much of it as `count` and the session's room allow; False when none is ready."""
        head = queue.head(now_ms)
        if head is None:
            return False
        turns, span, allowed = head
        batch, session = span.batch, consumer.session
        if queue.residence.absent:
            self._ledger.pager.look_ahead(queue, span.low)
            if batch.block.data is None:
                self._ledger.pager.want(batch)
                return False
        low, high = span.low - batch.first, min(span.high, span.low + min(count, allowed)) - batch.first
        if batch.block.bytes_between(low, high) > SPAN_BYTES_MAX:
            room_bytes = max(session.room_bytes, SPAN_BYTES_MAX)
            high = low + max(1, batch.block.fitting(low, high, room_bytes))
        lease_ms = consumer.lease_ms or queue.options.lease_ms
        span = queue.lease(turns, high - low, consumer, now_ms, lease_ms)
        if batch.envelope.tracked:
            longer = span.note(now_ms, STATE_NAMES[LEASED], session.name)
            self._ledger.state.memory.shift(EVENT_BYTES * longer)
        lengths, data = batch.block.cut(low, high)
        consumer.delivered += high - low
        session.room_bytes -= len(data)
        delivery = Delivery(consumer.number, lease_ms, view.span_row(span), lengths, data)
        # In a queue with limits by key it may be the turn of a message because of what became of any other.
        mark = turns.mark = max(turns.mark, consumer.mark, batch.mark if queue.keys is None else queue.mark)
        # What is said of the queue from now on must not overtake this: not the next attempt, nor that it is settled.
        queue.mark = max(queue.mark, mark)
        self._ledger.hold(Effect(session.number, delivery), mark)
        if span.high == batch.end:
            self._ledger.pager.leased(batch)
        return True
