"""Settling: deliveries end, by what consumers say of them or because they say nothing."""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from wherry.model import commands, replies
from wherry.model.fields import VALUE_BYTES_MAX
from wherry_broker.core import bounds, decide, records
from wherry_broker.core.batch import DEAD, LEASED
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.tracking import NO_RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wherry_broker.core.answers import Answers
    from wherry_broker.core.batch import Batch, Span
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.tracking import Results


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
        results = results_of(command, queue)
        held, stale = decide.match(state, queue, command)
        if verb == commands.Verb.EXTEND:
            self._extend(queue, command, held, now_ms)
        else:
            if results:
                bounds.check_room(state, queue.name, len(command.block))
                bounds.check_memory(state, queue.name, len(command.block), settles=True)
            self._ledger.apply(decide.settle(queue, command, held, now_ms, self._draw), results)
            self.limit_dead(queue, now_ms)
        self._ledger.dirty[queue] = None
        answer = (command.request, tuple(stale))
        if session.answers_kept:
            session.answers.append(answer)
        # It may have been done on another connection, whose answers are forgotten.
        is_unsure = command.again and stale and not (session.recalls_all and command.epoch == state.epoch)
        unsure = ((command.request, 1),) if is_unsure else ()
        self._answers.say(session, replies.Settled((answer,), unsure), queue.mark)

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
            if command.progress is not None:
                for each in queue.spans(low, high):
                    each.progress = (command.progress, command.text)


def results_of(command: commands.Settle, queue: Queue) -> Results:
    """What a SETTLE says that its messages return: a result for each of them, in their order, or none at all.

    Raises:
        Refusal: invalid, the results are not one for each message, or another verb than ACK has some; too_large, one of
            them is over the limit.
    """
    if not command.results:
        if command.block:
            raise Refusal("invalid", f"a block of {len(command.block)} bytes has no lengths", queue=queue.name)
        return NO_RESULTS
    offsets = [first + n for first, count, _ in command.deliveries for n in range(count)]
    sizes = [size for (size,) in struct.iter_unpack(">I", command.results[: len(command.results) // 4 * 4])]
    if 4 * len(sizes) != len(command.results) or len(sizes) != len(offsets) or sum(sizes) != len(command.block):
        text = f"{len(sizes)} results of {sum(sizes)} bytes are not one for each of {len(offsets)} messages"
        raise Refusal("invalid", f"{text} in a block of {len(command.block)} bytes", queue=queue.name)
    if command.verb != commands.Verb.ACK:
        raise Refusal("invalid", "only an ACK has results", queue=queue.name)
    if max(sizes, default=0) > VALUE_BYTES_MAX:
        text = f"a result of {max(sizes)} bytes is over the limit of {VALUE_BYTES_MAX} bytes"
        raise Refusal("too_large", text, queue=queue.name)
    cuts = [0, *accumulate(sizes)]
    return {
        (queue.number, offset): command.block[start:stop]
        for offset, (start, stop) in zip(offsets, pairwise(cuts), strict=True)
    }
