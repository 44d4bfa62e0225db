"""Policy: what a command leads to. Everything here reads state and returns records; nothing is changed.

A refusal is an exception, so that a decision is either whole or nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wherry.model.commands import Verb
from wherry.model.fields import BATCH_MESSAGES_MAX
from wherry_broker.core import records
from wherry_broker.core.batch import DEAD, LEASED, READY, STATE_NAMES, Envelope, Failure, Span
from wherry_broker.core.block import Block
from wherry_broker.core.homes import SETTLE_BYTES
from wherry_broker.core.options import InvalidOption, QueueOptions, checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wherry.model import commands
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Fact, Ranges
    from wherry_broker.core.state import State

RETRY_AFTER_FLOOR_MS = 20
RETRY_AFTER_CEILING_MS = 30_000
RETRY_AFTER_UNKNOWN_MS = 1_000
LOG_BYTES_A_RECORD = 1_024
"""What a log needs at most for a record, but for a block."""

FIXED_OPTIONS = frozenset({"durability"})
"""What a queue is made with: whether a log holds its messages cannot change while it has some."""
ATTEMPTS, REJECTED = "attempts", "rejected"


class Refusal(Exception):
    """The command is refused. The arguments are fields of `wherry.model.replies.Error`."""

    def __init__(
        self,
        code: str,
        text: str,
        *,
        retry_after_ms: int = 0,
        queue: str = "",
        bound: str = "",
        retryable: bool = False,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.queue = queue
        self.bound = bound


class Room(NamedTuple):
    """How much of a batch fits; `busy` says why not all of it, when it is not all of it."""

    fits: int
    busy: Refusal | None


def named(state: State, name: str) -> Queue:
    """The queue of a name.

    Raises:
        Refusal: not_found, there is none.
    """
    queue = state.names.get(name)
    if queue is None:
        raise Refusal("not_found", f"there is no queue {name!r}", queue=name)
    return queue


# Queues.


def declare(state: State, name: str, given: dict[str, object], defaults: QueueOptions) -> list[Fact]:
    """A queue with these options; nothing when it has them already.

    Raises:
        Refusal: invalid, an option is unknown or out of range; exists_differently, the queue has other options; busy,
            the disk is (nearly) full.
    """
    queue = state.names.get(name)
    try:
        if queue is None:
            options = defaults.changed(given)
            _check_level(options.durability, defaults.durability)
            _check_room(state, name, LOG_BYTES_A_RECORD)
            return [records.Declared(state.next_number, name, options.as_map(), state.next_first)]
        differing = queue.options.differing(given)
    except InvalidOption as error:
        raise Refusal("invalid", str(error), queue=name) from error
    if differing:
        parts = ", ".join(f"{key} is {mine!r}, not {asked!r}" for key, (mine, asked) in differing.items())
        raise Refusal("exists_differently", f"queue {name!r} exists with other options: {parts}", queue=name)
    return []


def _check_level(level: str, highest: str) -> None:
    levels = ("memory", "written", "synced", "replicated")
    if levels.index(level) > levels.index(highest):
        raise InvalidOption(f"durability {level!r} is more than this broker's log gives, which is {highest!r}")


def alter(queue: Queue, given: dict[str, object], now_ms: int) -> list[Fact]:
    """Other options for a queue, and what no longer fits them; nothing when it has them already.

    Raises:
        Refusal: invalid, an option is unknown, out of range, or cannot be changed.
    """
    try:
        differing = queue.options.differing(given)
    except InvalidOption as error:
        raise Refusal("invalid", str(error), queue=queue.name) from error
    for name in FIXED_OPTIONS & set(differing):
        text = f"{name} of a queue cannot be changed: {queue.name!r} has {differing[name][0]!r}"
        raise Refusal("invalid", text, queue=queue.name)
    if not differing:
        return []
    changes = {name: asked for name, (_, asked) in differing.items()}
    excess = queue.counts[DEAD] - queue.options.changed(changes).dead_max_messages
    return [records.Changed(queue.number, changes), *dead_overflow(queue, excess, now_ms)]


def pause(queue: Queue, *, paused: bool) -> list[Fact]:
    """Stops or starts the deliveries of a queue."""
    return [records.Changed(queue.number, {"paused": paused})] if queue.options.paused != paused else []


def purge(queue: Queue, states: Iterable[str], now_ms: int) -> list[Fact]:
    """All messages of some states, out.

    Raises:
        Refusal: invalid, a state is unknown, or cannot be purged.
    """
    purgeable = [name for name in STATE_NAMES if name != "leased"]
    for name in states:
        if name not in purgeable:
            raise Refusal(
                "invalid", f"state {name[:40]!r} cannot be purged; {', '.join(purgeable)} can", queue=queue.name
            )
    wanted = {STATE_NAMES.index(name) for name in states}
    return remove((span for span in queue.spans() if span.state in wanted), queue, records.PURGED, now_ms)


def remove(spans: Iterable[Span], queue: Queue, cause: str, now_ms: int) -> list[Fact]:
    """One record that takes all of these spans out; none when there are none."""
    ranges = joined((span.low, span.high) for span in spans)
    return [records.Removed(queue.number, cause, ranges, now_ms)] if ranges else []


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same ranges with neighbours made one; they come in order."""
    result: list[tuple[int, int]] = []
    for low, high in ranges:
        if result and result[-1][1] == low:
            result[-1] = (result[-1][0], high)
        else:
            result.append((low, high))
    return tuple(result)


