"""Neighbouring publishes, made one batch: what a thousand small frames would cost, a few larger ones do not.

A client that publishes single messages sends many small PUBLISH frames, and several are read at once. Those with the
same envelope are one batch from here on, one record, and one span to deliver, while each is still confirmed by its
own number. Only publishes that came next to each other are joined, so their order does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry.model import commands
from wherry_broker.core import bounds, decide
from wherry_broker.core.block import Block, is_sound
from wherry_broker.core.records import Published, Row
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.model.fields import ConfirmRow
    from wherry_broker.core.state import State

ALONE_BYTES_MIN = 16_384
"""A block this long is not joined: copying it would cost more than a batch of its own."""
JOINED_WEIGHT_MAX = 65_536
"""The longest joined batch; short ones keep what is split, delivered or dropped later cheap."""

_row = tuple.__new__
"""Makes a named tuple in half the time: there is one for each publish."""

Command = commands.Request | commands.Credit


class Together(NamedTuple):
    """Two or more publishes that can be one batch."""

    publishes: Sequence[commands.Publish]


def joined(given: Sequence[Command]) -> Iterator[Command | Together]:
    """The same commands in order, with neighbouring publishes joined where they can be."""
    run: list[Any] = []
    weight = 0
    shared: tuple[Any, ...] | None = None
    for command in given:
        envelope = _envelope(command)
        added = _weight(command) if envelope else 0
        if run and (envelope is None or envelope != shared or weight + added > JOINED_WEIGHT_MAX):
            yield Together(run) if len(run) > 1 else run[0]
            run, weight = [], 0
        run.append(command)
        weight += added
        shared = envelope
    if run:
        yield Together(run) if len(run) > 1 else run[0]


def store(state: State, publishes: Sequence[commands.Publish], publisher: str, now_ms: int) -> Published | None:
    """The record that stores publishes of one client as one batch.

    Returns:
        None when each has to be decided alone: the queue is not there, refuses them, or has no room for them all.
    """
    queue = state.names.get(publishes[0].queue)
    if queue is None:
        return None
    block = Block(b"".join([each.lengths for each in publishes]), b"".join([each.block for each in publishes]))
    try:
        envelope, ready_at_ms = decide.envelope_of(queue, publishes[0], now_ms)
        if publishes[0].track:
            envelope = decide.tracked(envelope, publisher)
        if publishes[0].parent:
            envelope = decide.sent_by(state, envelope, publishes[0].parent)
        bounds.check_broker(state, queue, block, envelope, "")
        busy = bounds.room(queue, block, now_ms, divisible=False).busy
    except Refusal:
        return None
    return None if busy else Published(queue.number, queue.next_offset, envelope, ready_at_ms, "", block)


def rows(publishes: Sequence[commands.Publish], record: Published) -> list[Row]:
    """What was stored under the sequences of publishes, as one batch."""
    first, queue, result = record.first, record.queue, []
    for publish in publishes:
        count = len(publish.lengths) // 4
        result.append(_row(Row, (publish.sequence, queue, first, count)))
        first += count
    return result


def confirms(publishes: Sequence[commands.Publish], first: int) -> tuple[ConfirmRow, ...]:
    """The confirms of publishes that were stored as one batch, from the offset `first` on."""
    result = []
    for publish in publishes:
        result.append((publish.request, first, False))
        first += len(publish.lengths) // 4
    return tuple(result)


def _envelope(command: Command) -> tuple[Any, ...] | None:
    """What the messages of a joined batch share; None for what cannot be joined."""
    if type(command) is not commands.Publish or len(command.block) >= ALONE_BYTES_MIN or command.dedupe:
        return None
    if not is_sound(command.lengths, command.block):  # to be refused by its own number
        return None
    shared = (command.queue, command.priority, command.key, command.delay_ms, command.at_ms, command.ttl_ms)
    return (*shared, not command.sequence, command.track, command.parent)


def _weight(publish: Any) -> int:
    """Its bytes, and 64 more for each message, so that a batch of tiny ones is short too."""
    return len(publish.block) + 16 * len(publish.lengths)
