"""Tracking: how messages ended that were published to be asked about, and with what result.

Whatever ends a tracked message (a settle, a death, a purge, time) goes through `Ledger.apply`, which asks here for the
outcomes and applies them in the same commit; where they are kept is in `outcomes`, a store for each durability. They
are JSON, since the core knows nothing of the wire's encodings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry_broker.core import outcomes, records
from wherry_broker.core.batch import DEAD, LEASED, STATE_NAMES, Event
from wherry_broker.core.options import LEVELS, QueueOptions
from wherry_broker.core.outcomes import STORE_PREFIX, Kept, Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wherry_broker.core.batch import Span
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Fact
    from wherry_broker.core.state import State

HEAD_BYTES_MAX = 1_408
"""How long the line of an outcome is at most; beyond it the history is left out, and then the end of the error."""
ERROR_CHARACTERS = 128

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Results = Mapping[tuple[int, int], bytes]
"""What consumers return, by the number of the queue and the offset of the message."""
NO_RESULTS: Results = {}


class End(NamedTuple):
    """How the messages [low, high) end."""

    low: int
    high: int
    state: str
    reason: str
    error: str
    attempt: int
    history: tuple[Event, ...]


class Outcome(NamedTuple):
    """How a message ended, as it is remembered."""

    status: dict[str, Any]
    result: bytes


def ends(queue: Queue, record: Fact) -> list[End]:
    """How tracked messages end with a record, which is not applied yet."""
    if isinstance(record, records.Died):
        failure = record.failure
        return list(_ends(queue, record.ranges, STATE_NAMES[DEAD], failure.reason, failure.error, failure.at_ms))
    if isinstance(record, records.Removed):
        return list(_ends(queue, record.ranges, record.cause, "", "", record.at_ms))
    return []


def _ends(queue: Queue, ranges: records.Ranges, state: str, reason: str, error: str, at_ms: int) -> Iterator[End]:
    for low, high in ranges:
        for span in queue.spans(low, high):
            if not span.batch.envelope.tracked or (span.state == DEAD and state != records.MOVED):
                continue  # what is dead has ended already, and how is what counts
            attempt = span.attempt + (span.state == LEASED or state == STATE_NAMES[DEAD])
            who = span.worker if state in (records.SETTLED, STATE_NAMES[DEAD]) else ""
            history = (*history_of(span), Event(at_ms, state, who, ""))
            yield End(max(low, span.low), min(high, span.high), state, reason, error, attempt, history)


def facts(state: State, queue: Queue, record: Fact, ended: Sequence[End], results: Results) -> Iterator[Fact]:
    """What remembers these ends; each is to be applied before the next one is asked for."""
    at_ms = _moment(record)
    if isinstance(record, records.Returned) and record.cause == records.REDRIVEN:
        store = state.names.get(store_name(queue.options.durability))
        if isinstance(store, Outcomes):
            ranges = [each for low, high in record.ranges for each in store.ranges(queue.name, low, high)]
            if ranges:
                yield records.Removed(store.number, records.UNSET, records.joined(sorted(ranges)), at_ms)
    if not ended:
        return
    yield from store_facts(state, queue.options.durability)
    store = state.names[store_name(queue.options.durability)]
    assert isinstance(store, Outcomes)
    expires_at_ms = at_ms + queue.options.result_ttl_ms
    for end in ended:
        head = _head(end, at_ms) + b"\n"
        values = [head + results.get((queue.number, offset), b"") for offset in range(end.low, end.high)]
        yield from outcomes.keep(store, queue.name, end.low, values, expires_at_ms, at_ms)


def _moment(record: Fact) -> int:
    if isinstance(record, records.Died):
        return record.failure.at_ms
    return record.at_ms if isinstance(record, records.Removed | records.Returned) else 0


def _head(end: End, at_ms: int) -> bytes:
    status = {"state": end.state, "at_ms": at_ms, "attempt": end.attempt}
    status |= {"reason": end.reason, "error": end.error} if end.reason else {}
    head = _line({**status, "history": end.history})
    if len(head) > HEAD_BYTES_MAX:
        head = _line(status)
    if len(head) > HEAD_BYTES_MAX:
        head = _line({**status, "error": end.error[:ERROR_CHARACTERS]})
    return head


def _line(status: dict[str, Any]) -> bytes:
    return _encode(status).encode("utf-8", "surrogatepass")


def store_name(durability: str) -> str:
    """The name of the store that holds the outcomes of queues of a durability; no client can name it."""
    return STORE_PREFIX + durability


def store_facts(state: State, durability: str) -> list[Fact]:
    """What makes that store; nothing when there is one."""
    name = store_name(durability)
    if name in state.names:
        return []
    options = QueueOptions(durability=durability, kind="store", overflow="drop_oldest")
    return [records.Declared(state.next_number, name, options.as_map(), state.next_first)]


def outcome_of(state: State, queue: str, offset: int) -> Kept | None:
    """The outcome of a message, if it is remembered, whether the queue is there still or not."""
    for durability in LEVELS:
        store = state.names.get(store_name(durability))
        if isinstance(store, Outcomes) and (kept := store.outcome(queue, offset)) is not None:
            return kept
    return None


def read_outcome(value: bytes) -> Outcome:
    """An outcome, from the bytes that remember it."""
    head, _, result = value.partition(b"\n")
    return Outcome(json.loads(head.decode("utf-8", "surrogatepass")), result)


def history_of(span: Span) -> tuple[Event, ...]:
    """What happened to tracked messages, from their publish on."""
    envelope = span.batch.envelope
    return (Event(envelope.published_at_ms, "published", envelope.publisher, ""), *span.history)


def leased_at_ms(span: Span) -> int:
    """When the lease of a tracked message began; 0 when that is not known."""
    return next((event.at_ms for event in reversed(span.history) if event.what == STATE_NAMES[LEASED]), 0)
