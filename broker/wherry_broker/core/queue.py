"""One queue: its messages, where each stands, and exact counts.

The methods change state and decide nothing; what may happen, and when, is in `decide`. Every message that the queue
holds is in exactly one span of exactly one batch; `counts` and `sizes` are always their sums. Spans are reached
by offset (the index), by turn (priorities, and keys within each) and by time (the timers).
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from wherry_broker.core.batch import DEAD, DELAYED, GONE, LEASED, READY, Batch, Failure, Span
from wherry_broker.core.dedupe import DedupeKeys
from wherry_broker.core.families import Families
from wherry_broker.core.gates import GATE
from wherry_broker.core.index import BatchIndex
from wherry_broker.core.keys import Keys, Throttle
from wherry_broker.core.memory import SPAN_BYTES, failure_bytes, story_bytes
from wherry_broker.core.rates import Line, Meter
from wherry_broker.core.records import RELEASED, TEMPORARY_FIRST
from wherry_broker.core.residence import Residence
from wherry_broker.core.setback import limit_delay, limit_life
from wherry_broker.core.turns import UNLIMITED, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry_broker.core.batch import Envelope
    from wherry_broker.core.block import Block
    from wherry_broker.core.consumers import Consumer
    from wherry_broker.core.homes import Homes
    from wherry_broker.core.memory import Memory
    from wherry_broker.core.options import QueueOptions
    from wherry_broker.core.records import Stage
    from wherry_broker.core.timers import Timers


def _died_at(span: Span) -> int:
    assert span.failure is not None
    return span.failure.at_ms


class Queue:
    """The messages of one queue.

    Args:
        number: its number in the log.
        name: its name.
        options: its options.
        first: the offset of its first message.
        timers: where leases, delays and expiries wait.
        homes: where it is told which segments of the log hold its batches.
        memory: where it is told what it takes.
        families: where it is told what messages were sent by others.
        restoring: whether records of a log are read, until `restored`.

    Attributes:
        is_temporary: whether it ends with the session that made it.
        next_offset: the offset of the next message to come; offsets are dense and never used again.
        counts: how many messages are ready, delayed, leased and dead, by state.
        sizes: the bytes of each of these, by state.
        removed: how many messages left, by cause.
        ended: how many deliveries ended without success, by cause: failed, lost, released, rejected.
        line: who was told to come back when there is room.
        mark: the commit that the newest record of this queue goes into.
        waiting: consumers that could take a message now, in turn.
        consumers: those that are attached.
        dedupe: the keys under which batches were stored lately.
        asked: the options that somebody asked for, which no policy changes; None for all of them.
        residence: where the bytes of its batches are.
        tracked: how many of its batches are tracked.
        is_store: whether it keeps values by key, and delivers nothing.
    """

    is_store = False
    is_temporary = property(lambda self: self.number >= TEMPORARY_FIRST)

    def __init__(
        self,
        number: int,
        name: str,
        options: QueueOptions,
        first: int,
        timers: Timers,
        homes: Homes,
        memory: Memory,
        *,
        families: Families | None = None,
        restoring: bool = False,
    ) -> None:
        self.number = number
        self.name = name
        self.options = options
        self.next_offset = first
        self.counts = [0, 0, 0, 0]
        self.sizes = [0, 0, 0, 0]
        self.removed: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        self.published = Meter()
        self.settled = Meter()
        self.freed_messages = Meter()
        self.freed_bytes = Meter()
        self.line = Line()
        self.mark = 0
        self.waiting: OrderedDict[Consumer, None] = OrderedDict()
        self.consumers: dict[Consumer, None] = {}
        self.dedupe = DedupeKeys(memory)
        self.asked: frozenset[str] | None = None
        self.tracked = 0
        self.residence = Residence(homes, memory, is_logged=self.is_logged)
        self._families = families if families is not None else Families()
        self._timers = timers
        self._memory = memory
        self._index = BatchIndex()
        self._turns: list[Turns] = []
        self.keys: Keys | None = None
        self.throttle: Throttle | None = None
        self._dead: dict[Span, None] = {}
        # A log tells when deliveries end, and not when they begin: while it is read, any message that is not delayed
        # may have been delivered, and so counts as leased, by nobody and without a deadline.
        self._undelayed = LEASED if restoring else READY
        self._limit()

    @property
    def messages_held(self) -> int:
        """How many messages the queue holds, whatever their state."""
        ready, delayed, leased, dead = self.counts
        return ready + delayed + leased + dead

    @property
    def bytes_held(self) -> int:
        """The bytes of all messages that the queue holds."""
        ready, delayed, leased, dead = self.sizes
        return ready + delayed + leased + dead

    @property
    def is_logged(self) -> bool:
        """Whether a log keeps its messages."""
        return self.options.durability != "memory"

    # Messages come.

    def publish(self, first: int, block: Block, envelope: Envelope, ready_at_ms: int) -> None:
        """Stores a batch at the offsets from `first` on; it waits until `ready_at_ms` when that is not 0."""
        assert first == self.next_offset, (first, self.next_offset)
        if not self.messages_held:  # how fast it is freed is a matter of the time in which it holds something
            self.freed_messages.skip(envelope.published_at_ms)
            self.freed_bytes.skip(envelope.published_at_ms)
        batch = Batch(self, first, block, envelope, self.mark)
        span = Span(batch, first, batch.end, DELAYED if ready_at_ms else self._undelayed)
        batch.spans.append(span)
        self.next_offset = batch.end
        self._index.append(batch)
        self.residence.enter(batch)
        self._memory.take(SPAN_BYTES)
        self.tracked += envelope.tracked
        if envelope.lineage:
            self._families.add(batch)
        self.counts[span.state] += block.count
        self.sizes[span.state] += block.size
        if envelope.expires_at_ms:
            self._timers.arm(batch, envelope.expires_at_ms)
        if ready_at_ms:
            self._timers.arm(span, ready_at_ms)
        elif span.state == READY:
            self._turn(envelope.priority).append(span)

    def adopt(self, first: int, block: Block, envelope: Envelope, stages: tuple[Stage, ...]) -> None:
        """Takes what was left of an old batch, while a log is read that does not hold the old one any more."""
        batch = Batch(self, first, block, envelope)
        self._index.insert(batch)
        batch.held_bytes = sum(batch.bytes_between(stage.low, stage.high) for stage in stages)
        self.next_offset = max(self.next_offset, batch.end)
        if envelope.expires_at_ms:
            self._timers.arm(batch, envelope.expires_at_ms)
        for low, high, attempt, released, ready_at_ms, dead, failure in stages:
            span = Span(batch, low, high, DEAD if dead else DELAYED if ready_at_ms else self._undelayed)
            span.attempt, span.released = attempt, released
            self._fail(span, None if failure is None else Failure(*failure))
            batch.spans.append(span)
            self.counts[span.state] += len(span)
            self.sizes[span.state] += span.size()
            if dead:
                self._dead[span] = None
            elif ready_at_ms:
                self._timers.arm(span, ready_at_ms)
        self.residence.enter(batch)
        self._memory.take(SPAN_BYTES * len(batch.spans))
        self.tracked += envelope.tracked
        if envelope.lineage:
            self._families.add(batch)

    def rehome(self, batch: Batch, block: Block) -> None:
        """A batch was written again: it lies in the current segment now."""
        self.residence.replace(batch, block)

    def restored(self, now_ms: int) -> None:
        """The log is read to its end: what nobody has leased is ready."""
        self._undelayed = READY
        # A batch that was written again comes after what died later than its messages.
        self._dead = dict.fromkeys(sorted(self._dead, key=_died_at))
        self.dedupe.limit(now_ms + self.options.dedupe_window_ms)
        for batch in self._index.since(0):
            limit_life(self._timers, batch, now_ms)
        for span in self.spans():
            if span.state == DELAYED:
                limit_delay(self._timers, span, now_ms)
            elif span.state == LEASED:
                self._move(span, READY)
                self._turn(span.batch.envelope.priority).append(span)
        self._limit()

    # Messages are looked at.

    def batch_at(self, offset: int) -> Batch | None:
        """The batch that holds `offset`."""
        return self._index.find(offset)

    def batches_since(self, offset: int) -> Iterator[Batch]:
        """The batches that hold `offset` or later ones, in order. They must not change meanwhile."""
        return self._index.since(offset)

    def spans(self, low: int = 0, high: int | None = None) -> Iterator[Span]:
        """The spans that hold any of the offsets [low, high), in order. They must not change meanwhile."""
        return self._index.spans(low, high)

    def span_at(self, offset: int) -> Span | None:
        """The span that holds `offset`."""
        return next(self._index.spans(offset, offset + 1), None)

    def head(self, now_ms: int) -> tuple[Turns, Span, int] | None:
        """The span whose turn it is, highest priority first, with its turns; it stays.

        Returns:
            None when no message may be delivered now; else the last one is how many messages may be leased of the span.
        """
        allowed = None if self.keys is None else partial(self.keys.allowed, now_ms=now_ms)
        for turns in self._turns:
            head = turns.head(allowed)
            if head is not None:
                return turns, *head
        return None

    def may_lease(self, now_ms: int) -> int:
        """How many messages may be leased now as far as the queue's own limits go."""
        options = self.options
        count = options.max_leased - self.counts[LEASED] if options.max_leased else UNLIMITED
        if self.throttle is None or count <= 0:
            return count
        tokens = self.throttle.available(now_ms)
        if not tokens:
            self._timers.arm(self.throttle, self.throttle.next_ms())
        return min(count, tokens)

    def dead(self) -> Iterator[Span]:
        """The dead spans, the one that died first first. They must not change meanwhile."""
        return iter(self._dead)

    def oldest_published_at_ms(self) -> int | None:
        """When the oldest message that is still held was published."""
        return next((batch.envelope.published_at_ms for batch in self._index.since(0)), None)

    # Messages move.

    def lease(self, turns: Turns, count: int, consumer: Consumer, now_ms: int, lease_ms: int) -> Span:
        """Leases the first `count` messages of the span that `head` has just returned to a consumer."""
        span = turns.pop(count)
        if count < len(span):
            turns.put_back(self._cut(span, span.low + count))
        self._move(span, LEASED)
        span.consumer = consumer
        consumer.spans[span] = None
        self._timers.arm(span, now_ms + lease_ms)
        if self.throttle is not None:
            self.throttle.take(count, now_ms)
        if self.keys is not None:
            self.keys.spend(span.batch.envelope.key, count, now_ms)
        return span

    def change(self, options: QueueOptions) -> None:
        """Has other options from now on."""
        if options.dedupe_window_ms < self.options.dedupe_window_ms:
            self.dedupe.shorten(self.options.dedupe_window_ms - options.dedupe_window_ms)
        self.options = options
        self._limit()

    def refilled(self, throttle: Throttle) -> None:
        """There are tokens again."""
        self._enter(throttle.key)

    def wake(self, span: Span) -> None:
        """Makes a delayed span ready."""
        self._timers.disarm(span)
        self._move(span, self._undelayed)
        if span.state == READY:
            self._turn(span.batch.envelope.priority).put_back(span)

    def give_back(self, low: int, high: int, cause: str, ready_at_ms: int, failure: Failure | None) -> None:
        """Ends the deliveries of [low, high); the messages are ready at once, or at `ready_at_ms` if that is not 0."""
        for span in self._isolated(low, high):
            self._end_delivery(span, cause)
            span.batch.mark = self.mark
            span.released += cause == RELEASED
            self._fail(span, failure or span.failure)
            self._move(span, DELAYED if ready_at_ms else self._undelayed)
            if ready_at_ms:
                self._timers.arm(span, ready_at_ms)
            elif span.state == READY:
                self._turn(span.batch.envelope.priority).put_back(span)

    def bury(self, low: int, high: int, failure: Failure, cause: str) -> None:
        """Ends the deliveries of [low, high); the messages are dead."""
        for span in self._isolated(low, high):
            if cause == GATE:  # it has not been delivered
                self._timers.disarm(span)
            else:
                self._end_delivery(span, cause)
            self._move(span, DEAD)
            self._fail(span, failure)
            self._dead[span] = None

    def revive(self, low: int, high: int) -> None:
        """Makes the dead messages [low, high) ready, with all their attempts before them again."""
        for span in self._isolated(low, high):
            del self._dead[span]
            span.batch.mark = self.mark
            span.released = span.attempt
            self._move(span, self._undelayed)
            if span.state == READY:
                self._turn(span.batch.envelope.priority).put_back(span)

    def remove(self, low: int, high: int, cause: str, now_ms: int) -> None:
        """Takes the messages [low, high) out for good."""
        messages = freed = 0
        for span in list(self.spans(low, high)):
            batch, start, stop = span.batch, max(low, span.low), min(high, span.high)
            count, size = stop - start, batch.bytes_between(start, stop)
            self.counts[span.state] -= count
            self.sizes[span.state] -= size
            self._count_key(span, -count)
            batch.held_bytes -= size
            messages += count
            freed += size
            if start == span.low and stop == span.high:
                self._drop(span)
            elif start == span.low:
                span.low = stop
            elif stop == span.high:
                span.high = start
            else:
                self._split(span, stop)
                span.high = start
            if batch.spans:
                self.residence.compact(batch)
        if messages:
            self.removed[cause] = self.removed.get(cause, 0) + messages
            self.freed_messages.add(messages, now_ms)
            self.freed_bytes.add(freed, now_ms)

    def clear(self) -> None:
        """Takes every message out, and every timer."""
        for span in list(self.spans()):
            self._drop(span)
        for turns in self._turns:
            turns.clear()
        self.dedupe.forget()
        self._unlimit()
        self.counts = [0, 0, 0, 0]
        self.sizes = [0, 0, 0, 0]

    def extend(self, low: int, high: int, deadline_ms: int) -> None:
        """Moves the deadline of the leases of [low, high)."""
        for span in self._isolated(low, high):
            self._timers.arm(span, deadline_ms)

    def hand_over(self, low: int, high: int, consumer: Consumer) -> None:
        """Gives the leases of [low, high) to another consumer of the same client; they run on."""
        for span in self._isolated(low, high):
            assert span.consumer is not None
            del span.consumer.spans[span]
            span.consumer = consumer
            consumer.spans[span] = None

    def _turn(self, priority: int) -> Turns:
        for turns in self._turns:
            if turns.priority == priority:
                return turns
        turns = Turns(priority, self._memory)
        turns.weights = self.options.key_weights
        self._turns.append(turns)
        self._turns.sort(key=lambda each: -each.priority)
        return turns

    def _enter(self, key: str) -> None:
        """Lets a key take turns again."""
        for turns in self._turns:
            turns.enter(key)

    def _limit(self) -> None:
        """Sets up what the options limit, and counts what is leased already."""
        options = self.options
        self._unlimit()
        if self._undelayed == LEASED:
            return  # a log is read, and nothing is delivered
        self.throttle = Throttle(options.rate_per_s, self) if options.rate_per_s else None
        if Keys.limited_by(options):
            self.keys = Keys(self, self._timers, self._memory)
            for span in self.spans():
                self.keys.count(span, len(span))
        for turns in self._turns:
            turns.weights = options.key_weights
            turns.enter_all()

    def _unlimit(self) -> None:
        if self.throttle is not None:
            self._timers.disarm(self.throttle)
        if self.keys is not None:
            self.keys.clear()
        self.throttle = self.keys = None

    def _count_key(self, span: Span, count: int) -> None:
        if self.keys is not None and self.keys.count(span, count):
            self._enter(span.batch.envelope.key)

    def _move(self, span: Span, state: int) -> None:
        count, size = span.high - span.low, span.size()
        self.counts[span.state] -= count
        self.counts[state] += count
        self.sizes[span.state] -= size
        self.sizes[state] += size
        self._count_key(span, -count)
        span.state = state
        self._count_key(span, count)

    def _end_delivery(self, span: Span, cause: str) -> None:
        # Delayed: only in a log that is read, which does not say when delays end.
        assert span.state in (LEASED, DELAYED), span.state
        self._unlease(span)
        span.attempt += 1
        self.ended[cause] = self.ended.get(cause, 0) + len(span)

    def _unlease(self, span: Span) -> None:
        if span.consumer is not None:
            del span.consumer.spans[span]
            span.consumer = None
        span.progress = None
        self._timers.disarm(span)

    def _drop(self, span: Span) -> None:
        batch = span.batch
        if span.state == READY:
            span.state = GONE
            self._turn(batch.envelope.priority).discarded(batch.envelope.key)
        elif span.state == DEAD:
            del self._dead[span]
        else:
            self._unlease(span)
        span.state = GONE
        self._memory.free(SPAN_BYTES + story_bytes(span))
        del batch.spans[batch.position(span.low)]
        if not batch.spans:
            self._timers.disarm(batch)
            self._index.discard(batch)
            self.residence.leave(batch)
            self.tracked -= batch.envelope.tracked
            if batch.envelope.lineage:
                self._families.discard(batch)

    def _fail(self, span: Span, failure: Failure | None) -> None:
        self._memory.shift(failure_bytes(failure) - failure_bytes(span.failure))
        span.failure = failure

    def _cut(self, span: Span, at: int) -> Span:
        self._memory.take(SPAN_BYTES + story_bytes(span))
        return span.split(at)

    def _isolated(self, low: int, high: int) -> list[Span]:
        """The spans of [low, high), split so that none reaches beyond it."""
        result = []
        for each in list(self.spans(low, high)):
            span = self._split(each, low) if each.low < low else each
            if span.high > high:
                self._split(span, high)
            result.append(span)
        return result

    def _split(self, span: Span, at: int) -> Span:
        """Splits a span, and makes the right part known wherever the left one is."""
        right = self._cut(span, at)
        if span.state == READY:
            self._turn(span.batch.envelope.priority).put_back(right)
        elif span.state == DEAD:
            self._dead[right] = None
        elif span.timer:
            self._timers.arm(right, span.due_ms)
        if right.consumer is not None:
            right.consumer.spans[right] = None
        return right
