"""Editing: what is done to messages without a delivery: they are purged, cancelled, and taken from the dead."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from wherry.model import commands, replies
from wherry_broker.core import bounds, decide, records
from wherry_broker.core.batch import DEAD, LEASED, Span
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wherry.model.fields import Delivered, Range
    from wherry_broker.core.answers import Answers
    from wherry_broker.core.batch import Batch
    from wherry_broker.core.consumers import Consumer, Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.lookups import Lookups
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Fact


class Part(NamedTuple):
    """The messages [low, high) of a span."""

    span: Span
    low: int
    high: int


class Editing:
    """Carries out edits.

    Args:
        ledger: the durable state.
        answers: where answers go.
        lookups: where a command waits for bytes that the log has.
    """

    def __init__(self, ledger: Ledger, answers: Answers, lookups: Lookups) -> None:
        self._ledger = ledger
        self._answers = answers
        self._lookups = lookups

    def purge(self, session: Session, command: commands.Purge, now_ms: int) -> None:
        """Removes all messages of some states."""
        queue = decide.named(self._ledger.state, command.queue)
        before = queue.messages_held
        self._ledger.apply(decide.purge(queue, command.states, now_ms))
        self._answers.say(session, replies.Done(command.request, before - queue.messages_held), queue.mark)

    def cancel(self, session: Session, command: commands.Cancel, now_ms: int) -> None:
        """Removes messages whatever their state, and what they have sent; consumers that hold some are told."""
        queue = decide.named(self._ledger.state, command.queue)
        here = list(_parts(queue, command.ranges))
        descendants = self._ledger.state.families.descendants(queue.number, command.ranges)
        parts = _by_queue([*here, *_parts_of(descendants)])
        told = {each: _holders(of_queue) for each, of_queue in parts.items()}
        ranges = {each: records.joined((part.low, part.high) for part in of_queue) for each, of_queue in parts.items()}
        # At once, so that nothing dies of the end of what it waits for when it goes as well.
        self._ledger.apply(records.Removed(each.number, records.CANCELLED, ranges[each], now_ms) for each in ranges)
        for each, holders in told.items():
            for consumer, deliveries in holders.items():
                self._answers.say(consumer.session, replies.Cancelled(consumer.number, tuple(deliveries)), each.mark)
        total = sum(high - low for of_queue in ranges.values() for low, high in of_queue)
        mark = self._ledger.newest_mark if descendants else queue.mark
        self._answers.say(session, replies.Done(command.request, total), mark)

    def redrive(self, session: Session, command: commands.Redrive, now_ms: int) -> None:
        """Makes dead messages ready again, in their queue or in another one; all of them, or none when one is full."""
        state = self._ledger.state
        queue = decide.named(state, command.queue)
        target = decide.named(state, command.to) if command.to else queue
        decide.check_is_queue(target)
        parts = [part for part in _parts(queue, command.ranges) if part.span.state == DEAD]
        if target is not queue:
            if not self._lookups.has_bytes(session, command, [part.span.batch for part in parts]):
                return
            new = _moved(queue, target, parts, now_ms)
            for record in new:
                if isinstance(record, records.Published):
                    bounds.check_disk(state, target, record.block)
        else:
            parts = [part for part in parts if not _is_expired(part.span, now_ms)]
            self._check_not_counted(queue, parts)
            ranges = records.joined((part.low, part.high) for part in parts)
            new = [records.Returned(queue.number, records.REDRIVEN, ranges, 0, "", now_ms)] if ranges else []
        self._ledger.apply(new)
        total = sum(part.high - part.low for part in parts)
        self._answers.say(session, replies.Done(command.request, total), max(queue.mark, target.mark))

    def _check_not_counted(self, queue: Queue, parts: list[Part]) -> None:
        """Refuses to bring messages back that a gate has counted when they died: it would count them again."""
        for part in parts:
            for low, _, names in self._ledger.state.gates.members_between(queue.number, part.low, part.high):
                text = f"{queue.name}/{low} was counted at gate {names[0]!r} when it died; another queue may take it"
                raise Refusal("invalid", text, queue=queue.name)


def _parts(queue: Queue, ranges: tuple[Range, ...]) -> Iterator[Part]:
    """What a queue holds of ranges of offsets, in order.

    Raises:
        Refusal: invalid, ranges overlap, or they are too many messages.
    """
    decide.check_ranges(queue.name, ranges)
    for first, count in sorted(ranges):
        for span in queue.spans(first, first + count):
            yield Part(span, max(span.low, first), min(span.high, first + count))


def _parts_of(batches: Iterable[Batch]) -> Iterator[Part]:
    """What is left of batches, but for the dead."""
    for batch in batches:
        for span in batch.spans:
            if span.state != DEAD:
                yield Part(span, span.low, span.high)


def _by_queue(parts: Iterable[Part]) -> dict[Queue, list[Part]]:
    """Parts by queue, in the order of their offsets, and none twice."""
    result: dict[Queue, list[Part]] = {}
    for part in sorted(parts, key=attrgetter("low")):
        of_queue = result.setdefault(part.span.batch.queue, [])
        low = max(part.low, of_queue[-1].high) if of_queue else part.low
        if low < part.high:
            of_queue.append(part._replace(low=low))
    return result


def _holders(parts: list[Part]) -> dict[Consumer, list[Delivered]]:
    """The consumers that hold some of these messages, with their deliveries."""
    result: dict[Consumer, list[Delivered]] = {}
    for span, low, high in parts:
        if span.state == LEASED and span.consumer is not None:
            result.setdefault(span.consumer, []).append((low, high - low, span.attempt + 1))
    return result


def _is_expired(span: Span, now_ms: int) -> bool:
    expires_at_ms = span.batch.envelope.expires_at_ms
    return bool(expires_at_ms) and expires_at_ms <= now_ms


def _moved(queue: Queue, target: Queue, parts: list[Part], now_ms: int) -> list[Fact]:
    """The records that publish messages anew in another queue, and remove them from their own.

    Raises:
        Refusal: busy or too_large, not all of them fit.
    """
    if not parts:
        return []
    blocks = [part.span.batch.block.part(*_within(part)) for part in parts]
    bounds.check_all_fit(target, sum(block.count for block in blocks), sum(block.size for block in blocks), now_ms)
    new: list[Fact] = []
    first = target.next_offset
    for part, block in zip(parts, blocks, strict=True):
        ttl_ms = target.options.ttl_ms
        old = part.span.batch.envelope
        priority = min(old.priority, target.options.priorities - 1)
        expires_at_ms = now_ms + ttl_ms if ttl_ms else 0
        envelope = old._replace(published_at_ms=now_ms, expires_at_ms=expires_at_ms, priority=priority)
        new.append(records.Published(target.number, first, envelope, 0, "", block))
        first += block.count
    ranges = records.joined((part.low, part.high) for part in parts)
    return [*new, records.Removed(queue.number, records.MOVED, ranges, now_ms)]


def _within(part: Part) -> tuple[int, int]:
    first = part.span.batch.first
    return part.low - first, part.high - first
