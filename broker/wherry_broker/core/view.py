"""What can be read of a queue: counts, rates, rows. Nothing here changes state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry_broker.core.batch import LEASED, STATE_NAMES
from wherry_broker.core.decide import Refusal

if TYPE_CHECKING:
    from wherry.model.fields import QueueRow, SpanRow
    from wherry_broker.core.batch import Batch, Span
    from wherry_broker.core.queue import Queue

PAGE_QUEUES_MAX = 100
PEEK_MESSAGES_MAX = 1_000
PEEK_BYTES_MAX = 1_048_576
PEEK_SPANS_MAX = 128
PEEK_KEY_CHARACTERS_MAX = 8_192
"""Keys are part of the header, which has a limit: at four bytes a character they take half of it."""


def queue_info(queue: Queue, now_ms: int) -> dict[str, Any]:
    """Everything that INFO tells, by name."""
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
        "next_offset": queue.next_offset,
        "published": queue.published.total,
        "removed": dict(queue.removed),
        "publish_rate": round(queue.published.per_second(now_ms), 1),
        "settle_rate": round(queue.settled.per_second(now_ms), 1),
        "oldest_age_ms": 0 if oldest_at_ms is None else max(0, now_ms - oldest_at_ms),
        "options": queue.options.as_map(),
    }


def queue_row(queue: Queue) -> QueueRow:
    """What LIST tells of one queue."""
    ready, delayed, leased, dead = queue.counts
    return (queue.name, ready, delayed, leased, dead, queue.bytes_held, len(queue.consumers))


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


def absent(queue: Queue, state: str, first: int, limit: int) -> list[Batch]:
    """The batches that `peek` would show and whose bytes are in the log only."""
    if not queue.absent or state not in STATE_NAMES:
        return []
    wanted, result, size, left = STATE_NAMES.index(state), [], 0, min(limit, PEEK_MESSAGES_MAX)
    for span in queue.spans(first):
        if left <= 0 or size > PEEK_BYTES_MAX:
            break
        if span.state == wanted:
            left -= span.high - max(span.low, first)
            size += span.size()
            if span.batch.block.data is None:
                result.append(span.batch)
    return result


def peek(queue: Queue, state: str, first: int, limit: int) -> tuple[tuple[SpanRow, ...], bytes, bytes]:
    """At most `limit` messages of a state from the offset `first` on: their rows, lengths and bytes.

    Fewer come when more would pass PEEK_BYTES_MAX (though always the first one), PEEK_SPANS_MAX or
    PEEK_KEY_CHARACTERS_MAX.

    Raises:
        Refusal: invalid, there is no such state.
    """
    if state not in STATE_NAMES:
        raise Refusal("invalid", f"state {state[:40]!r} is not one of {', '.join(STATE_NAMES)}", queue=queue.name)
    wanted, room_bytes = STATE_NAMES.index(state), PEEK_BYTES_MAX
    limit = min(limit, PEEK_MESSAGES_MAX)
    keys = 0
    rows: list[SpanRow] = []
    parts: list[tuple[bytes, bytes]] = []
    for span in queue.spans(first):
        if limit <= 0 or len(rows) == PEEK_SPANS_MAX:
            break
        if span.state != wanted:
            continue
        keys += len(span.batch.envelope.key)
        if keys > PEEK_KEY_CHARACTERS_MAX:
            break
        low = max(span.low, first) - span.batch.first
        high = min(span.high - span.batch.first, low + limit)
        fitting = span.batch.block.fitting(low, high, room_bytes) or (0 if parts else 1)
        if not fitting:
            break
        lengths, data = span.batch.block.cut(low, low + fitting)
        row = span_row(span)
        rows.append((span.batch.first + low, fitting, *row[2:]))
        parts.append((lengths, data))
        limit -= fitting
        room_bytes -= len(data)
        if low + fitting < high:  # the next span may be smaller, but what follows may not skip any
            break
    return tuple(rows), b"".join(lengths for lengths, _ in parts), b"".join(data for _, data in parts)
