"""What a restart has to keep, said message by message, so that two states can be compared."""

from __future__ import annotations

import operator

from wherry_broker.core.batch import DELAYED, LEASED, READY, STATE_NAMES


def durable_state(state, now, message_at=None, *, logged_only=False):
    """All that a restart has to keep; what is leased counts as ready, or expired if it is late.

    Args:
        state: the state of a shard.
        now: the time in milliseconds.
        message_at: gives a message of a batch by its place, as (length, bytes); the batch's own block by default.
        logged_only: leaves out what no log keeps: messages in memory, where their ids stand, counts since the start.
    """
    message_at = message_at or (lambda batch, at: batch.block.cut(at, at + 1))
    result = {"next_first": state.next_first, "next_number": state.next_number}
    # What found no room is tried again by whoever comes after, and why is found out again.
    result["schedules"] = [each.kept()._replace(error="") for each in state.schedules]
    result["producers"] = {
        name: (answered, rows)
        for name, answered, at_ms, rows in state.producers.standing(
            lambda number: not logged_only or number not in state.queues or state.queues[number].is_logged
        )
        if at_ms + state.producers.window_ms > now
    }
    for queue in state.queues.values():
        if queue.is_temporary:
            continue
        removed, messages = dict(queue.removed), {}
        in_memory = logged_only and not queue.is_logged
        for span in () if in_memory else queue.spans():
            envelope = span.batch.envelope
            late = span.state in (READY, LEASED) and envelope.expires_at_ms and envelope.expires_at_ms <= now
            for offset in range(span.low, span.high):
                if late:
                    removed["expired"] = removed.get("expired", 0) + 1
                    continue
                state_name = STATE_NAMES[READY if span.state == LEASED else span.state]
                due_ms = span.due_ms if span.state == DELAYED else 0
                body = message_at(span.batch, offset - span.batch.first)
                messages[offset] = (state_name, span.attempt, span.released, span.failure, due_ms, envelope, body)
        dedupe = {} if in_memory else {key: value for key, value in queue.dedupe.items() if value[1] > now}
        dead = [] if in_memory else [(span.failure.at_ms, span.low, span.high) for span in queue.dead()]
        assert dead == sorted(dead, key=operator.itemgetter(0)), "the dead are in the order in which they died"
        dead = sorted((at_ms, offset) for at_ms, low, high in dead for offset in range(low, high))
        standing = (queue.number, 0 if in_memory else queue.next_offset, queue.options, queue.asked)
        counts = {} if logged_only else {**removed, **queue.ended}
        result[queue.name] = (*standing, dedupe, dead, counts, messages)
    return result
