"""The shard: the seam between the pure core and the rest. Commands and time go in; records and effects come out.

The face is small, in the manner of raft's Ready and Advance: `attach`, `detach`, `submit`, `tick`, `next_deadline_ms`,
`take_batch`, `committed`, `take_effects`, `restore`, `restored`. Its user calls, in any order and at any time, what
gives input; then takes a batch of records, makes it durable, says `committed`, and sends the effects. A commit is an
interval: input goes on while it lasts.

Durable state is written by `evolve` only. What no restart survives (sessions, consumers, credit, leases) is written
here, since no log holds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry.model import commands, replies
from wherry_broker.core import decide, joining, records, view
from wherry_broker.core.batch import DEAD, DELAYED, LEASED, Batch, Span
from wherry_broker.core.consumers import Consumer, Session
from wherry_broker.core.decide import Refusal
from wherry_broker.core.effects import Delivery, Effect
from wherry_broker.core.ledger import MEMORY_BYTES_MAX, Commit, Ledger, Places
from wherry_broker.core.options import QueueOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry_broker.core.effects import Say
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Record

SPAN_BYTES_MAX = 262_144
"""A span of at most this many bytes is delivered whole whenever there is room at all; a longer one is cut to fit."""
ANSWER_BYTES_MAX = 4_194_304
"""How much one session is answered by requests that only look, before it has taken some of it."""
LOOK_BYTES = 1_024
"""What a small answer counts, or one row of a long one: about what it takes until it is sent."""


class Shard:
    """All queues of one log.

    Args:
        epoch: the number of this start of the log; it grows with every start.
        draw: returns a number evenly drawn from [0, 1), for jitter.
        defaults: the options of a queue that is declared without any.
        auto_declare: whether a publish to, or a consumer of, an unknown queue declares it.
        memory_bytes_max: how many bytes of messages are kept in memory, of those that a log keeps too.
    """

    def __init__(
        self,
        epoch: int,
        draw: Callable[[], float],
        defaults: QueueOptions | None = None,
        *,
        auto_declare: bool = True,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
    ) -> None:
        self.ledger = Ledger(epoch, memory_bytes_max)
        self.state = self.ledger.state
        self._waiting_peeks: list[tuple[int, commands.Peek]] = []
        self.draining = False
        self._draw = draw
        self._defaults = defaults or QueueOptions()
        self._auto_declare = auto_declare
        self._sessions: dict[int, Session] = {}
        self._session_number = 0

    # The log's side; see Ledger.

    def restore(self, record: Record, segment: int = 0) -> None:
        """Takes a record of the log, which stands in `segment`, before anything else is done."""
        self.ledger.restore(record, segment)

    def restored(self, now_ms: int) -> None:
        """The log is read to its end: what was leased when it ended is ready, and all that is due is applied."""
        self.ledger.restored(now_ms)
        self.tick(now_ms)

    def take_batch(self, *, roll: bool = False, log_bytes: int = 0, slack_bytes: int = 0) -> Commit | None:
        """The records that wait to be made durable; None when there is nothing to do."""
        return self.ledger.take_batch(roll=roll, log_bytes=log_bytes, slack_bytes=slack_bytes)

    def committed(self, mark: int, places: Places = ()) -> None:
        """The commit of that mark is durable, and its blocks lie there."""
        self.ledger.committed(mark, places)

    # Input.

    def attach(self, room_bytes: int) -> int:
        """A client comes.

        Args:
            room_bytes: how many bytes may be delivered to it at once.

        Returns:
            The number of its session.
        """
        self._session_number += 1
        self._sessions[self._session_number] = Session(self._session_number, room_bytes)
        return self._session_number

    def detach(self, number: int, now_ms: int) -> None:
        """A client has gone: its leases are lost."""
        self.tick(now_ms)
        session = self._sessions.pop(number)
        for consumer in list(session.consumers.values()):
            session.retire(consumer)
        self._lose([span for consumer in session.retired for span in consumer.spans], now_ms)

    def make_room(self, number: int, room_bytes: int) -> None:
        """A client can be sent `room_bytes` bytes now, in place of what was left before."""
        session = self._sessions[number]
        session.room_bytes = room_bytes
        if room_bytes > 0:
            session.answered_bytes = 0
        if room_bytes > 0 and session.parked:
            parked, session.parked = session.parked, {}
            for consumer in parked:
                consumer.queued = False
                self._line_up(consumer)

    def submit(self, number: int, command: commands.Request | commands.Credit, now_ms: int) -> None:
        """Takes a command of a session. What comes of it are effects and records."""
        self.tick(now_ms)
        session = self._sessions[number]
        try:
            _COMMANDS[type(command)](self, session, command, now_ms)
        except Refusal as refusal:
            self._refuse(session, command, refusal)

    def submit_all(self, number: int, given: Sequence[commands.Request | commands.Credit], now_ms: int) -> None:
        """Takes commands of a session that came together, in order; the same as one `submit` for each."""
        for item in joining.joined(given):
            if not isinstance(item, joining.Together):
                self.submit(number, item, now_ms)
            elif not self._publish_together(self._sessions[number], item.publishes, now_ms):
                for publish in item.publishes:
                    self.submit(number, publish, now_ms)

    def tick(self, now_ms: int) -> None:
        """Applies all that is due at `now_ms`."""
        lost: list[Span] = []
        for item in self.state.timers.due(now_ms):
            if isinstance(item, Batch):
                self._lose(lost, now_ms)
                lost = []
                self._expire(item, now_ms)
            elif isinstance(item, Span) and item.state == DELAYED:
                item.batch.queue.wake(item)
                self.ledger.dirty[item.batch.queue] = None
            elif isinstance(item, Span) and item.state == LEASED:
                lost.append(item)
        self._lose(lost, now_ms)

    def drain(self, text: str) -> None:
        """Begins to shut down: publishes and consumers are refused from now on, and all consumers are stopped."""
        self.draining = True
        for session in self._sessions.values():
            for consumer in list(session.consumers.values()):
                self._stop(consumer, "draining", text, max(consumer.mark, consumer.queue.mark))

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
        """Leases what is ready to the consumers that can take it."""
        self.tick(now_ms)
        dirty, self.ledger.dirty = self.ledger.dirty, {}
        for queue in dirty:
            self._dispatch(queue, now_ms)

    def fetched(self, batches: Sequence[Batch], datas: Sequence[bytes | None], now_ms: int) -> None:
        """The bytes of batches that `take_wanted` has told of."""
        self.ledger.pager.fetched(batches, datas)
        for batch in batches:
            self.ledger.dirty[batch.queue] = None
        peeks, self._waiting_peeks = self._waiting_peeks, []
        for number, command in peeks:
            if number in self._sessions:
                self.submit(number, command, now_ms)

    def take_effects(self) -> list[Effect]:
        """What may be said to sessions now, in order."""
        return self.ledger.take_effects()

    def next_deadline_ms(self) -> int | None:
        """When `tick` has something to do next; None for never."""
        return self.state.timers.next_ms()

    # Inside.

    def _say(self, session: Session, say: Say, mark: int) -> None:
        self.ledger.hold(Effect(session.number, say), mark)

    def _refuse(self, session: Session, command: Any, refusal: Refusal, first: int = 0, accepted: int = 0) -> None:
        queue = self.state.names.get(refusal.queue)
        error = replies.Error(
            command.request,
            refusal.code,
            refusal.text,
            refusal.retryable,
            refusal.retry_after_ms,
            refusal.queue,
            refusal.bound,
            first,
            accepted,
            queue.options.durability if queue and accepted else "",
        )
        self._say(session, error, queue.mark if queue else self.ledger.newest_mark)

    def _queue(self, name: str) -> Queue:
        """The queue of a name; declares it when that is allowed."""
        if name not in self.state.names and self._auto_declare:
            self.ledger.apply(decide.declare(self.state, name, {}, self._defaults))
        return decide.named(self.state, name)

    def _check_not_draining(self) -> None:
        if self.draining:
            raise Refusal("draining", "the broker is shutting down", retryable=True)

    def _publish(self, session: Session, command: commands.Publish, now_ms: int) -> None:
        self._check_not_draining()
        queue = self._queue(command.queue)
        first = queue.known(command.dedupe, now_ms) if command.dedupe else None
        if first is not None:
            durability = queue.options.durability
            self._say(session, replies.Confirm(durability, ((command.request, first, True),)), queue.mark)
            return
        envelope, ready_at_ms = decide.envelope_of(queue, command, now_ms)
        block = decide.block_of(command)
        decide.check_disk(self.state, queue, block)
        self.ledger.apply(decide.drop_oldest(queue, block, now_ms))
        # A dedupe key stands for the whole batch: were a part stored under it, a retry of the rest would be lost.
        count, busy = decide.room(queue, block, now_ms, divisible=command.divisible and not command.dedupe)
        first = queue.next_offset
        if count:
            stored = block if count == block.count else block.part(0, count)
            self.ledger.apply((records.Published(queue.number, first, envelope, ready_at_ms, command.dedupe, stored),))
        if busy is None:
            confirm = replies.Confirm(queue.options.durability, ((command.request, first, False),))
            self._say(session, confirm, queue.mark)
        else:
            self._refuse(session, command, busy, first if count else 0, count)

    def _publish_together(self, session: Session, publishes: Sequence[commands.Publish], now_ms: int) -> bool:
        """Stores publishes as one batch; False, and nothing has happened, when each has to be decided alone."""
        self.tick(now_ms)
        record = None if self.draining else joining.store(self.state, publishes, now_ms)
        if record is None:
            return False
        self.ledger.apply((record,))
        queue = self.state.queues[record.queue]
        confirm = replies.Confirm(queue.options.durability, joining.confirms(publishes, record.first))
        self._say(session, confirm, queue.mark)
        return True

    def _settle(self, session: Session, command: commands.Settle, now_ms: int) -> None:
        queue = decide.named(self.state, command.queue)
        try:
            verb = commands.Verb(command.verb)
        except ValueError:
            raise Refusal("invalid", f"verb {command.verb} is not within 0 to {max(commands.Verb)}") from None
        held, stale = decide.match(self.state, queue, command)
        if verb == commands.Verb.EXTEND:
            asked_ms = command.duration_ms
            if asked_ms is not None:
                decide.check_lease(queue, asked_ms)
            for span, low, high in held:
                own_ms = span.consumer.lease_ms if span.consumer is not None else 0
                queue.extend(low, high, now_ms + (asked_ms or own_ms or queue.options.lease_ms))
        else:
            self.ledger.apply(decide.settle(queue, command, held, now_ms, self._draw))
            self._limit_dead(queue, now_ms)
        self.ledger.dirty[queue] = None
        self._say(session, replies.Settled(((command.request, tuple(stale)),)), queue.mark)

    def _consume(self, session: Session, command: commands.Consume, now_ms: int) -> None:
        self._check_not_draining()
        if command.consumer in session.consumers:
            raise Refusal("invalid", f"consumer {command.consumer} is attached already", queue=command.queue)
        queue = self._queue(command.queue)
        if command.lease_ms:
            decide.check_lease(queue, command.lease_ms)
        consumer = Consumer(session, command.consumer, queue, command.credit, command.lease_ms, self.ledger.newest_mark)
        session.consumers[command.consumer] = consumer
        queue.consumers[consumer] = None
        self._say(session, replies.Done(command.request), consumer.mark)
        self._line_up(consumer)
        self._dispatch(queue, now_ms)

    def _credit(self, session: Session, command: commands.Credit, _now_ms: int) -> None:
        consumer = session.consumers.get(command.consumer)
        if consumer is not None:  # it may have been stopped while the credit was on its way
            consumer.granted = max(consumer.granted, command.total)
            self._line_up(consumer)

    def _stop_consumer(self, session: Session, command: commands.Stop, _now_ms: int) -> None:
        consumer = session.consumers.get(command.consumer)
        if consumer is None or not consumer.attached:
            raise Refusal("not_found", f"there is no consumer {command.consumer}")
        session.retire(consumer)
        self._say(session, replies.Done(command.request, consumer.delivered), max(consumer.mark, consumer.queue.mark))

    def _declare(self, session: Session, command: commands.Declare, now_ms: int) -> None:
        new = decide.declare(self.state, command.queue, command.options, self._defaults)
        self.ledger.apply(new)
        queue = self.state.names[command.queue]
        info = view.queue_info(queue, now_ms)
        self._say(session, replies.QueueInfo(command.request, info, bool(new)), queue.mark)

    def _look(self, session: Session, size: int) -> None:
        """Counts an answer to a request that only looks: a few bytes ask for it, and it may be a million long.

        Raises:
            Refusal: unavailable, the session was answered much and has taken none of it yet.
        """
        if session.answered_bytes > ANSWER_BYTES_MAX:
            raise Refusal("unavailable", "too much was asked at once: take the answers first", retryable=True)
        session.answered_bytes += size

    def _info(self, session: Session, command: commands.Info, now_ms: int) -> None:
        self._look(session, LOOK_BYTES)
        queue = decide.named(self.state, command.queue)
        self._say(session, replies.QueueInfo(command.request, view.queue_info(queue, now_ms)), queue.mark)

    def _list(self, session: Session, command: commands.ListQueues, _now_ms: int) -> None:
        self._look(session, LOOK_BYTES)
        queues, more = self.state.page(command.prefix, command.after, view.PAGE_QUEUES_MAX)
        session.answered_bytes += LOOK_BYTES * len(queues)
        rows = tuple(view.queue_row(queue) for queue in queues)
        self._say(session, replies.Queues(command.request, rows, more), self.ledger.newest_mark)

    def _purge(self, session: Session, command: commands.Purge, now_ms: int) -> None:
        queue = decide.named(self.state, command.queue)
        before = queue.messages_held
        self.ledger.apply(decide.purge(queue, command.states, now_ms))
        self._say(session, replies.Done(command.request, before - queue.messages_held), queue.mark)

    def _delete(self, session: Session, command: commands.Delete, _now_ms: int) -> None:
        queue = decide.named(self.state, command.queue)
        held = queue.messages_held
        self.ledger.apply((records.Deleted(queue.number),))
        for consumer in list(queue.consumers):
            self._stop(consumer, "not_found", f"queue {queue.name!r} was deleted", self.ledger.newest_mark)
        self.ledger.dirty.pop(queue, None)
        self._say(session, replies.Done(command.request, held), self.ledger.newest_mark)

    def _pause(self, session: Session, command: commands.Pause, _now_ms: int) -> None:
        queue = decide.named(self.state, command.queue)
        self.ledger.apply(decide.pause(queue, paused=command.paused))
        self._say(session, replies.Done(command.request), queue.mark)

    def _peek(self, session: Session, command: commands.Peek, _now_ms: int) -> None:
        queue = decide.named(self.state, command.queue)
        absent = view.absent(queue, command.state, command.first, command.limit)
        if absent:
            for batch in absent:
                self.ledger.pager.want(batch)
            self._waiting_peeks.append((session.number, command))
            return
        self._look(session, LOOK_BYTES)
        spans, lengths, block = view.peek(queue, command.state, command.first, command.limit)
        session.answered_bytes += len(block)
        self._say(session, replies.Peeked(command.request, spans, lengths, block), queue.mark)

    def _line_up(self, consumer: Consumer) -> None:
        consumer.line_up()
        self.ledger.dirty[consumer.queue] = None

    def _stop(self, consumer: Consumer, code: str, text: str, mark: int) -> None:
        consumer.session.retire(consumer)
        self._say(consumer.session, replies.Stopped(consumer.number, code, text), mark)

    def _dispatch(self, queue: Queue, now_ms: int) -> None:
        waiting, options = queue.waiting, queue.options
        while waiting and not options.paused and not self.draining:
            consumer = next(iter(waiting))
            session = consumer.session
            if consumer.granted <= consumer.delivered:
                del waiting[consumer]
                consumer.queued = False
                continue
            if session.room_bytes <= 0:
                del waiting[consumer]
                session.parked[consumer] = None
                continue
            count = options.max_leased - queue.counts[LEASED] if options.max_leased else consumer.credit
            if count <= 0 or not self._lease(queue, consumer, min(count, consumer.credit), now_ms):
                return
            waiting.move_to_end(consumer)

    def _lease(self, queue: Queue, consumer: Consumer, count: int, now_ms: int) -> bool:
        """Leases the next span, or as much of it as `count` and the session's room allow; False when none is ready."""
        head = queue.head()
        if head is None:
            return False
        lane, span = head
        batch, session = span.batch, consumer.session
        if queue.absent:
            self.ledger.pager.look_ahead(queue, span.low)
            if batch.block.data is None:
                self.ledger.pager.want(batch)
                return False
        low, high = span.low - batch.first, min(span.high, span.low + count) - batch.first
        if batch.block.bytes_between(low, high) > SPAN_BYTES_MAX:
            room_bytes = max(session.room_bytes, SPAN_BYTES_MAX)
            high = low + max(1, batch.block.fitting(low, high, room_bytes))
        lease_ms = consumer.lease_ms or queue.options.lease_ms
        span = queue.lease(lane, high - low, consumer, now_ms + lease_ms)
        lengths, data = batch.block.cut(low, high)
        consumer.delivered += high - low
        session.room_bytes -= len(data)
        delivery = Delivery(consumer.number, lease_ms, view.span_row(span), lengths, data)
        self._say(session, delivery, max(consumer.mark, queue.mark))
        if span.high == batch.end:
            self.ledger.pager.leased(batch)
        return True

    def _lose(self, spans: list[Span], now_ms: int) -> None:
        for span in spans:
            held = (decide.Held(span, span.low, span.high),)
            queue = span.batch.queue
            self.ledger.apply(decide.ended(queue, held, records.LOST, "", now_ms, lambda _: 0))
            self._limit_dead(queue, now_ms)

    def _limit_dead(self, queue: Queue, now_ms: int) -> None:
        excess = queue.counts[DEAD] - queue.options.dead_max_messages
        if excess > 0:
            self.ledger.apply(decide.dead_overflow(queue, excess, now_ms))

    def _expire(self, batch: Batch, now_ms: int) -> None:
        waiting = (span for span in batch.spans if span.state not in (LEASED, DEAD))
        self.ledger.apply(decide.remove(waiting, batch.queue, records.EXPIRED, now_ms))


_COMMANDS: dict[type, Callable[[Shard, Session, Any, int], None]] = {
    commands.Publish: Shard._publish,  # noqa: SLF001 (the table belongs to the class)
    commands.Settle: Shard._settle,  # noqa: SLF001
    commands.Consume: Shard._consume,  # noqa: SLF001
    commands.Credit: Shard._credit,  # noqa: SLF001
    commands.Stop: Shard._stop_consumer,  # noqa: SLF001
    commands.Declare: Shard._declare,  # noqa: SLF001
    commands.Info: Shard._info,  # noqa: SLF001
    commands.ListQueues: Shard._list,  # noqa: SLF001
    commands.Purge: Shard._purge,  # noqa: SLF001
    commands.Delete: Shard._delete,  # noqa: SLF001
    commands.Pause: Shard._pause,  # noqa: SLF001
    commands.Peek: Shard._peek,  # noqa: SLF001
}
