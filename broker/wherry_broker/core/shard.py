"""The shard: the seam between the pure core and the rest. Commands and time go in; records and effects come out.

The face is small, in the manner of raft's Ready and Advance: `attach`, `detach`, `submit`, `tick`, `next_deadline_ms`,
`take_batch`, `committed`, `take_effects`, `restore`, `restored`. Its user calls, in any order and at any time, what
gives input; then takes a batch of records, makes it durable, says `committed`, and sends the effects. A commit is an
interval: input goes on while it lasts.

Durable state is written by `evolve` only. What no restart survives (sessions, consumers, credit, leases) is written
by the parts below that own it, since no log holds it. Each command has one method of one part; see `_commands`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry.model import commands
from wherry_broker.core import joining
from wherry_broker.core.answers import Answers
from wherry_broker.core.attendance import Attendance
from wherry_broker.core.awaiting import Awaiting
from wherry_broker.core.batch import DELAYED, LEASED, Batch, Span
from wherry_broker.core.catalogue import Catalogue, Reconfigured
from wherry_broker.core.committing import Committing
from wherry_broker.core.consumers import Session
from wherry_broker.core.dispatch import Dispatcher
from wherry_broker.core.editing import Editing
from wherry_broker.core.inboxes import Inboxes
from wherry_broker.core.inquiring import Inquiring
from wherry_broker.core.keys import Throttle
from wherry_broker.core.ledger import RESIDENT_BYTES_MAX, Commit, Ledger, Places
from wherry_broker.core.lookups import Lookups
from wherry_broker.core.memory import UNBOUNDED
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.outcomes import Wait
from wherry_broker.core.planning import Calendar, no_calendar
from wherry_broker.core.policies import Policies
from wherry_broker.core.producers import WINDOW_MS
from wherry_broker.core.publishing import Publishing
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.routing import Routing
from wherry_broker.core.schedules import Schedule
from wherry_broker.core.scheduling import Scheduling
from wherry_broker.core.sessions import Sessions
from wherry_broker.core.settling import Settling
from wherry_broker.core.stores import Keeper, Store, Watch
from wherry_broker.core.storing import Storing
from wherry_broker.core.watching import Watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wherry_broker.core.effects import Effect
    from wherry_broker.core.records import Record


class Shard:
    """All queues of one log.

    Args:
        epoch: the number of this start of the log; it grows with every start.
        draw: returns a number evenly drawn from [0, 1), for jitter.
        defaults: the options of a queue that is declared without any.
        auto_declare: whether a publish to, or a consumer of, an unknown queue declares it.
        producer_window_ms: how long a producer is remembered that is not heard of.
        resume_ms: how long what a client was leased outlives its connection; 0 for not at all.
        resident_bytes_max: how many bytes of messages are kept in memory, of those that a log keeps too.
        memory_bytes_max: how much memory all that is stored may take before publishes are refused.
    """

    def __init__(
        self,
        epoch: int,
        draw: Callable[[], float],
        defaults: QueueOptions | None = None,
        *,
        auto_declare: bool = True,
        producer_window_ms: int = WINDOW_MS,
        resume_ms: int = 0,
        calendar: Calendar = no_calendar,
        resident_bytes_max: int = RESIDENT_BYTES_MAX,
        memory_bytes_max: int = UNBOUNDED,
    ) -> None:
        self.ledger = Ledger(epoch, resident_bytes_max, memory_bytes_max)
        self.state = self.ledger.state
        self.state.producers.window_ms = producer_window_ms
        self.draining = False
        self._visits = Sessions(self.state.timers, resume_ms)
        self._sessions = self._visits.here
        answers = self._answers = Answers(self.ledger)
        self._dispatcher = Dispatcher(self.ledger)
        self._attendance = Attendance(self.ledger, answers, self._dispatcher)
        self._catalogue = Catalogue(
            self.ledger, answers, self._attendance, Policies(defaults or QueueOptions()), auto_declare=auto_declare
        )
        self._publishing = Publishing(self.ledger, answers)
        self._routing = Routing(self.ledger, answers)
        self._settling = Settling(self.ledger, answers, draw)
        self._committing = Committing(self.ledger, answers, self._catalogue, self._settling, draw)
        self._lookups = Lookups(self.ledger, answers, self._catalogue, self._sessions)
        self._editing = Editing(self.ledger, answers, self._lookups)
        self._inboxes = Inboxes(self.ledger)
        self._storing = Storing(self.ledger, answers, self._lookups, self._catalogue)
        self._watching = Watching(self.ledger, answers, self._lookups, self._catalogue)
        self._scheduling = Scheduling(self.ledger, answers, self._catalogue, self._lookups, calendar)
        self._awaiting = Awaiting(self.ledger, answers)
        self._inquiring = Inquiring(self.ledger, answers, self._lookups, self._awaiting)
        self._commands = self._table()

    def _table(self) -> dict[type, Callable[[Session, Any, int], None]]:
        """The method for each command."""
        return {
            commands.Publish: self._publish,
            commands.PublishTopic: self._publish_topic,
            commands.Settle: self._settling.settle,
            commands.Commit: self._commit,
            commands.Consume: self._consume,
            commands.Credit: self._attendance.credit,
            commands.Stop: self._attendance.stop,
            commands.Declare: self._catalogue.declare,
            commands.ListQueues: self._lookups.list_queues,
            **{kind: self._inboxes.kept(carry_out) for kind, carry_out in self._for_owners().items()},
            commands.ReadGate: self._lookups.gate,
            **self._storing.commands,
            commands.Watch: self._watching.watch,
            **self._scheduling.commands,
        }

    def _for_owners(self) -> dict[type, Callable[[Session, Any, int], None]]:
        """The commands that are refused for the temporary queues of others."""
        return {
            commands.Alter: self._catalogue.alter,
            commands.Delete: self._delete,
            commands.Purge: self._editing.purge,
            commands.Cancel: self._editing.cancel,
            commands.Redrive: self._editing.redrive,
            commands.Pause: self._catalogue.pause,
            commands.Info: self._lookups.info,
            commands.Peek: self._lookups.peek,
            commands.Status: self._inquiring.status,
            commands.ReadResults: self._inquiring.results,
            commands.Await: self._inquiring.ends,
        }

    # The log's side; see Ledger.

    def restore(self, record: Record, segment: int = 0) -> None:
        """Takes a record of the log, which stands in `segment`, before anything else is done."""
        self.ledger.restore(record, segment)

    def restored(self, now_ms: int) -> None:
        """The log is read to its end: what was leased when it ended is ready, and all that is due is applied."""
        self.ledger.restored(now_ms)
        self.tick(now_ms)
        self._scheduling.restored(now_ms)  # what they publish belongs into the segment that is not begun yet

    def take_batch(self, *, roll: bool = False, log_bytes: int = 0, slack_bytes: int = 0) -> Commit | None:
        """The records that wait to be made durable; None when there is nothing to do."""
        return self.ledger.take_batch(roll=roll, log_bytes=log_bytes, slack_bytes=slack_bytes)

    def committed(self, mark: int, places: Places = ()) -> None:
        """The commit of that mark is durable, and its blocks lie there."""
        self.ledger.committed(mark, places)

    def reconfigure(self, policies: Policies, now_ms: int) -> Reconfigured:
        """Has other defaults and policies from now on, for queues that are there too, as far as nobody asked otherwise.

        Those that the log brought have what they had when it ended, until this is called.
        """
        self.tick(now_ms)
        return self._catalogue.reconfigure(policies, now_ms)

    # Input.

    def attach(self, room_bytes: int, producer: str = "", owner: str = "", name: str = "") -> int:
        """A client comes. One that comes back in time goes on with what it was leased.

        Args:
            room_bytes: how many bytes may be delivered to it at once.
            producer: the id under which it numbers its publishes, and comes back; "" for none.
            owner: whom it belongs to: nobody else can come in its place.
            name: what it calls itself, for those who ask about messages.

        Returns:
            The number of its session.
        """
        return self._visits.attach(room_bytes, (owner, producer), name).number

    def holder(self, producer: str, owner: str) -> int:
        """The number of the session that a client has already, whose connection is still there; 0 for none."""
        return self._visits.holder((owner, producer))

    def detach(self, number: int, now_ms: int, *, resumes: bool = False) -> None:
        """A client has gone: its leases are lost; or, if `resumes`, once it does not come back in time."""
        self.tick(now_ms)
        self._watching.forget_session(self._sessions[number])
        self._awaiting.forget_session(self._sessions[number])
        self._lose(self._visits.detach(number, now_ms, resumes=resumes and not self.draining), now_ms)

    def make_room(self, number: int, room_bytes: int) -> None:
        """A client can be sent `room_bytes` bytes now, in place of what was left before."""
        self._dispatcher.make_room(self._sessions[number], room_bytes)

    def submit(self, number: int, command: commands.Request | commands.Credit, now_ms: int) -> None:
        """Takes a command of a session. What comes of it are effects and records."""
        self.tick(now_ms)
        session = self._sessions[number]
        try:
            self._commands[type(command)](session, command, now_ms)
        except Refusal as refusal:
            self._answers.refuse(session, command, refusal)

    def submit_all(
        self,
        number: int,
        given: Sequence[commands.Request | commands.Credit],
        now_ms: int,
        enough: Callable[[], bool] = lambda: False,
    ) -> int:
        """Takes commands of a session that came together, in order; the same as one `submit` for each.

        Args:
            number: the session.
            given: the commands.
            now_ms: the time.
            enough: asked between commands whether to leave the rest (not after every publish, since those are short).

        Returns:
            How many of them were taken.
        """
        if len(given) == 1:
            self.submit(number, given[0], now_ms)
            return 1
        taken = 0
        for item in joining.joined(given):
            if not isinstance(item, joining.Together):
                self.submit(number, item, now_ms)
                taken += 1
            else:
                if not self._publish_together(self._sessions[number], item.publishes, now_ms):
                    for publish in item.publishes:
                        self.submit(number, publish, now_ms)
                taken += len(item.publishes)
            if taken < len(given) and (type(item) is not commands.Publish or not taken % 8) and enough():
                break
        return taken

    def tick(self, now_ms: int) -> None:
        """Applies all that is due at `now_ms`."""
        self.ledger.now_ms = now_ms
        if not self.state.timers.may_be_due(now_ms) and now_ms < self.state.producers.idle_ms:
            return  # as it is nearly always
        self.state.producers.forget_idle(now_ms)
        lost: dict[Span, None] = {}  # a lease may be over and, at the same moment, who holds it
        for item in self.state.timers.due(now_ms):
            if isinstance(item, Batch):
                self._settling.lose(lost, now_ms)
                lost = {}
                self._settling.expire(item, now_ms)
            elif isinstance(item, Span) and item.state == DELAYED:
                item.batch.queue.wake(item)
                self.ledger.dirty[item.batch.queue] = None
            elif isinstance(item, Span) and item.state == LEASED:
                lost[item] = None
            elif isinstance(item, Session):
                lost |= dict.fromkeys(self._visits.forget(item))
            elif isinstance(item, Throttle):
                item.queue.refilled(item)
                self.ledger.dirty[item.queue] = None
            elif isinstance(item, Watch | Wait):
                self._expire(item, now_ms)
            elif isinstance(item, Schedule):
                self._scheduling.due(item, now_ms)
        self._lose(lost, now_ms)

    def _expire(self, item: Watch | Wait, now_ms: int) -> None:
        if isinstance(item, Watch):
            self._watching.expire(item, now_ms)
        else:
            self._awaiting.expire(item, now_ms)

    def _lose(self, spans: Iterable[Span], now_ms: int) -> None:
        """Ends deliveries that nobody can settle any more, and then what has ended with a session."""
        self._settling.lose(spans, now_ms)
        while self._visits.ended:
            self._inboxes.close(self._visits.ended.pop())

    def drain(self, text: str, now_ms: int) -> None:
        """Begins to shut down: publishes and consumers are refused from now on, and all consumers are stopped."""
        self._lose(self._visits.forget_all(), now_ms)
        self.draining = self._dispatcher.stopped = self._scheduling.stopped = True
        for session in self._sessions.values():
            self._attendance.dismiss_session(session, "draining", text)

    # Output.

    @property
    def leased(self) -> int:
        """How many messages are leased, in all queues."""
        return sum(queue.counts[LEASED] for queue in self.state.queues.values())

    @property
    def has_work(self) -> bool:
        """Whether `dispatch` may have something to lease."""
        return bool(self.ledger.dirty)

    def dispatch(self, now_ms: int) -> None:
        """Leases what is ready to the consumers that can take it, and tells values to those who wait for them."""
        self.tick(now_ms)
        stores = [queue for queue in self.ledger.dirty if isinstance(queue, Keeper)]
        if stores:
            self._watching.run(stores, now_ms)
            self._awaiting.run(stores)
        self.ledger.watch_memory(now_ms)
        self._dispatcher.run(now_ms)

    def fetched(self, batches: Sequence[Batch], datas: Sequence[bytes | None], now_ms: int) -> None:
        """The bytes of batches that `take_wanted` has told of."""
        self.ledger.pager.fetched(batches, datas)
        for batch in batches:
            self.ledger.dirty[batch.queue] = None
        for number, command in self._lookups.take_waiting():
            if number in self._sessions:
                self.submit(number, command, now_ms)

    def take_effects(self) -> list[Effect]:
        """What may be said to sessions now, in order."""
        return self.ledger.take_effects()

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do next; None for never."""
        return self.state.timers.next_ms()

    def _delete(self, session: Session, command: commands.Delete, now_ms: int) -> None:
        queue = self.state.names.get(command.queue)
        self._catalogue.delete(session, command, now_ms)
        if isinstance(queue, Store):
            self._watching.abandon(queue)

    # What is refused while draining.

    def _check_not_draining(self) -> None:
        if self.draining:
            raise Refusal("draining", "the broker is shutting down", retryable=True)

    def _publish(self, session: Session, command: commands.Publish, now_ms: int) -> None:
        if command.sequence and self._publishing.answer_again(session, command):
            return
        self._check_not_draining()
        self._publishing.publish(session, self._catalogue.opened(command.queue), command, now_ms)

    def _commit(self, session: Session, command: commands.Commit, now_ms: int) -> None:
        if command.sequence and self._committing.answer_again(session, command):
            return
        if not command.settles:  # with a settle it ends work in hand, which draining waits for
            self._check_not_draining()
        self._committing.commit(session, command, now_ms)

    def _publish_topic(self, session: Session, command: commands.PublishTopic, now_ms: int) -> None:
        if command.sequence and self._routing.answer_again(session, command):
            return
        self._check_not_draining()
        self._routing.publish(session, command, now_ms)

    def _publish_together(self, session: Session, publishes: Sequence[commands.Publish], now_ms: int) -> bool:
        self.tick(now_ms)
        return not self.draining and self._publishing.publish_together(session, publishes, now_ms)

    def _consume(self, session: Session, command: commands.Consume, now_ms: int) -> None:
        self._check_not_draining()
        self._attendance.check_free(session, command)
        self._inboxes.check(session, command.queue)
        name = command.queue
        queue = self._inboxes.opened(session, name) if command.temporary else self._catalogue.opened(name)
        self._attendance.consume(session, queue, command, now_ms)
