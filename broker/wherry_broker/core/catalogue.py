"""The catalogue of queues: they are declared, changed, emptied and deleted here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from wherry.model import commands, replies
from wherry.model.names import TEMPORARY_PREFIX
from wherry_broker.core import decide, records, view
from wherry_broker.core.policies import Policies, reshaped
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


class Reconfigured(NamedTuple):
    """What another configuration has done.

    Attributes:
        changed: the queues that have other options now.
        kept: those that have kept an option that cannot be changed.
    """

    changed: list[str]
    kept: list[str]


class Catalogue:
    """Carries out what is asked for whole queues.

    Args:
        ledger: the durable state.
        answers: where answers go.
        attendance: told of queues that are deleted.
        policies: the options of a queue that were not asked for.
        auto_declare: whether an unknown queue is declared when it is used.
    """

    def __init__(
        self, ledger: Ledger, answers: Answers, attendance: Attendance, policies: Policies, *, auto_declare: bool
    ) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._answers = answers
        self._attendance = attendance
        self._policies = policies
        self._auto_declare = auto_declare

    @property
    def defaults(self) -> QueueOptions:
        """The options of a queue that no policy matches."""
        return self._policies.defaults

    def reconfigure(self, policies: Policies, now_ms: int) -> Reconfigured:
        """Has other policies, and gives all queues the options that these have for them."""
        self._policies = policies
        result = Reconfigured([], [])
        for queue in [each for each in self._state.queues.values() if not each.is_temporary]:
            facts, kept = reshaped(queue, policies, now_ms)
            self._ledger.apply(facts)
            if facts:
                result.changed.append(queue.name)
            if kept:
                result.kept.append(queue.name)
        return result

    def opened(self, name: str) -> Queue:
        """The queue of a name; declares it when that is allowed.

        Raises:
            Refusal: not_found, there is none and it may not be declared; unavailable, there are too many.
        """
        if name not in self._state.names and self._may_declare(name):
            self._ledger.apply(self._declared(name, {}))
        return decide.named(self._state, name)

    def opened_store(self, name: str) -> Store:
        """The store of a name; declares it when that is allowed.

        Raises:
            Refusal: not_found, there is none and it may not be declared; invalid, it is a queue; unavailable, there are
                too many.
        """
        if name not in self._state.names and self._may_declare(name):
            self._ledger.apply(self._declared(name, {"kind": "store"}))
        store = decide.named(self._state, name)
        if not isinstance(store, Store):
            raise Refusal("invalid", f"{name!r} is a queue, not a store", queue=name)
        return store

    def declare(self, session: Session, command: commands.Declare, now_ms: int) -> None:
        """Makes a queue, or sees that it is as asked."""
        if command.queue.startswith(TEMPORARY_PREFIX):
            text = f"only a consumer makes a queue whose name begins with {TEMPORARY_PREFIX!r}"
            raise Refusal("invalid", text, queue=command.queue)
        is_new = command.queue not in self._state.names
        self._ledger.apply(self._declared(command.queue, command.options))
        queue = self._state.names[command.queue]
        self._answers.say(session, replies.QueueInfo(command.request, self.info_of(queue, now_ms), is_new), queue.mark)

    def _may_declare(self, name: str) -> bool:
        return self._auto_declare and not name.startswith(TEMPORARY_PREFIX)

    def alter(self, session: Session, command: commands.Alter, now_ms: int) -> None:
        """Changes options of a queue."""
        queue = decide.named(self._state, command.queue)
        self._ledger.apply(decide.alter(queue, command.options, now_ms))
        self._answers.say(session, replies.QueueInfo(command.request, self.info_of(queue, now_ms)), queue.mark)

    def info_of(self, queue: Queue, now_ms: int) -> dict[str, Any]:
        """Everything that QUEUEINFO tells of a queue."""
        return view.queue_info(queue, now_ms, self._policies.patterns(queue.name))

    def _declared(self, name: str, options: dict[str, Any]) -> list[Fact]:
        others = self._policies.options(name, is_store=options.get("kind") == "store")
        new = decide.declare(self._state, name, options, others, self._policies.defaults.durability)
        if name not in self._state.names and len(self._state.names) >= QUEUES_MAX:
            text = f"there are {len(self._state.names)} queues, and {QUEUES_MAX} is the limit"
            raise Refusal("unavailable", text, queue=name, retryable=True)
        return new

    def delete(self, session: Session, command: commands.Delete, now_ms: int) -> None:
        """Removes a queue with all that it holds."""
        queue = decide.named(self._state, command.queue)
        held = queue.messages_held
        if queue.tracked:  # how their messages ended is remembered for longer than the queue
            self._ledger.apply(decide.remove(queue.spans(), queue, records.PURGED, now_ms))
        self._ledger.apply((records.Deleted(queue.number),))
        self._attendance.dismiss(queue, "not_found", f"queue {queue.name!r} was deleted", self._ledger.newest_mark)
        self._ledger.dirty.pop(queue, None)
        self._answers.say(session, replies.Done(command.request, held), self._ledger.newest_mark)

    def pause(self, session: Session, command: commands.Pause, _now_ms: int) -> None:
        """Stops or starts the deliveries of a queue."""
        queue = decide.named(self._state, command.queue)
        self._ledger.apply(decide.pause(queue, paused=command.paused))
        self._answers.say(session, replies.Done(command.request), queue.mark)
