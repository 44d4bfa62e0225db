"""Requests that only look: they are answered from the state, change nothing, and may be answered at length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.model import commands, replies
from wherry.model.fields import ROWS_MAX
from wherry_broker.core import decide, gates, view
from wherry_broker.core.memory import UNBOUNDED
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wherry_broker.core.answers import Answers
    from wherry_broker.core.batch import Batch
    from wherry_broker.core.catalogue import Catalogue
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger

ANSWER_BYTES_MAX = 4_194_304
"""How much one session is answered by requests that only look, before it has taken some of it."""
Waiting = (
    commands.Peek
    | commands.Redrive
    | commands.Fetch
    | commands.Increment
    | commands.Watch
    | commands.Status
    | commands.ReadResults
    | commands.Await
)
"""What may have to wait for bytes that only the log has."""
ROW_BYTES = 64
"""What a row of ids counts."""
LOOK_BYTES = 1_024
"""What a small answer counts, or one row of a long one: about what it takes until it is sent."""


class Lookups:
    """Answers requests that only look.

    Args:
        ledger: the durable state.
        answers: where answers go.
        catalogue: what it knows of queues.
        sessions: those that have a connection.
    """

    def __init__(self, ledger: Ledger, answers: Answers, catalogue: Catalogue, sessions: Mapping[int, Session]) -> None:
        self._ledger = ledger
        self._answers = answers
        self._catalogue = catalogue
        self._sessions = sessions
        self._state = ledger.state
        self._waiting: list[tuple[int, Waiting]] = []

    def info(self, session: Session, command: commands.Info, now_ms: int) -> None:
        """A queue's counts, rates and options."""
        self.count(session, LOOK_BYTES)
        queue = decide.named(self._state, command.queue)
        info = self._catalogue.info_of(queue, now_ms)
        self._answers.say(session, replies.QueueInfo(command.request, info), queue.mark)

    def list_queues(self, session: Session, command: commands.ListQueues, _now_ms: int) -> None:
        """A page of queues, and how the broker is."""
        self.count(session, LOOK_BYTES)
        queues, more = self._state.page(command.prefix, command.after, view.PAGE_QUEUES_MAX)
        session.answered_bytes += LOOK_BYTES * len(queues)
        rows = tuple(view.queue_row(queue) for queue in queues)
        memory = self._state.memory
        most = 0 if memory.bytes_max >= UNBOUNDED else memory.bytes_max
        durability = self._catalogue.defaults.durability
        broker = (max(0, memory.held_bytes), most, len(self._sessions), durability)
        self._answers.say(session, replies.Queues(command.request, rows, more, *broker), self._ledger.newest_mark)

    def gate(self, session: Session, command: commands.ReadGate, _now_ms: int) -> None:
        """What waits at a gate, and a page of the messages that count for it."""
        self.count(session, LOOK_BYTES)
        gate = self._state.gates.get(command.gate)
        if gate is None:
            raise Refusal("not_found", f"there is no gate {command.gate!r}, or no longer")
        queues = self._state.queues
        rows = gates.joined(gate.members)
        page = rows[command.skip : command.skip + ROWS_MAX]
        session.answered_bytes += ROW_BYTES * len(page)
        members = tuple((queues[number].name, first, count) for number, first, count in page if number in queues)
        queue, more = queues[gate.queue], command.skip + len(page) < len(rows)
        counts = (gate.offset, max(gate.remaining, 0), gate.failed, gate.strict)
        self._answers.say(session, replies.Gate(command.request, queue.name, *counts, members, more), queue.mark)

    def peek(self, session: Session, command: commands.Peek, _now_ms: int) -> None:
        """Messages of a queue; the answer waits until their bytes are in memory."""
        queue = decide.named(self._state, command.queue)
        selection = view.select(queue, command.state, command.first, command.limit)
        if not self.has_bytes(session, command, selection.absent()):
            return
        self.count(session, LOOK_BYTES)
        lengths, block = selection.block()
        session.answered_bytes += len(block)
        details = tuple(view.detail_row(span) for span, _, _ in selection.parts)
        reply = replies.Peeked(command.request, selection.rows(), lengths, details, selection.next_offset, block)
        self._answers.say(session, reply, queue.mark)

    def has_bytes(self, session: Session, command: Waiting, batches: Sequence[Batch]) -> bool:
        """Whether the bytes of batches are in memory; else they are asked for, and the command waits for them."""
        absent = [batch for batch in batches if batch.block.data is None]
        for batch in absent:
            self._ledger.pager.want(batch)
        if absent:
            self._waiting.append((session.number, command))
        return not absent

    def take_waiting(self) -> list[tuple[int, Waiting]]:
        """The commands that wait for bytes, each with its session's number; they are to be submitted again."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def count(self, session: Session, size: int) -> None:
        """Counts an answer to a request that only looks: a few bytes ask for it, and it may be a million long.

        Raises:
            Refusal: unavailable, the session was answered much and has taken none of it yet.
        """
        if session.answered_bytes > ANSWER_BYTES_MAX:
            raise Refusal("unavailable", "too much was asked at once: take the answers first", retryable=True)
        session.answered_bytes += size
