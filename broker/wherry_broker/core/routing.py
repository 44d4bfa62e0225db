"""Routing: a batch goes into every queue that is bound to its subject; into all of them, or into none.

It is stored once. Each queue has its own view of the block, its own offsets, and its own say in what the publish
leaves open: the shorter time to live holds, as in any publish; a priority that a queue does not have is its highest
one, since the publisher does not know the queues; and each looks up the dedupe key by itself, so that a publish that
is tried again goes to the queues that have not got it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.model import replies
from wherry_broker.core import bounds, decide
from wherry_broker.core.block import Block
from wherry_broker.core.memory import publish_bytes
from wherry_broker.core.options import LEVELS
from wherry_broker.core.records import Routed, Row, Target
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.model import commands
    from wherry_broker.core.answers import Answers
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Change
    from wherry_broker.core.state import State

TARGETS_MAX = 4_096
"""How many queues take one message: each costs memory, time, and a row of the record that all of them stand in."""


class Routing:
    """Carries out publishes to topics.

    Args:
        ledger: the durable state.
        answers: where confirms go.
    """

    def __init__(self, ledger: Ledger, answers: Answers) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._answers = answers
        self._sequences = Sequences(ledger.state)

    def publish(self, session: Session, command: commands.PublishTopic, now_ms: int) -> None:
        """Stores a batch in all queues that are bound to its subject."""
        queues = matching(self._state, command)
        block = decide.block_of(command)
        known = [queue.dedupe.known(command.dedupe, now_ms) if command.dedupe else None for queue in queues]
        new = [queue for queue, first in zip(queues, known, strict=True) if first is None]
        rows = [
            Row(command.sequence, queue.number, queue.next_offset, block.count)
            if first is None
            else Row(command.sequence, queue.number, first, 0)
            for queue, first in zip(queues, known, strict=True)
        ]
        self._ledger.apply(route(self._state, new, command, block, now_ms))
        if command.sequence and rows:
            self._ledger.apply((self._sequences.fact(session, command.answered, now_ms, rows),))
        self._answer(session, command, len(queues), queues, duplicate=bool(queues) and not new)

    def answer_again(self, session: Session, command: commands.PublishTopic) -> bool:
        """Answers a publish whose sequence is known as it was answered before; False when it is new.

        Raises:
            Refusal: invalid or unavailable, nothing can be stored under this sequence.
        """
        rows = self._sequences.known(session, command.sequence)
        if not rows:
            return False
        found = [self._state.queues.get(row.queue) for row in rows]
        queues = [queue for queue in found if queue is not None]  # the others were deleted since
        # Of one with a dedupe key a duplicate means that others were stored under it.
        duplicate = not command.dedupe or not any(row.stored for row in rows)
        self._answer(session, command, len(rows), queues, duplicate=duplicate)
        return True

    def _answer(
        self, session: Session, command: commands.PublishTopic, count: int, queues: Sequence[Queue], *, duplicate: bool
    ) -> None:
        durability = min((queue.options.durability for queue in queues), key=LEVELS.index, default="")
        mark = max((queue.mark for queue in queues), default=self._ledger.newest_mark)
        self._answers.say(session, replies.Routed(command.request, count, durability, duplicate), mark)


def matching(state: State, command: commands.PublishTopic) -> list[Queue]:
    """The queues that are bound to a subject.

    Raises:
        Refusal: unroutable, there is none; too_large, there are too many.
    """
    numbers = state.bindings.match(command.subject)
    if not numbers and not command.allow_unroutable:
        raise Refusal("unroutable", f"no queue is bound to {command.subject!r}")
    if len(numbers) > TARGETS_MAX:
        text = f"{len(numbers)} queues are bound to {command.subject!r}, and {TARGETS_MAX} is the limit for one message"
        raise Refusal("too_large", text, bound="bind")
    return [state.queues[number] for number in numbers]


def route(
    state: State, queues: Sequence[Queue], command: commands.PublishTopic, block: Block, now_ms: int
) -> list[Change]:
    """What stores a block in all of these queues; nothing when there are none.

    Raises:
        Refusal: busy or too_large, a queue, the disk or the memory has no room; invalid, the time to live ends before
            the delay.
    """
    logged = [queue for queue in queues if queue.is_logged]
    in_memory = [queue for queue in queues if not queue.is_logged]
    if logged:
        bounds.check_room(state, logged[0].name, bounds.routed_cost(block, len(logged)))
    cost = len(queues) * publish_bytes(0, block.count, command.key, command.dedupe)
    bounds.check_memory(state, queues[0].name if queues else "", cost + block.size)
    result = _make_room(queues, block, now_ms)
    # What is in memory only has a record of its own: no log may hold it, or a restart would bring it back. Its block is
    # no twin of the other one: what is left of that in memory, the log has as well.
    for some, mine in ((logged, block), (in_memory, Block(block.lengths, block.data))):
        if some:
            result.append(_routed(some, command, mine, now_ms))
    return result


def _make_room(queues: Sequence[Queue], block: Block, now_ms: int) -> list[Change]:
    """What has to go so that a block fits into all of the queues.

    Raises:
        Refusal: it does not; of several queues that are full, that one is named which will be for longest.
    """
    result: list[Change] = []
    refusals = []
    for queue in queues:
        oldest = bounds.drop_oldest(queue, block.count, block.size, now_ms)
        result += oldest
        busy = None if oldest else bounds.room(queue, block, now_ms, divisible=False).busy
        if busy is not None:
            refusals.append(busy)
    if refusals:
        raise max(refusals, key=lambda each: each.retry_after_ms)
    return result


def _routed(queues: Sequence[Queue], command: commands.PublishTopic, block: Block, now_ms: int) -> Routed:
    targets = []
    ready_at_ms = 0
    for queue in queues:
        highest = queue.options.priorities - 1
        asked = command if command.priority <= highest else command._replace(priority=highest)
        envelope, ready_at_ms = decide.envelope_of(queue, asked, now_ms)
        targets.append(Target(queue.number, queue.next_offset, envelope.expires_at_ms, envelope.priority))
    return Routed(command.subject, now_ms, command.key, ready_at_ms, command.dedupe, tuple(targets), block)
