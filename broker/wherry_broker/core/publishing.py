"""Publishing: messages come into queues, or are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.model import commands, replies
from wherry_broker.core import bounds, decide, joining, records
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry_broker.core.answers import Answers
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.queue import Queue


class Publishing:
    """Carries out publishes.

    Args:
        ledger: the durable state.
        answers: where confirms go.
    """

    def __init__(self, ledger: Ledger, answers: Answers) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._answers = answers
        self._sequences = Sequences(ledger.state)

    def publish(self, session: Session, queue: Queue, command: commands.Publish, now_ms: int) -> None:
        """Stores a batch, or as much of it as fits when it is divisible."""
        first = queue.dedupe.known(command.dedupe, now_ms) if command.dedupe else None
        if first is not None:
            self._remember(session, queue, command, first, 0, now_ms)
            self._confirm(session, queue, ((command.request, first, True),))
            return
        envelope, ready_at_ms = decide.envelope_of(queue, command, now_ms)
        if command.track:
            envelope = decide.tracked(envelope, session.name)
        if command.parent:
            envelope = decide.sent_by(self._state, envelope, command.parent)
        block = decide.block_of(command)
        bounds.check_broker(self._state, queue, block, envelope, command.dedupe)
        if command.dedupe:
            bounds.check_dedupe(queue, now_ms)
        self._ledger.apply(bounds.drop_oldest(queue, block.count, block.size, now_ms))
        # A dedupe key stands for the whole batch: were a part stored under it, a retry of the rest would be lost.
        count, busy = bounds.room(queue, block, now_ms, divisible=command.divisible and not command.dedupe)
        first = queue.next_offset
        if count:
            stored = block if count == block.count else block.part(0, count)
            self._ledger.apply((records.Published(queue.number, first, envelope, ready_at_ms, command.dedupe, stored),))
            self._remember(session, queue, command, first, count, now_ms)
        if busy is None:
            self._confirm(session, queue, ((command.request, first, False),))
        else:
            self._answers.refuse(session, command, busy, first if count else 0, count)

    def publish_together(self, session: Session, publishes: Sequence[commands.Publish], now_ms: int) -> bool:
        """Stores publishes as one batch; False, and nothing has happened, when each has to be decided alone."""
        sequenced = publishes[0].sequence > 0
        if sequenced and not self._sequences.are_new(session, publishes):
            return False
        record = joining.store(self._state, publishes, session.name, now_ms)
        if record is None:
            return False
        self._ledger.apply((record,))
        if sequenced:
            rows = joining.rows(publishes, record)
            self._ledger.apply((self._sequences.fact(session, publishes[-1].answered, now_ms, rows),))
        queue = self._state.queues[record.queue]
        self._confirm(session, queue, joining.confirms(publishes, record.first))
        return True

    def answer_again(self, session: Session, command: commands.Publish) -> bool:
        """Answers a publish whose sequence is known as it was answered before; False when it is new.

        Raises:
            Refusal: invalid or unavailable, nothing can be stored under this sequence.
        """
        rows = self._sequences.known(session, command.sequence)
        if not rows:
            return False
        _, number, first, count = rows[0]
        queue = self._state.queues.get(number)
        total = len(command.lengths) // 4
        if 0 < count < total:
            text = f"{count} of {total} messages were stored when this publish came before"
            after_ms = bounds.RETRY_AFTER_FLOOR_MS
            busy = Refusal("busy", text, retry_after_ms=after_ms, queue=command.queue, retryable=True)
            self._answers.refuse(session, command, busy, first, count)
            return True
        # Of one with a dedupe key a duplicate means that another was stored under it, and the first answer said which.
        row = (command.request, first, not count or not command.dedupe)
        if queue is not None:
            self._confirm(session, queue, (row,))
        else:  # it was deleted since, with these messages
            self._answers.say(session, replies.Confirm("memory", (row,)), self._ledger.newest_mark)
        return True

    def _remember(
        self, session: Session, queue: Queue, command: commands.Publish, first: int, count: int, now_ms: int
    ) -> None:
        if command.sequence:
            rows = (records.Row(command.sequence, queue.number, first, count),)
            self._ledger.apply((self._sequences.fact(session, command.answered, now_ms, rows),))

    def _confirm(self, session: Session, queue: Queue, rows: tuple[tuple[int, int, bool], ...]) -> None:
        self._answers.say(session, replies.Confirm(queue.options.durability, rows), queue.mark)