# Publish.


def envelope_of(queue: Queue, command: commands.Publish, now_ms: int) -> tuple[Envelope, int]:
    """The envelope of a publish, and when its messages become ready (0 for at once).

    Raises:
        Refusal: invalid, the priority is not one of the queue's, or the time to live ends before the delay.
    """
    options = queue.options
    if command.priority >= options.priorities:
        raise Refusal(
            "invalid", f"priority {command.priority} is not within 0 to {options.priorities - 1}", queue=queue.name
        )
    ready_at_ms = max(command.at_ms, now_ms + command.delay_ms)
    ttl_ms = min(filter(None, (command.ttl_ms, options.ttl_ms)), default=0)
    expires_at_ms = now_ms + ttl_ms if ttl_ms else 0
    if ready_at_ms <= now_ms:
        ready_at_ms = 0
    elif expires_at_ms and ready_at_ms >= expires_at_ms:
        delay_ms = ready_at_ms - now_ms
        raise Refusal("invalid", f"ttl {ttl_ms} ms ends before the delay of {delay_ms} ms does", queue=queue.name)
    return Envelope(now_ms, expires_at_ms, command.priority, command.key), ready_at_ms


def block_of(command: commands.Publish) -> Block:
    """The block of a publish.

    Raises:
        Refusal: invalid, the lengths do not add up to the block.
    """
    block = Block(command.lengths, command.block)
    if not block.is_sound():
        raise Refusal(
            "invalid", f"the lengths of {block.count} messages do not add up to a block of {block.size} bytes"
        )
    return block


def log_cost_of(record: Fact) -> int:
    """How many bytes of a log a record may take, of those records that a full disk refuses; 0 for others."""
    if isinstance(record, records.Published):
        return log_cost(record.block)
    return LOG_BYTES_A_RECORD if isinstance(record, records.Declared) else 0


def log_cost(block: Block) -> int:
    """How many bytes of a log a publish may take at most: its block, its head, and the records that end it."""
    return block.size + len(block.lengths) + LOG_BYTES_A_RECORD + SETTLE_BYTES * block.count


def check_disk(state: State, queue: Queue, block: Block) -> None:
    """Refuses a publish while the log still has room for the settles of what it holds.

    Raises:
        Refusal: busy, the disk is (nearly) full.
    """
    if queue.is_logged:
        _check_room(state, queue.name, log_cost(block))


