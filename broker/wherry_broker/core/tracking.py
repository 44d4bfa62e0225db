"""Tracking: how messages ended that were published to be asked about, and with what result.

Whatever ends a tracked message (a settle, a death, a purge, time) goes through `Ledger.apply`, which asks here for the
outcomes and applies them in the same commit. They are values of a store, one for each durability, whose name no client
can use. An outcome is a line of JSON, then the result: the core knows nothing of the wire's encodings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry_broker.core import records, stores
from wherry_broker.core.batch import DEAD, LEASED, STATE_NAMES, Event
from wherry_broker.core.options import LEVELS, QueueOptions
from wherry_broker.core.stores import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wherry_broker.core.batch import Batch, Span
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Fact
    from wherry_broker.core.state import State

STORE_PREFIX = "$results."
HEAD_BYTES_MAX = 1_408
"""How long the line of an outcome is at most; beyond it the history is left out, and then the end of the error."""
ERROR_CHARACTERS = 128

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Results = Mapping[tuple[int, int], bytes]
"""What consumers return, by the number of the queue and the offset of the message."""
NO_RESULTS: Results = {}


class End(NamedTuple):
    """How one message ends."""

    offset: int
    state: str
    reason: str
    error: str
    attempt: int
    history: tuple[Event, ...]


class Outcome(NamedTuple):
    """How a message ended, as it is remembered."""

    status: dict[str, Any]
    result: bytes


def key_of(queue: str, offset: int) -> str:
    """The key of a message's outcome: its id."""
    return f"{queue}/{offset}"


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
            for offset in range(max(low, span.low), min(high, span.high)):
                yield End(offset, state, reason, error, attempt, history)


def facts(state: State, queue: Queue, record: Fact, ended: Sequence[End], results: Results) -> Iterator[Fact]:
    """What remembers these ends; each is to be applied before the next one is asked for."""
    at_ms = _moment(record)
    if isinstance(record, records.Returned) and record.cause == records.REDRIVEN:
        store = state.names.get(store_name(queue.options.durability))
        if isinstance(store, Store):
            keys = tuple(key_of(queue.name, offset) for low, high in record.ranges for offset in range(low, high))
            yield from stores.unset(store, keys, at_ms)
    if not ended:
        return
    yield from store_facts(state, queue.options.durability)
    store = state.names[store_name(queue.options.durability)]
    assert isinstance(store, Store)
    expires_at_ms = at_ms + queue.options.result_ttl_ms
    shared: tuple[Any, ...] = ()
    head = b""
    for end in ended:
        if end[1:] != shared:  # those of one span differ in their offsets only
            shared, head = end[1:], _head(end, at_ms) + b"\n"
        value = head + results.get((queue.number, end.offset), b"")
        yield from stores.keep(store, key_of(queue.name, end.offset), value, expires_at_ms, at_ms)


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


def outcome_of(state: State, queue: str, offset: int) -> Batch | None:
    """The outcome of a message, if it is remembered, whether the queue is there still or not."""
    key = key_of(queue, offset)
    for durability in LEVELS:
        store = state.names.get(store_name(durability))
        if isinstance(store, Store) and (value := store.value(key)) is not None:
            return value
    return None


def read_outcome(value: bytes) -> Outcome:
    """An outcome, from the bytes that remember it."""
    head, _, result = value.partition(b"\n")
    return Outcome(json.loads(head.decode("utf-8", "surrogatepass")), result)


def result_in(value: bytes) -> bytes:
    """The result in such bytes."""
    return value[value.index(b"\n") + 1 :]


def history_of(span: Span) -> tuple[Event, ...]:
    """What happened to tracked messages, from their publish on."""
    envelope = span.batch.envelope
    return (Event(envelope.published_at_ms, "published", envelope.publisher, ""), *span.history)


def leased_at_ms(span: Span) -> int:
    """When the lease of a tracked message began; 0 when that is not known."""
    return next((event.at_ms for event in reversed(span.history) if event.what == STATE_NAMES[LEASED]), 0)
