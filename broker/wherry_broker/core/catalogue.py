"""The catalogue of queues: they are declared, changed, emptied and deleted here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry.model import commands, replies
from wherry_broker.core import decide, records, view
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.stores import Store

if TYPE_CHECKING:
    from wherry_broker.core.answers import Answers
    from wherry_broker.core.attendance import Attendance
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.options import QueueOptions
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Fact


QUEUES_MAX = 100_000
"""How many queues there are at a time: each holds some memory, though nothing is in it."""


class Catalogue:
    """Carries out what is asked for whole queues.

    Args:
        ledger: the durable state.
        answers: where answers go.
        attendance: told of queues that are deleted.
        defaults: the options of a queue that is declared without any.
        auto_declare: whether an unknown queue is declared when it is used.
    """

    def __init__(
        self, ledger: Ledger, answers: Answers, attendance: Attendance, defaults: QueueOptions, *, auto_declare: bool
    ) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._answers = answers
        self._attendance = attendance
        self._defaults = defaults
        self._auto_declare = auto_declare

    def opened(self, name: str) -> Queue:
        """The queue of a name; declares it when that is allowed.

        Raises:
            Refusal: not_found, there is none and it may not be declared; unavailable, there are too many.
        """
        if name not in self._state.names and self._auto_declare:
            self._ledger.apply(self._declared(name, {}))
        return decide.named(self._state, name)

    def opened_store(self, name: str) -> Store:
        """The store of a name; declares it when that is allowed.

        Raises:
            Refusal: not_found, there is none and it may not be declared; invalid, it is a queue; unavailable, there are
                too many.
        """
        if name not in self._state.names and self._auto_declare:
            self._ledger.apply(self._declared(name, {"kind": "store"}))
        store = decide.named(self._state, name)
        if not isinstance(store, Store):
            raise Refusal("invalid", f"{name!r} is a queue, not a store", queue=name)
        return store

    def declare(self, session: Session, command: commands.Declare, now_ms: int) -> None:
        """Makes a queue, or sees that it is as asked."""
        new = self._declared(command.queue, command.options)
        self._ledger.apply(new)
        queue = self._state.names[command.queue]
        info = view.queue_info(queue, now_ms)
        self._answers.say(session, replies.QueueInfo(command.request, info, bool(new)), queue.mark)

    def alter(self, session: Session, command: commands.Alter, now_ms: int) -> None:
        """Changes options of a queue."""
        queue = decide.named(self._state, command.queue)
        self._ledger.apply(decide.alter(queue, command.options, now_ms))
        info = view.queue_info(queue, now_ms)
        self._answers.say(session, replies.QueueInfo(command.request, info), queue.mark)

    def _declared(self, name: str, options: dict[str, Any]) -> list[Fact]:
        new = decide.declare(self._state, name, options, self._defaults)
        if new and len(self._state.names) >= QUEUES_MAX:
            text = f"there are {len(self._state.names)} queues, and {QUEUES_MAX} is the limit"
            raise Refusal("unavailable", text, queue=name, retryable=True)
        return new

    def delete(self, session: Session, command: commands.Delete, _now_ms: int) -> None:
        """Removes a queue with all that it holds."""
        queue = decide.named(self._state, command.queue)
        held = queue.messages_held
        self._ledger.apply((records.Deleted(queue.number),))
        self._attendance.dismiss(queue, "not_found", f"queue {queue.name!r} was deleted", self._ledger.newest_mark)
        self._ledger.dirty.pop(queue, None)
        self._answers.say(session, replies.Done(command.request, held), self._ledger.newest_mark)

    def pause(self, session: Session, command: commands.Pause, _now_ms: int) -> None:
        """Stops or starts the deliveries of a queue."""
        queue = decide.named(self._state, command.queue)
        self._ledger.apply(decide.pause(queue, paused=command.paused))
        self._answers.say(session, replies.Done(command.request), queue.mark)