def _check_room(state: State, queue: str, cost: int) -> None:
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
    return Room(count, busy(queue, block.count, block.size, now_ms, by_messages=by_messages))


def _check_can_ever_fit(queue: Queue, block: Block, *, divisible: bool) -> None:
    _check_amount(queue, *((1, block.ends[0]) if divisible else (block.count, block.size)))


def _check_amount(queue: Queue, count: int, size: int) -> None:
    options = queue.options
    for amount, unit, bound in ((count, "messages", "max_messages"), (size, "bytes", "max_bytes")):
        limit = getattr(options, bound)
        if amount > limit:
            text = f"{amount} {unit} at once are over the bound of queue {queue.name!r}: {bound} is {limit}"
            raise Refusal("too_large", text, queue=queue.name, bound=bound)


def busy(queue: Queue, count: int, size: int, now_ms: int, *, by_messages: bool) -> Refusal:
    """The refusal of so many messages and bytes, or of the rest, with the time after which that is expected to fit.

    The time is what is missing divided by the rate at which the queue has been freed lately. Whether a part has been
    stored makes no difference: the rest is smaller by as much as the queue is fuller.
    """
    options = queue.options
    if by_messages:
        bound, held, limit, meter = "max_messages", queue.messages_held, options.max_messages, queue.freed_messages
        more, unit = count, "messages"
    else:
        bound, held, limit, meter = "max_bytes", queue.bytes_held, options.max_bytes, queue.freed_bytes
        more, unit = size, "bytes"
    rate = meter.per_second(now_ms)
    # A rate of an hour ago is so small that the division has no finite result.
    wait_ms = min(1000 * (held + more - limit) / rate, RETRY_AFTER_CEILING_MS) if rate > 0 else RETRY_AFTER_UNKNOWN_MS
    return Refusal(
        "busy",
        f"queue {queue.name!r} is full: it holds {held} {unit}, {more} more came, and {bound} is {limit}",
        retry_after_ms=max(round(wait_ms), RETRY_AFTER_FLOOR_MS),
        retryable=True,
        queue=queue.name,
        bound=bound,
    )


def check_all_fit(queue: Queue, count: int, size: int, now_ms: int) -> None:
    """Refuses so many messages, of so many bytes, unless a queue takes them all.

    Raises:
        Refusal: busy, it is too full; too_large, even empty it could not take them.
    """
    options = queue.options
    over_messages = queue.messages_held + count > options.max_messages
    if over_messages or queue.bytes_held + size > options.max_bytes:
        _check_amount(queue, count, size)
        raise busy(queue, count, size, now_ms, by_messages=over_messages)


def drop_oldest(queue: Queue, block: Block, now_ms: int) -> list[Fact]:
    """The oldest ready messages that must go so that a block fits; none when it fits, or even that would not help."""
    options = queue.options
    messages = queue.messages_held + block.count - options.max_messages
    size = queue.bytes_held + block.size - options.max_bytes
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
    return [records.Removed(queue.number, records.DROPPED, joined(ranges), now_ms)] if ranges else []


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


# Settle.


class Held(NamedTuple):
    """A range of leased messages of one span."""

    span: Span
    low: int
    high: int


def match(state: State, queue: Queue, command: commands.Settle) -> tuple[list[Held], list[tuple[int, int]]]:
    """The deliveries that a SETTLE names: what is really leased under that attempt, and the stale rest.

    Returns:
        The held ranges, and the stale ones as (first, count).

    Raises:
        Refusal: invalid, ranges overlap, or they are too many messages.
    """
    held: list[Held] = []
    stale: list[tuple[int, int]] = []
    check_ranges(queue, command.deliveries)
    for first, count, attempt in command.deliveries:
        position, end = first, first + count
        for span in queue.spans(first, end) if command.epoch == state.epoch else ():
            if span.state != LEASED or span.attempt + 1 != attempt:
                continue
            low, high = max(span.low, first), min(span.high, end)
            if low > position:
                stale.append((position, low - position))
            held.append(Held(span, low, high))
            position = high
        if position < end:
            stale.append((position, end - position))
    return held, stale


