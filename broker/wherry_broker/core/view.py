"""What can be read of a queue: counts, rates, rows. Nothing here changes state."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry_broker.core.batch import DELAYED, LEASED, STATE_NAMES, Span
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from wherry.model.fields import DetailRow, QueueRow, ScheduleRow, SpanRow
    from wherry_broker.core.batch import Batch
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.schedules import Schedule
    from wherry_broker.core.state import State

PAGE_QUEUES_MAX = 100
PEEK_MESSAGES_MAX = 1_000
PEEK_BYTES_MAX = 1_048_576
PEEK_SPANS_MAX = 128
PEEK_CHARACTERS_MAX = 8_192
"""Keys and errors are part of the header, which has a limit: at four bytes a character they take half of it."""
ATTACHED_MAX = 20
"""Of how many consumers INFO tells."""
LOOK_SPANS_MAX = 10_000
"""How many spans one request looks at: a few among a million do not keep everybody waiting."""


def queue_info(queue: Queue, now_ms: int, policies: tuple[str, ...] = ()) -> dict[str, Any]:
    """Everything that INFO tells, by name; `policies` are the patterns of those that match its name."""
    ready, delayed, leased, dead = queue.counts
    oldest_at_ms = queue.oldest_published_at_ms()
    return {
        "name": queue.name,
        "ready": ready,
        "delayed": delayed,
        "leased": leased,
        "dead": dead,
        "bytes": queue.bytes_held,
        "consumers": len(queue.consumers),
        "attached": attached(queue),
        "next_offset": queue.next_offset,
        "published": queue.published.total,
        "removed": dict(queue.removed),
        "ended": dict(queue.ended),
        "publish_rate": round(queue.published.per_second(now_ms), 1),
        "settle_rate": round(queue.settled.per_second(now_ms), 1),
        "oldest_age_ms": 0 if oldest_at_ms is None else max(0, now_ms - oldest_at_ms),
        "options": queue.options.as_map(),
        "asked": tuple(sorted(queue.options.as_map() if queue.asked is None else queue.asked)),
        "policies": policies,
    }


def attached(queue: Queue) -> tuple[tuple[str, int, int], ...]:
    """What INFO tells of a queue's consumers: their clients' names, how much each holds, and would take."""
    rows: list[tuple[str, int, int]] = []
    looked = 0
    for consumer in islice(queue.consumers, ATTACHED_MAX):
        looked += len(consumer.spans)
        if looked > LOOK_SPANS_MAX:
            break
        rows.append((consumer.session.name, sum(map(len, consumer.spans)), max(0, consumer.credit)))
    return tuple(rows)


def queue_row(queue: Queue) -> QueueRow:
    """What LIST tells of one queue."""
    ready, delayed, leased, dead = queue.counts
    return (queue.name, ready, delayed, leased, dead, queue.bytes_held, len(queue.consumers))


def schedule_row(state: State, schedule: Schedule) -> ScheduleRow:
    """What SCHEDULES tells of one schedule."""
    plan, queue = schedule.plan, state.queues.get(schedule.last_queue)
    return (
        schedule.name,
        *plan[:-3],
        len(plan.message),
        schedule.paused,
        schedule.since_ms,
        schedule.next_ms,
        schedule.last_due_ms,
        schedule.last_at_ms,
        queue.name if queue is not None else "",
        schedule.last_first,
        schedule.fired,
        schedule.missed,
        schedule.skipped,
        schedule.error,
        plan.track,
    )


def span_row(span: Span) -> SpanRow:
    """What DELIVER and PEEKED tell of a span; its attempt counts the deliveries so far, with the one that runs."""
    envelope = span.batch.envelope
    return (
        span.low,
        span.high - span.low,
        span.attempt + (span.state == LEASED),
        span.released,
        envelope.published_at_ms,
        envelope.priority,
        envelope.key,
    )


def detail_row(span: Span) -> DetailRow:
    """What PEEKED tells of a span beside that."""
    reason, error, at_ms = span.failure or ("", "", 0)
    due_ms = span.due_ms if span.state in (DELAYED, LEASED) else 0
    return (STATE_NAMES[span.state], due_ms, span.batch.envelope.expires_at_ms, reason, error, at_ms)


class Selection(NamedTuple):
    """What a peek shows.

    Attributes:
        parts: each span, with the range [low, high) of its messages.
        next_offset: where to go on looking; 0 when there is nothing more.
    """

    parts: list[tuple[Span, int, int]]
    next_offset: int

    def absent(self) -> list[Batch]:
        """The batches whose bytes are in the log only."""
        return [span.batch for span, _, _ in self.parts if span.batch.block.data is None]

    def rows(self) -> tuple[SpanRow, ...]:
        """What PEEKED tells of each span first."""
        return tuple((low, high - low, *span_row(span)[2:]) for span, low, high in self.parts)

    def block(self) -> tuple[bytes, bytes]:
        """The lengths and the bytes of all messages; they must be in memory."""
        cuts = [span.batch.block.cut(low - span.batch.first, high - span.batch.first) for span, low, high in self.parts]
        return b"".join([lengths for lengths, _ in cuts]), b"".join([data for _, data in cuts])


def select(queue: Queue, state: str, first: int, limit: int) -> Selection:
    """At most `limit` messages of a state ("" for any) from the offset `first` on.

    Fewer come when more would pass PEEK_BYTES_MAX (though always the first one), PEEK_SPANS_MAX or
    PEEK_CHARACTERS_MAX, or when LOOK_SPANS_MAX spans have been looked at.

    Raises:
        Refusal: invalid, there is no such state.
    """
    if state and state not in STATE_NAMES:
        raise Refusal("invalid", f"state {state[:40]!r} is not one of {', '.join(STATE_NAMES)}", queue=queue.name)
    wanted = STATE_NAMES.index(state) if state else None
    parts: list[tuple[Span, int, int]] = []
    limit, room_bytes, characters = min(limit, PEEK_MESSAGES_MAX), PEEK_BYTES_MAX, 0
    for looked, span in enumerate(queue.spans(first)):
        low = max(span.low, first)
        if limit <= 0 or looked == LOOK_SPANS_MAX or len(parts) == PEEK_SPANS_MAX:
            return Selection(parts, low)
        if wanted is not None and span.state != wanted:
            continue
        batch = span.batch
        characters += len(batch.envelope.key) + (len(span.failure.error) if span.failure else 0)
        start = low - batch.first
        fitting = batch.block.fitting(start, min(span.high - batch.first, start + limit), room_bytes)
        if parts and (not fitting or characters > PEEK_CHARACTERS_MAX):
            return Selection(parts, low)
        high = low + max(1, fitting)
        parts.append((span, low, high))
        limit -= high - low
        room_bytes -= batch.bytes_between(low, high)
        if high < span.high:  # the next span may be smaller, but what follows may not skip any
            return Selection(parts, high)
    return Selection(parts, 0)
