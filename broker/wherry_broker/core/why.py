"""Why a message is not worked on now: one line for people. Reads the state, and changes nothing, no timer either."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry_broker.core import tracking
from wherry_broker.core.batch import DEAD, DELAYED, LEASED, READY
from wherry_broker.core.view import LOOK_SPANS_MAX

if TYPE_CHECKING:
    from wherry_broker.core.batch import Span
    from wherry_broker.core.queue import Queue


class Position(NamedTuple):
    """How many messages are to be delivered before one; at least so many when it is not exact."""

    before: int
    is_exact: bool


def position(queue: Queue, span: Span, offset: int) -> Position:
    """How many ready messages go before the one at `offset`, of higher priority or of its own and older.

    Turns of keys are not looked at, and no more than LOOK_SPANS_MAX spans are.
    """
    priority = span.batch.envelope.priority
    before = 0
    for looked, each in enumerate(queue.spans()):
        if looked == LOOK_SPANS_MAX:
            return Position(before, is_exact=False)
        if each.state != READY or each.batch.envelope.priority < priority:
            continue
        if each.batch.envelope.priority > priority:
            before += len(each)
        elif each.low < offset:
            before += min(each.high, offset) - each.low
    return Position(before, is_exact=True)


def why(queue: Queue, span: Span, offset: int, now_ms: int) -> str:
    """Why the message at `offset`, which `span` holds, is not worked on now; or who works on it."""
    if span.state == LEASED:
        return _leased(span)
    if span.state == DELAYED:
        return _delayed(span)
    if span.state == DEAD:
        failure = span.failure
        return f"it is dead: {failure.reason}{_more(failure.error)}" if failure is not None else "it is dead"
    if queue.is_store:
        return "it is a value of a store, which delivers none"
    return _held_up(queue, span, now_ms) or _waiting(queue, span, offset, now_ms)


def ended(status: dict[str, Any]) -> str:
    """Why a message that has left is not worked on: how it ended."""
    reason = f": {status['reason']}{_more(status['error'])}" if status.get("reason") else ""
    # Whoever waits for the end of one that dies is told the same as who asks for it later, while it is here.
    since = "" if status["state"] == "dead" else f" since {moment(status['at_ms'])}"
    return f"it is {status['state']}{since}{reason}"


def moment(at_ms: int) -> str:
    """A moment as people read it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _more(text: str) -> str:
    return f": {text}" if text else ""


def _leased(span: Span) -> str:
    name = (span.consumer.session.name if span.consumer is not None else "") or "a client without a name"
    since_ms = tracking.leased_at_ms(span)
    since = f" since {moment(since_ms)}" if since_ms else ""
    return f"it is leased to {name}{since}, attempt {span.attempt + 1}, until {moment(span.due_ms)}"


def _delayed(span: Span) -> str:
    due = f"it is delayed until {moment(span.due_ms)}"
    if span.attempt == 0:
        return due
    failure = span.failure
    return f"{due}: attempt {span.attempt} {failure.reason}{_more(failure.error)}" if failure is not None else due


def _held_up(queue: Queue, span: Span, now_ms: int) -> str:
    """What keeps all messages of its queue, or of its key, from being delivered; "" for nothing."""
    options = queue.options
    if options.paused:
        return "the queue is paused"
    if not queue.consumers:
        return "no consumer is attached"
    if options.max_leased and queue.counts[LEASED] >= options.max_leased:
        return f"max_leased is reached: {queue.counts[LEASED]} of {options.max_leased} messages are leased"
    throttle = queue.throttle
    if throttle is not None and not throttle.available(now_ms):
        return f"rate_per_s is spent: the next delivery is at {moment(throttle.next_ms())}"
    return _key_held_up(queue, span.batch.envelope.key, now_ms)


def _key_held_up(queue: Queue, name: str, now_ms: int) -> str:
    key = queue.keys.find(name) if queue.keys is not None and name else None
    if key is None:
        return ""
    options = queue.options
    if options.ordered and key.leased:
        return f"key {name!r} is busy: another message of it is leased, and the queue is ordered"
    if options.ordered and key.retrying:
        return f"key {name!r} is busy: another message of it waits for its next attempt, and the queue is ordered"
    if options.key_max_leased and key.leased >= options.key_max_leased:
        return f"key_max_leased of key {name!r} is reached: {key.leased} of its messages are leased"
    if key.throttle is not None and not key.throttle.available(now_ms):
        return f"key_rate_per_s of key {name!r} is spent: its next delivery is at {moment(key.throttle.next_ms())}"
    return ""


def _waiting(queue: Queue, span: Span, offset: int, now_ms: int) -> str:
    place = position(queue, span, offset)
    consumers = list(queue.consumers)
    busy = f"; {_all_have(len(consumers))}" if all(consumer.credit <= 0 for consumer in consumers) else ""
    if not place.before:
        return f"it is next{busy}"
    least = "" if place.is_exact else "at least "
    go = "1 message goes" if place.before == 1 else f"{place.before} messages go"
    rate = queue.settled.per_second(now_ms)
    pace = f"; {rate:.1f} a second are settled" if rate else ""
    return f"{least}{go} before it, of {queue.counts[READY]} that are ready{busy}{pace}"


def _all_have(count: int) -> str:
    if count == 1:
        return "the consumer has as much as it can take"
    return f"all {count} consumers have as much as they can take"
