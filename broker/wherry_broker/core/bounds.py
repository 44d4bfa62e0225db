"""Bounds: what fits into a queue, and into the log; what has to go so that something fits, and when to come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wherry_broker.core import records
from wherry_broker.core.batch import READY
from wherry_broker.core.homes import OUTCOME_BYTES, SETTLE_BYTES
from wherry_broker.core.memory import publish_bytes
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.schedules import kept_bytes

if TYPE_CHECKING:
    from wherry_broker.core.batch import Envelope, Span
    from wherry_broker.core.block import Block
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.rates import Line
    from wherry_broker.core.records import Change, Fact, ScheduleFact
    from wherry_broker.core.state import State

RETRY_AFTER_FLOOR_MS = 20
RETRY_AFTER_CEILING_MS = 30_000
RETRY_AFTER_UNKNOWN_MS = 1_000
COMMIT_PARTS = 32
"""A part in so many of the memory is kept for what also frees some, so that it is not stopped: commits that settle."""
LOG_BYTES_A_RECORD = 1_024
"""What a log needs at most for a record, but for a block."""
LOG_BYTES_A_TARGET = 32
"""And for each queue that a batch is routed to."""
ROW_BYTES = 32
"""What it needs for each row of a Sequenced."""


class Room(NamedTuple):
    """How much of a batch fits; `busy` says why not all of it, when it is not all of it."""

    fits: int
    busy: Refusal | None


def log_cost_of(record: Change | ScheduleFact) -> int:
    """How many bytes of a log a record may take, of those records that a full disk refuses; 0 for others."""
    if isinstance(record, records.Published):
        return log_cost(record.block, tracked=record.envelope.tracked)
    if isinstance(record, records.Routed):
        return routed_cost(record.block, len(record.targets))
    if isinstance(record, records.Sequenced):
        return LOG_BYTES_A_RECORD + ROW_BYTES * len(record.rows)
    if isinstance(record, records.Scheduled):
        return kept_bytes(record.name, record.plan)
    return LOG_BYTES_A_RECORD if isinstance(record, records.Declared | records.Fired) else 0


def log_cost(block: Block, *, tracked: bool = False) -> int:
    """How many bytes of a log a publish may take at most: its block, its head, and the records that end it."""
    end_bytes = SETTLE_BYTES + OUTCOME_BYTES * tracked
    return block.size + len(block.lengths) + LOG_BYTES_A_RECORD + end_bytes * block.count


def routed_cost(block: Block, targets: int) -> int:
    """The same of one block that is stored for several queues, which end its messages each for itself."""
    more = LOG_BYTES_A_TARGET + SETTLE_BYTES * block.count
    return log_cost(block) + (targets - 1) * more + LOG_BYTES_A_TARGET


def check_disk(state: State, queue: Queue, block: Block, *, tracked: bool = False) -> None:
    """Refuses a publish while the log still has room for the settles of what it holds.

    Raises:
        Refusal: busy, the disk is (nearly) full.
    """
    if queue.is_logged:
        check_room(state, queue.name, log_cost(block, tracked=tracked))


def check_room(state: State, queue: str, cost: int) -> None:
    """Refuses what would take `cost` bytes of the log's disk, of which it needs the rest to settle what it holds.

    Raises:
        Refusal: busy, the disk is (nearly) full.
    """
    room_bytes = state.homes.room_bytes
    if room_bytes is not None and cost > room_bytes:
        raise Refusal(
            "busy",
            f"the disk of the log is full: it takes {max(room_bytes, 0)} bytes more, and this needs {cost}",
            retry_after_ms=RETRY_AFTER_UNKNOWN_MS,
            retryable=True,
            queue=queue,
            bound="disk",
        )


def memory_cost(record: records.Published) -> int:
    """How much memory a publish takes at most."""
    block, envelope = record.block, record.envelope
    return publish_bytes(block.size, block.count, envelope.key, record.dedupe, len(envelope.lineage))


def check_broker(
    state: State, queue: Queue, block: Block, envelope: Envelope, dedupe: str, *, settles: bool = False
) -> None:
    """Refuses a publish for what all queues share: the disk of the log, and the memory.

    Args:
        state: all queues.
        queue: where it is published.
        block: the messages.
        envelope: what they share.
        dedupe: the key under which they are remembered.
        settles: whether something goes in their place.

    Raises:
        Refusal: busy, the disk or the memory is (nearly) full; too_large, the memory could never hold it.
    """
    check_disk(state, queue, block, tracked=envelope.tracked)
    cost = publish_bytes(block.size, block.count, envelope.key, dedupe, len(envelope.lineage))
    check_memory(state, queue.name, cost, settles=settles)


def check_memory(state: State, queue: str, cost: int, *, settles: bool = False) -> None:
    """Refuses what would take `cost` bytes of memory.

    Args:
        state: all queues.
        queue: what is published where, or declared.
        cost: how much that takes.
        settles: whether deliveries end at the same time, or something else goes.

    Raises:
        Refusal: busy, the memory is full; too_large, it could never hold that.
    """
    memory = state.memory
    over = memory.held_bytes + cost - memory.bytes_max
    if not settles:
        over += memory.bytes_max // COMMIT_PARTS
    if over <= 0:
        return
    text = f"{cost} bytes more are needed of the broker's memory, and memory_bytes_max is {memory.bytes_max}"
    if over > memory.held_bytes:
        raise Refusal("too_large", text, queue=queue, bound="memory")
    after_ms = retry_after_ms(memory.line, over, cost, memory.freed_per_second, memory.seen_ms)
    raise Refusal(
        "busy",
        f"the broker's memory is full: what is stored takes {memory.held_bytes} bytes of it; {text}",
        retry_after_ms=after_ms,
        retryable=True,
        queue=queue,
        bound="memory",
        line=memory.line,
        line_ms=memory.seen_ms + after_ms,
    )


def check_dedupe(queue: Queue, now_ms: int, more: int = 0) -> None:
    """Refuses one more dedupe key than a queue remembers at a time, when `more` others come with it.

    Raises:
        Refusal: busy, there are too many, none of which may be forgotten yet.
    """
    until_ms = queue.dedupe.full_until_ms(now_ms, more)
    if until_ms:
        raise Refusal(
            "busy",
            f"queue {queue.name!r} remembers {len(queue.dedupe)} dedupe keys, and no more at a time",
            retry_after_ms=_limited(until_ms - now_ms),
            retryable=True,
            queue=queue.name,
            bound="dedupe_keys",
        )


def retry_after_ms(line: Line, missing: int, more: int, per_second: float, now_ms: int) -> int:
    """When to come back, by how fast it is freed and who else waits; a guess when that is not known; within limits."""
    return _limited(line.wait_ms(missing, more, per_second, now_ms) if per_second > 0 else RETRY_AFTER_UNKNOWN_MS)


def _limited(ms: float) -> int:
    # A rate of an hour ago is so small that a wait may be no finite number.
    return round(max(RETRY_AFTER_FLOOR_MS, min(ms, RETRY_AFTER_CEILING_MS)))


def room(queue: Queue, block: Block, now_ms: int, *, divisible: bool) -> Room:
    """How much of a block fits into the queue's bounds; a block that is not divisible fits whole or not at all.

    Raises:
        Refusal: too_large, it would not fit into the empty queue.
    """
    options = queue.options
    spare_messages = options.max_messages - queue.messages_held
    spare_bytes = options.max_bytes - queue.bytes_held
    if block.count <= spare_messages and block.size <= spare_bytes:
        return Room(block.count, None)
    _check_can_ever_fit(queue, block, divisible=divisible)
    count = 0
    if divisible and spare_bytes >= 0:  # less than 0 after an ALTER: then not even an empty message fits
        count = block.fitting(0, max(0, min(block.count, spare_messages)), spare_bytes)
    by_messages = block.count > spare_messages and (not divisible or count == max(0, spare_messages))
    taken = (count, block.bytes_between(0, count) if count else 0)
    return Room(count, busy(queue, block.count, block.size, now_ms, by_messages=by_messages, taken=taken))


def _check_can_ever_fit(queue: Queue, block: Block, *, divisible: bool) -> None:
    check_amount(queue, *((1, block.ends[0]) if divisible else (block.count, block.size)))


def check_amount(queue: Queue, count: int, size: int) -> None:
    """Refuses so many messages, of so many bytes, when not even the empty queue would take them.

    Raises:
        Refusal: too_large, it would not.
    """
    options = queue.options
    for amount, unit, bound in ((count, "messages", "max_messages"), (size, "bytes", "max_bytes")):
        limit = getattr(options, bound)
        if amount > limit:
            text = f"{amount} {unit} at once are over the bound of queue {queue.name!r}: {bound} is {limit}"
            raise Refusal("too_large", text, queue=queue.name, bound=bound)


def busy(
    queue: Queue, count: int, size: int, now_ms: int, *, by_messages: bool, taken: tuple[int, int] = (0, 0)
) -> Refusal:
    """The refusal of so many messages and bytes, or of the rest, with the time after which that is expected to fit.

    The time is what is missing divided by the rate at which the queue has been freed lately, after those who were told
    to come back before. Of what is missing, it makes no difference whether a part has been stored: the rest is smaller
    by as much as the queue is fuller.

    Args:
        queue: what is full.
        count: how many messages came.
        size: how many bytes they have.
        now_ms: the time.
        by_messages: whether the bound on messages is reached, and not that on bytes.
        taken: how many of the messages are stored all the same, and their bytes.
    """
    options = queue.options
    if by_messages:
        bound, held, limit, meter = "max_messages", queue.messages_held, options.max_messages, queue.freed_messages
        more, unit, rest = count, "messages", count - taken[0]
    else:
        bound, held, limit, meter = "max_bytes", queue.bytes_held, options.max_bytes, queue.freed_bytes
        more, unit, rest = size, "bytes", size - taken[1]
    after_ms = retry_after_ms(queue.line, held + more - limit, rest, meter.per_second(now_ms), now_ms)
    return Refusal(
        "busy",
        f"queue {queue.name!r} is full: it holds {held} {unit}, {more} more came, and {bound} is {limit}",
        retry_after_ms=after_ms,
        retryable=True,
        queue=queue.name,
        bound=bound,
        line=queue.line,
        line_ms=now_ms + after_ms,
    )


def check_all_fit(
    queue: Queue, count: int, size: int, now_ms: int, freed_messages: int = 0, freed_bytes: int = 0
) -> None:
    """Refuses so many messages, of so many bytes, unless a queue takes them all once it is freed of others.

    Raises:
        Refusal: busy, it is too full; too_large, even empty it could not take them.
    """
    options = queue.options
    more, more_bytes = count - freed_messages, size - freed_bytes
    over_messages = queue.messages_held + more > options.max_messages
    if over_messages or queue.bytes_held + more_bytes > options.max_bytes:
        check_amount(queue, count, size)
        raise busy(queue, more, more_bytes, now_ms, by_messages=over_messages)


def drop_oldest(queue: Queue, count: int, size: int, now_ms: int) -> list[Fact]:
    """The oldest ready messages that must go so that so many more, of so many bytes, fit.

    None when they fit as it is, or would not even then.
    """
    options = queue.options
    messages = queue.messages_held + count - options.max_messages
    size += queue.bytes_held - options.max_bytes
    if options.overflow != "drop_oldest" or messages > queue.counts[READY] or size > queue.sizes[READY]:
        return []
    ranges: list[tuple[int, int]] = []
    for span in queue.spans():
        if messages <= 0 and size <= 0:
            break
        if span.state == READY:
            count = _count_to_drop(span, messages, size)
            ranges.append((span.low, span.low + count))
            messages -= count
            size -= span.batch.bytes_between(span.low, span.low + count)
    return [records.Removed(queue.number, records.DROPPED, records.joined(ranges), now_ms)] if ranges else []


def _count_to_drop(span: Span, messages: int, size: int) -> int:
    """How many messages of a span make room for so many messages and bytes, or all of them."""
    batch = span.batch
    low, high = span.low - batch.first, span.high - batch.first
    count = max(messages, 0)
    if size > 0:
        count = max(count, batch.block.covering(low, high, size))
    return min(count, len(span))


def dead_overflow(queue: Queue, excess: int, now_ms: int) -> list[Fact]:
    """The messages that have been dead for longest, out, as many as are over `dead_max_messages`."""
    ranges = []
    for span in queue.dead():
        if excess <= 0:
            break
        count = min(excess, len(span))
        ranges.append((span.low, span.low + count))
        excess -= count
    return [records.Removed(queue.number, records.DROPPED, tuple(ranges), now_ms)] if ranges else []