def check_lease(queue: Queue, lease_ms: int) -> None:
    """Holds how long a lease is to run to the range of the queue option of that name.

    Raises:
        Refusal: invalid, it is out of range.
    """
    try:
        checked("lease_ms", lease_ms)
    except InvalidOption as error:
        raise Refusal("invalid", str(error), queue=queue.name) from error


def check_ranges(queue: Queue, ranges: Sequence[tuple[int, ...]]) -> None:
    """Checks ranges of offsets that stand in one command: each begins with its first offset and its count.

    Raises:
        Refusal: invalid, ranges overlap, or they are too many messages.
    """
    total = sum(each[1] for each in ranges)
    if total > BATCH_MESSAGES_MAX:
        text = f"{total} messages in one command are over the limit of {BATCH_MESSAGES_MAX}"
        raise Refusal("invalid", text, queue=queue.name)
    end = 0
    for first, count, *_ in sorted(ranges) if len(ranges) > 1 else ():
        if first < end:
            raise Refusal("invalid", f"offset {first} stands in two ranges of one command", queue=queue.name)
        end = first + count


def settle(
    queue: Queue, command: commands.Settle, held: list[Held], now_ms: int, draw: Callable[[], float]
) -> list[Fact]:
    """What ends the deliveries of the held ranges by the command's verb (EXTEND ends none)."""
    verb, text = command.verb, command.text
    ranges = joined((each.low, each.high) for each in held)
    if not ranges:
        return []
    if verb == Verb.ACK:
        return [records.Removed(queue.number, records.SETTLED, ranges, now_ms)]
    if verb == Verb.REJECT:
        return [records.Died(queue.number, ranges, Failure(REJECTED, text, now_ms))]
    if verb == Verb.RELEASE:
        return ended(queue, held, records.RELEASED, "", now_ms, lambda _: 0)

    def back_off_ms(attempts: int) -> int:
        if command.duration_ms is not None:
            return command.duration_ms
        return int(draw() * back_off_max_ms(queue.options, attempts))

    return ended(queue, held, records.FAILED, text, now_ms, back_off_ms)


def back_off_max_ms(options: QueueOptions, attempts: int) -> int:
    """The longest delay before the next attempt, after `attempts` of them: exponential, capped."""
    # The exponent is capped where any base is past any cap, so that a large count does not overflow a float.
    return int(min(options.retry_cap_ms, options.retry_base_ms * options.retry_factor ** min(attempts - 1, 64)))


def ended(
    queue: Queue, held: Iterable[Held], cause: str, text: str, now_ms: int, delay_ms: Callable[[int], int]
) -> list[Fact]:
    """What becomes of messages whose delivery ended without success.

    They are dead when their attempts are exhausted, expired when their time has passed, and wait again otherwise.

    Args:
        queue: their queue.
        held: what was leased.
        cause: failed, lost or released.
        text: what the consumer said.
        now_ms: the time.
        delay_ms: the back-off for a number of attempts.
    """
    result: list[Fact] = []
    for span, low, high in held:
        spent = span.spent + (cause != records.RELEASED)
        expires_at_ms = span.batch.envelope.expires_at_ms
        if cause != records.RELEASED and spent >= queue.options.max_attempts:
            error = text or (f"attempt {spent} was {cause}")
            result.append(records.Died(queue.number, ((low, high),), Failure(ATTEMPTS, error, now_ms)))
        elif expires_at_ms and expires_at_ms <= now_ms:
            result.append(records.Removed(queue.number, records.EXPIRED, ((low, high),), now_ms))
        else:
            delay = delay_ms(spent)
            ready_at_ms = now_ms + delay if delay else 0
            result.append(records.Returned(queue.number, cause, ((low, high),), ready_at_ms, text, now_ms))
    return result
