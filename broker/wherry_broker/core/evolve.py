"""The only writer of durable state: one record in, one change made. Live and in replay alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry_broker.core import gates, records
from wherry_broker.core.batch import DEAD, STATE_NAMES, Failure
from wherry_broker.core.memory import EVENT_BYTES
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.outcomes import STORE_PREFIX, Outcomes
from wherry_broker.core.queue import Queue
from wherry_broker.core.stores import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry_broker.core.state import State


def evolve(state: State, record: records.Record) -> None:
    """Makes the change that a record states."""
    _CHANGES[type(record)](state, record)


def _declared(state: State, record: records.Declared) -> None:
    options = QueueOptions().changed(record.options)
    queue = _kind(record.name, options)(
        record.queue,
        record.name,
        options,
        record.first,
        state.timers,
        state.homes,
        state.memory,
        families=state.families,
        restoring=state.restoring,
    )
    queue.asked = None if record.asked is None else frozenset(record.asked)
    state.add(queue)


def _kind(name: str, options: QueueOptions) -> type[Queue]:
    if options.kind != "store":
        return Queue
    return Outcomes if name.startswith(STORE_PREFIX) else Store


def _changed(state: State, record: records.Changed) -> None:
    queue = state.queues[record.queue]
    queue.change(queue.options.changed(record.options))
    if record.asked and queue.asked is not None:
        queue.asked |= record.options.keys()
    state.bindings.bind(queue.number, queue.options.bind)


def _deleted(state: State, record: records.Deleted) -> None:
    queue = state.queues[record.queue]
    queue.clear()
    state.gates.forget_queue(queue.number)
    state.discard(queue)


def _published(state: State, record: records.Published) -> None:
    queue = state.queues[record.queue]
    queue.publish(record.first, record.block, record.envelope, record.ready_at_ms)
    queue.published.add(record.block.count, record.envelope.published_at_ms)
    if record.dedupe:
        window_ms = queue.options.dedupe_window_ms
        queue.dedupe.remember(record.dedupe, record.first, record.envelope.published_at_ms, window_ms)


def _routed(state: State, record: records.Routed) -> None:
    for part in record.parts():
        _published(state, part)


def _removed(state: State, record: records.Removed) -> None:
    queue = state.queues[record.queue]
    for low, high in record.ranges:
        queue.remove(low, high, record.cause, record.at_ms)
        state.gates.forget(queue.number, low, high)
        if record.cause == records.SETTLED:
            queue.settled.add(high - low, record.at_ms)


def _returned(state: State, record: records.Returned) -> None:
    queue = state.queues[record.queue]
    if record.cause == records.REDRIVEN:
        for low, high in record.ranges:
            queue.revive(low, high)
        _note(state, queue, record.ranges, record.at_ms, record.cause)
        return
    # Handed back at once and without a word, a message is as if it had not been delivered.
    said = record.cause != records.RELEASED or record.ready_at_ms or record.error
    failure = Failure(record.cause, record.error, record.at_ms) if said else None
    for low, high in record.ranges:
        queue.give_back(low, high, record.cause, record.ready_at_ms, failure)
    _note(state, queue, record.ranges, record.at_ms, record.cause, record.error)


def _died(state: State, record: records.Died) -> None:
    queue = state.queues[record.queue]
    for low, high in record.ranges:
        queue.bury(low, high, record.failure, record.cause)
    _note(state, queue, record.ranges, record.failure.at_ms, STATE_NAMES[DEAD], record.failure.error)


def _note(state: State, queue: Queue, ranges: records.Ranges, at_ms: int, what: str, more: str = "") -> None:
    """Has the tracked messages among these remember what has happened to them."""
    if not queue.tracked:
        return
    for low, high in ranges:
        for span in queue.spans(low, high):
            if span.batch.envelope.tracked:
                who = "" if what == records.REDRIVEN else span.worker
                state.memory.shift(EVENT_BYTES * span.note(at_ms, what, who, more))


def _rehomed(state: State, record: records.Rehomed) -> None:
    queue = state.queues[record.queue]
    batch = queue.batch_at(record.first)
    if batch is None:
        # The log has forgotten their publish. They are counted here, so that what is held and what has left make up
        # what was published; for the rate nothing has happened.
        queue.published.total += sum(stage[1] - stage[0] for stage in record.stages)
        queue.adopt(record.first, record.block, record.envelope, record.stages)
    else:
        queue.rehome(batch, record.block)


def _sequenced(state: State, record: records.Sequenced) -> None:
    state.producers.take(record)


def _gated(state: State, record: records.Gated) -> None:
    state.gates.make(record)


def _joined(state: State, record: records.Joined) -> None:
    state.gates.join(record)


def _limited(state: State, record: records.Limited) -> None:
    batch = state.queues[record.queue].batch_at(record.offset)
    if batch is None:
        return  # the log has forgotten it
    batch.envelope = batch.envelope._replace(expires_at_ms=record.expires_at_ms)
    if record.expires_at_ms:
        state.timers.arm(batch, record.expires_at_ms)
    else:
        state.timers.disarm(batch)


def _scheduled(state: State, record: records.ScheduleFact) -> None:
    state.schedules.take(record)


def _opened(state: State, record: records.Preamble) -> None:
    state.epoch = max(state.epoch, record.epoch)
    state.next_number = max(state.next_number, record.next_number)
    state.next_first = max(state.next_first, record.next_first)
    for number, name, options, next_offset, keys, asked in record.queues:
        if number not in state.queues:
            _declared(state, records.Declared(number, name, options, next_offset, asked))
            for key, first, until_ms in keys:
                state.queues[number].dedupe.restate(key, first, until_ms)
        # What no log keeps, the messages of a queue in memory, has used offsets too.
        queue = state.queues[number]
        queue.next_offset = max(queue.next_offset, next_offset)
    for known in record.producers:
        state.producers.restate(known)
    for kept in record.schedules:
        state.schedules.restate(kept)
    for row in record.gates:
        state.gates.restate(row)


_CHANGES: dict[type, Callable[[State, Any], None]] = {
    records.Declared: _declared,
    records.Changed: _changed,
    records.Deleted: _deleted,
    records.Published: _published,
    records.Routed: _routed,
    records.Removed: _removed,
    records.Returned: _returned,
    records.Died: _died,
    records.Rehomed: _rehomed,
    records.Sequenced: _sequenced,
    records.Limited: _limited,
    records.Scheduled: _scheduled,
    records.Unscheduled: _scheduled,
    records.Fired: _scheduled,
    records.Gated: _gated,
    records.Joined: _joined,
    records.Tallied: gates.count,
    records.Preamble: _opened,
}
