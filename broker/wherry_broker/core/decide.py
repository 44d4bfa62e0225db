"""Policy: what a command leads to. Everything here reads state and returns records; nothing is changed."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from wherry.model.commands import Verb
from wherry.model.fields import BATCH_MESSAGES_MAX
from wherry_broker.core import bounds, records
from wherry_broker.core.batch import DEAD, LEASED, STATE_NAMES, Envelope, Failure, Span
from wherry_broker.core.block import Block, is_sound
from wherry_broker.core.bounds import LOG_BYTES_A_RECORD, check_memory, check_room
from wherry_broker.core.families import lineage_of
from wherry_broker.core.memory import QUEUE_BYTES
from wherry_broker.core.options import InvalidOption, QueueOptions, checked
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wherry.model import commands
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Fact
    from wherry_broker.core.state import State

FIXED_OPTIONS = frozenset({"durability", "kind"})
"""What a queue is made with: whether a log holds its messages, and what they are, cannot change while it has some."""
ATTEMPTS = "attempts"


def named(state: State, name: str) -> Queue:
    """The queue of a name.

    Raises:
        Refusal: not_found, there is none.
    """
    queue = state.names.get(name)
    if queue is None:
        raise Refusal("not_found", f"there is no queue {name!r}", queue=name)
    return queue


def check_is_queue(queue: Queue) -> None:
    """Refuses what only a queue can do, and a store cannot.

    Raises:
        Refusal: invalid, it is a store.
    """
    if queue.is_store:
        raise Refusal("invalid", f"{queue.name!r} is a store: it keeps values, and delivers none", queue=queue.name)


# Queues.


def declare(state: State, name: str, given: dict[str, object], others: QueueOptions, level: str) -> list[Fact]:
    """A queue with these options; nothing when it has them already, and they were asked for before.

    Args:
        state: all queues.
        name: its name.
        given: the options that are asked for.
        others: where the options come from that are not, if it is new.
        level: the highest durability that there is.

    Raises:
        Refusal: invalid, an option is unknown or out of range; exists_differently, the queue has other options; busy,
            the disk or the memory is (nearly) full.
    """
    queue = state.names.get(name)
    try:
        if queue is None:
            options = others.changed(given)
            _check_level(options.durability, level)
            check_room(state, name, LOG_BYTES_A_RECORD)
            check_memory(state, name, QUEUE_BYTES)
            asked = tuple(sorted(given))
            return [records.Declared(state.next_number, name, options.as_map(), state.next_first, asked)]
        differing = queue.options.differing(given)
    except InvalidOption as error:
        raise Refusal("invalid", str(error), queue=name) from error
    if differing:
        parts = ", ".join(f"{key} is {mine!r}, not {asked!r}" for key, (mine, asked) in differing.items())
        raise Refusal("exists_differently", f"queue {name!r} exists with other options: {parts}", queue=name)
    # From now on they are the queue's own, whatever the configuration becomes.
    mine = queue.options.as_map()
    new = {key: mine[key] for key in _not_asked(queue, given)}
    return [records.Changed(queue.number, new)] if new else []


def _not_asked(queue: Queue, given: dict[str, object]) -> set[str]:
    """Which of the given options nobody has asked for before, so that the configuration decides on them still."""
    return set() if queue.asked is None else given.keys() - queue.asked


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
        after = queue.options.changed(given).as_map()
    except InvalidOption as error:
        raise Refusal("invalid", str(error), queue=queue.name) from error
    for name in FIXED_OPTIONS & set(differing):
        text = f"{name} of a queue cannot be changed: {queue.name!r} has {differing[name][0]!r}"
        raise Refusal("invalid", text, queue=queue.name)
    return changed(queue, {name: after[name] for name in differing.keys() | _not_asked(queue, given)}, now_ms)


def changed(queue: Queue, changes: dict[str, object], now_ms: int, *, asked: bool = True) -> list[Fact]:
    """Options that are changed, and what no longer fits them; nothing when there are none.

    Args:
        queue: the queue.
        changes: the options, which are known to be possible.
        now_ms: the time.
        asked: whether somebody asked for them.
    """
    if not changes:
        return []
    excess = queue.counts[DEAD] - queue.options.changed(changes).dead_max_messages
    return [records.Changed(queue.number, changes, asked), *bounds.dead_overflow(queue, excess, now_ms)]


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
    if not any(queue.counts[state] for state in wanted):
        return []  # or a purge of no dead would look at all that is ready
    if wanted == {DEAD}:
        return remove(sorted(queue.dead(), key=attrgetter("low")), queue, records.PURGED, now_ms)
    return remove((span for span in queue.spans() if span.state in wanted), queue, records.PURGED, now_ms)


def remove(spans: Iterable[Span], queue: Queue, cause: str, now_ms: int) -> list[Fact]:
    """One record that takes all of these spans out; none when there are none."""
    ranges = records.joined((span.low, span.high) for span in spans)
    return [records.Removed(queue.number, cause, ranges, now_ms)] if ranges else []


# Publish.


def envelope_of(queue: Queue, command: commands.Publish | commands.PublishTopic, now_ms: int) -> tuple[Envelope, int]:
    """The envelope of a publish, and when its messages become ready (0 for at once).

    Raises:
        Refusal: invalid, it is a store, the priority is not one of the queue's, or the time to live ends before the
            delay.
    """
    check_is_queue(queue)
    options = queue.options
    if command.priority >= options.priorities:
        raise Refusal(
            "invalid", f"priority {command.priority} is not within 0 to {options.priorities - 1}", queue=queue.name
        )
    ready_at_ms = max(command.at_ms, now_ms + command.delay_ms)
    ttl_ms = min(command.ttl_ms or options.ttl_ms, options.ttl_ms or command.ttl_ms)  # 0 sets no limit
    expires_at_ms = now_ms + ttl_ms if ttl_ms else 0
    if ready_at_ms <= now_ms:
        ready_at_ms = 0
    elif expires_at_ms and ready_at_ms >= expires_at_ms:
        delay_ms = ready_at_ms - now_ms
        raise Refusal("invalid", f"ttl {ttl_ms} ms ends before the delay of {delay_ms} ms does", queue=queue.name)
    return Envelope(now_ms, expires_at_ms, command.priority, command.key), ready_at_ms


def tracked(envelope: Envelope, publisher: str) -> Envelope:
    """The envelope of messages that are tracked, and who published them."""
    return envelope._replace(tracked=True, publisher=publisher)


def sent_by(state: State, envelope: Envelope, parent: str) -> Envelope:
    """The envelope of messages that another message has sent.

    Raises:
        Refusal: invalid, its parent is no id; stale_delivery, it has ended.
    """
    return envelope._replace(lineage=lineage_of(state, parent))


def block_of(command: commands.Publish | commands.PublishTopic) -> Block:
    """The block of a publish.

    Raises:
        Refusal: invalid, the lengths do not add up to the block.
    """
    block = Block(command.lengths, command.block)
    if not is_sound(command.lengths, command.block):
        raise Refusal(
            "invalid", f"the lengths of {block.count} messages do not add up to a block of {block.size} bytes"
        )
    return block


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
    check_ranges(queue.name, command.deliveries)
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


def check_ranges(queue: str, ranges: Sequence[tuple[int, ...]]) -> None:
    """Checks ranges of offsets that stand in one command: each begins with its first offset and its count.

    Args:
        queue: the name of the queue that they are of.
        ranges: the ranges.

    Raises:
        Refusal: invalid, ranges overlap, or they are too many messages.
    """
    total = sum(each[1] for each in ranges)
    if total > BATCH_MESSAGES_MAX:
        text = f"{total} messages in one command are over the limit of {BATCH_MESSAGES_MAX}"
        raise Refusal("invalid", text, queue=queue)
    end = 0
    for first, count, *_ in sorted(ranges) if len(ranges) > 1 else ():
        if first < end:
            raise Refusal("invalid", f"offset {first} stands in two ranges of one command", queue=queue)
        end = first + count


def settle(
    queue: Queue, command: commands.Settle, held: list[Held], now_ms: int, draw: Callable[[], float]
) -> list[Fact]:
    """What ends the deliveries of the held ranges by the command's verb (EXTEND ends none)."""
    verb, text = command.verb, command.text
    ranges = records.joined((each.low, each.high) for each in held)
    if not ranges:
        return []
    if verb == Verb.ACK:
        return [records.Removed(queue.number, records.SETTLED, ranges, now_ms)]
    if verb == Verb.REJECT:
        return [records.Died(queue.number, ranges, Failure(records.REJECTED, text, now_ms), records.REJECTED)]
    if verb == Verb.RELEASE:
        return ended(queue, held, records.RELEASED, text, now_ms, lambda _: command.duration_ms or 0)

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
            result.append(records.Died(queue.number, ((low, high),), Failure(ATTEMPTS, error, now_ms), cause))
        elif expires_at_ms and expires_at_ms <= now_ms:
            result.append(records.Returned(queue.number, cause, ((low, high),), 0, text, now_ms))
            result.append(records.Removed(queue.number, records.EXPIRED, ((low, high),), now_ms))
        else:
            delay = delay_ms(spent)
            ready_at_ms = now_ms + delay if delay else 0
            result.append(records.Returned(queue.number, cause, ((low, high),), ready_at_ms, text, now_ms))
    return result
