"""The client's half of a conversation with a broker. Pure: no socket, no event loop, no clock.

The shells call in (`publish`, `settle`, `request`, `consume`, ...), move the bytes of `data_to_send` out and received
ones in, and act on the events that come back. Whoever waits for an answer is an opaque `waiter` here, which comes back
in the event; time is the argument `now`, in seconds of the shell's monotonic clock.

Publishes and settles are gathered until `data_to_send` is called, and leave as few frames: neighbours of one queue
with one envelope are one PUBLISH, settles of one kind are one SETTLE. What else is asked leaves in order after them.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Any

from wherry import errors
from wherry.conversation.events import (
    Answered,
    Cancelled,
    Confirmed,
    ConsumerStopped,
    Delivered,
    Ended,
    Event,
    Failed,
    Settled,
    Welcomed,
)
from wherry.conversation.outcomes import (
    again,
    failed,
    goodbye_error,
    refusal,
    refused_in_part,
    stale_error,
    timed_out,
)
from wherry.conversation.pending import PLAIN, Consumer, Envelope, Other, Publish, Settle
from wherry.delivery import Delivery
from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry.model.fields import BATCH_MESSAGES_MAX, HEADER_BYTES_MAX
from wherry.wire import codec
from wherry.wire.framing import FRAME_BYTES_MAX, PREFIX_BYTES, FrameReader
from wherry.wire.messages import pack_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wherry.wire.framing import Frame

__all__ = [
    "PLAIN",
    "Answered",
    "Cancelled",
    "Confirmed",
    "ConsumerStopped",
    "Conversation",
    "Delivered",
    "Ended",
    "Envelope",
    "Event",
    "Failed",
    "Settled",
    "Welcomed",
    "refusal",
]

JOIN_BYTES_MAX = 1_048_576
"""A joined publish is sent once it has this many bytes, so that no frame keeps the others waiting for long."""
JOIN_MESSAGES_MAX = 4_096
SETTLE_ROWS_MAX = 1_024
_REQUEST_MAX = 0xFFFF_FFFF


class Conversation:
    """The client's half of one connection.

    Args:
        token: what to show to the broker.
        name: what the client calls itself.
        heartbeat_ms: the longest interval after which to send a PING.

    Attributes:
        reader: cuts received bytes into frames.
        welcome: what the broker said to HELLO; None before it did.
        ended: why the conversation is over; None while it is not.
    """

    def __init__(
        self, token: str = "", name: str = "", heartbeat_ms: int = 0, scratch: memoryview | None = None
    ) -> None:
        self.reader = FrameReader(FRAME_BYTES_MAX, scratch)
        self.welcome: replies.Welcome | None = None
        self.ended: errors.WherryError | None = None
        self._out: list[bytes] = [
            codec.encode(commands.Hello("wherry", codec.VERSION, codec.VERSION, token, name, heartbeat_ms))
        ]
        self._number = 0
        self._unanswered: dict[int, Publish | Settle | Other] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._publishes: dict[str, Publish] = {}
        self._settles: dict[tuple[Any, ...], Settle] = {}
        self._extending: tuple[Any, ...] | None = None
        self._join_bytes_max = JOIN_BYTES_MAX
        self._consumers: dict[int, Consumer] = {}
        self._due_credit: dict[int, None] = {}
        self._consumer_number = 0

    # What the client wants.

    @property
    def block_bytes_max(self) -> int:
        """How many bytes of messages fit into one frame."""
        limit = self.welcome.frame_bytes_max if self.welcome else FRAME_BYTES_MAX
        return limit - HEADER_BYTES_MAX - PREFIX_BYTES

    @property
    def unanswered(self) -> int:
        """How many requests have no answer yet, sent or not."""
        return len(self._unanswered) + len(self._publishes) + len(self._settles)

    def publish(
        self, queue: str, envelope: Envelope, message: tuple[bytes, bytes], waiter: Any, deadline: float
    ) -> None:
        """Publishes one message; its neighbours may travel, and be refused, together with it or apart.

        One with a dedupe key travels alone: the key would stand for all of its frame.

        Args:
            queue: the queue's name.
            envelope: what is asked for the message.
            message: its packed headers, and its body.
            waiter: comes back in Confirmed or Failed.
            deadline: when to give up.
        """
        if envelope.dedupe:
            self.publish_batch(queue, envelope, (message,), waiter, deadline)
            return
        size = len(message[0]) + len(message[1])
        current = self._publishes.get(queue)
        if current is not None and (
            current.envelope != envelope
            or current.deadline != deadline
            or current.size + size > self._join_bytes_max
            or len(current.waiters) == JOIN_MESSAGES_MAX
        ):
            self._send_publish(self._publishes.pop(queue))
            current = None
        if current is None:
            current = Publish(queue, envelope, deadline, divisible=True)
            self._publishes[queue] = current
        current.pieces += message
        current.size += size
        current.waiters.append(waiter)

    def publish_batch(
        self, queue: str, envelope: Envelope, messages: Sequence[tuple[bytes, bytes]], waiter: Any, deadline: float
    ) -> None:
        """Publishes messages that are stored together or not at all; they fit into one frame."""
        lengths = pack_sizes([len(headers) + len(body) for headers, body in messages])
        self.publish_block(queue, envelope, lengths, b"".join(chain.from_iterable(messages)), waiter, deadline)

    def publish_block(
        self, queue: str, envelope: Envelope, lengths: bytes, block: bytes, waiter: Any, deadline: float
    ) -> None:
        """The same, with the messages as the wire has them: their lengths, and their bytes back to back."""
        assert len(lengths) <= 4 * BATCH_MESSAGES_MAX
        if queue in self._publishes:
            self._send_publish(self._publishes.pop(queue))
        batch = Publish(queue, envelope, deadline, divisible=False)
        batch.waiters.append(waiter)
        self._send_block(batch, lengths, block)

    def settle(
        self,
        delivery: Delivery,
        verb: Verb,
        first: int,
        count: int,
        waiter: Any,
        deadline: float,
        duration_ms: int | None = None,
        text: str = "",
    ) -> None:
        """Settles a range of a delivery; see `Delivery.open` and `finish` for what that means for credit."""
        # No SETTLE names an offset twice: attempts are kept apart, since one message may be in hand under two.
        key = (delivery.queue, verb, duration_ms, text, delivery.epoch, delivery.attempt)
        if self._extending is not None and (key != self._extending or first < self._settles[key].end):
            # What is settled, or extended again, was extended before: the EXTEND leaves first.
            self._send_settle(self._settles.pop(self._extending))
            self._extending = None
        current = self._settles.get(key)
        if current is not None and (len(current.rows) >= SETTLE_ROWS_MAX or current.total + count > BATCH_MESSAGES_MAX):
            self._send_settle(self._settles.pop(key))
            current = None
        if current is None:
            current = Settle(delivery.queue, verb, delivery.epoch, duration_ms, text, deadline)
            self._settles[key] = current
            self._extending = key if verb == Verb.EXTEND else self._extending
        current.add(first, count, delivery.attempt)
        if waiter is not None:
            current.waiters.append((waiter, first, count))

    def request(self, make: Callable[[int], commands.Request], waiter: Any, deadline: float) -> None:
        """Sends any other request.

        Args:
            make: makes the command for a request's number.
            waiter: comes back in Answered or Failed.
            deadline: when to give up.
        """
        self._gather()
        number = self._next_number()
        self._out.append(codec.encode(make(number)))
        self._await(number, Other(waiter), deadline)

    def consume(self, queue: str, window: int, lease_ms: int, waiter: Any, deadline: float) -> int:
        """Attaches a consumer.

        Args:
            queue: the queue's name.
            window: how many messages may be in the client's hands at a time.
            lease_ms: how long a lease is to run; 0 for the queue's own.
            waiter: comes back in Answered or Failed.
            deadline: when to give up.

        Returns:
            The consumer's number, which Delivered and ConsumerStopped name.
        """
        self._consumer_number += 1
        number = self._consumer_number
        self._consumers[number] = Consumer(queue, window)
        self.request(lambda request: commands.Consume(request, number, queue, window, lease_ms), waiter, deadline)
        return number

    def stop(self, consumer: int, waiter: Any, deadline: float) -> None:
        """Detaches a consumer. What is delivered until the answer comes is still told of."""
        self.request(lambda request: commands.Stop(request, consumer), waiter, deadline)

    def forget(self, consumer: int) -> None:
        """Forgets a consumer that was stopped."""
        self._consumers.pop(consumer, None)

    def finish(self, consumer: int, count: int) -> None:
        """Takes note that `count` messages of a consumer are in the client's hands no longer."""
        known = self._consumers.get(consumer)
        if known is not None:
            known.finished += count
            # A quarter of the window at a time: few frames, and the broker never runs dry.
            if known.finished + known.window - known.granted >= max(1, known.window // 4):
                self._due_credit[consumer] = None

    def ping(self) -> None:
        """Sends a PING; the answer shows in the bytes that come, no event does."""
        self._out.append(codec.encode(commands.Ping()))

    def close(self) -> None:
        """Says GOODBYE."""
        self._gather()
        self._out.append(codec.encode(commands.Goodbye()))

    def data_to_send(self) -> list[bytes]:
        """The bytes to write now, in order."""
        self._gather()
        out, self._out = self._out, []
        return out

    # What comes in.

    def receive(self, frames: Iterable[Frame]) -> list[Event]:
        """Takes frames from the reader; afterwards, looks at the reader's failure."""
        events: list[Event] = []
        for frame in frames:
            if self.ended is not None:
                return events
            try:
                message = codec.decode(frame)
            except (codec.BadFrame, codec.BadValue) as error:
                return events + self.end(errors.ProtocolError(f"the broker broke the protocol: {error}"))
            handler = _HANDLERS.get(type(message))
            if handler is None:
                name = type(message).__name__.upper()
                return events + self.end(errors.ProtocolError(f"a broker has no {name} to say"))
            events += handler(self, message)
        if self.reader.failure and self.ended is None:
            events += self.end(errors.ProtocolError(f"the broker broke the protocol: {self.reader.failure}"))
        return events

    def end(self, error: errors.WherryError) -> list[Event]:
        """The connection is gone: everything that waits has failed."""
        if self.ended is not None:
            return []
        self.ended = error
        pending = [*self._unanswered.values(), *self._publishes.values(), *self._settles.values()]
        self._unanswered, self._publishes, self._settles, self._out = {}, {}, {}, []
        events = [event for each in pending for event in failed(each, lambda: again(error))]
        return [*events, Ended(error)]

    def expire(self, now: float) -> list[Event]:
        """Fails what has waited for too long."""
        events: list[Event] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            pending = self._unanswered.pop(heappop(self._deadlines)[1], None)
            if pending is not None:
                events += failed(pending, timed_out)
        return events

    def next_deadline(self) -> float | None:
        """When `expire` has something to do; None for never."""
        self._drop_answered()
        return self._deadlines[0][0] if self._deadlines else None

    # Inside: out.

    def _next_number(self) -> int:
        self._number = self._number % _REQUEST_MAX + 1
        return self._number

    def _await(self, number: int, pending: Publish | Settle | Other, deadline: float) -> None:
        self._drop_answered()  # else the deadlines of all that was answered in time would pile up until they pass
        self._unanswered[number] = pending
        heappush(self._deadlines, (deadline, number))

    def _drop_answered(self) -> None:
        while self._deadlines and self._deadlines[0][1] not in self._unanswered:
            heappop(self._deadlines)

    def _gather(self) -> None:
        publishes, self._publishes = self._publishes, {}
        for publish in publishes.values():
            self._send_publish(publish)
        settles, self._settles, self._extending = self._settles, {}, None
        for settle in settles.values():
            self._send_settle(settle)
        for number in self._due_credit:
            consumer = self._consumers.get(number)
            if consumer is not None:
                consumer.granted = consumer.finished + consumer.window
                self._out.append(codec.encode(commands.Credit(number, consumer.granted)))
        self._due_credit.clear()

    def _send_publish(self, publish: Publish) -> None:
        pieces, publish.pieces = publish.pieces, []
        lengths = pack_sizes([len(a) + len(b) for a, b in zip(pieces[::2], pieces[1::2], strict=True)])
        self._send_block(publish, lengths, b"".join(pieces))

    def _send_block(self, publish: Publish, lengths: bytes, block: bytes) -> None:
        number = self._next_number()
        command = commands.Publish(number, publish.queue, lengths, *publish.envelope, publish.divisible)
        self._out.append(codec.encode(command, block))
        self._await(number, publish, publish.deadline)

    def _send_settle(self, settle: Settle) -> None:
        number = self._next_number()
        rows = tuple((row[0], row[1], row[2]) for row in settle.rows)
        command = commands.Settle(
            number, settle.queue, settle.verb, settle.epoch, rows, settle.duration_ms, settle.text
        )
        self._out.append(codec.encode(command))
        self._await(number, settle, settle.deadline)

    # Inside: in.

    def _welcomed(self, welcome: replies.Welcome) -> list[Event]:
        self.welcome = welcome
        # What one client may publish, another is delivered.
        self.reader.frame_bytes_max = max(FRAME_BYTES_MAX, welcome.frame_bytes_max)
        self._join_bytes_max = min(JOIN_BYTES_MAX, self.block_bytes_max)
        return [Welcomed(welcome)]

    def _confirmed(self, confirm: replies.Confirm) -> list[Event]:
        events: list[Event] = []
        for request, first, duplicate, *_ in confirm.confirms:
            publish = self._unanswered.pop(request, None)
            if isinstance(publish, Publish):  # or the client has given up on it
                events.append(Confirmed(publish.waiters, publish.queue, first, confirm.durability, duplicate))
        return events

    def _settled(self, settled: replies.Settled) -> list[Event]:
        events: list[Event] = []
        for request, stale, *_ in settled.settles:
            settle = self._unanswered.pop(request, None)
            if isinstance(settle, Settle):
                events.append(Settled([(w, stale_error(settle, stale, f, c)) for w, f, c in settle.waiters]))
        return events

    def _answered(self, reply: Any) -> list[Event]:
        pending = self._unanswered.pop(reply.request, None)
        return [Answered(pending.waiter, reply)] if isinstance(pending, Other) else []

    def _refused(self, error: replies.Error) -> list[Event]:
        pending = self._unanswered.pop(error.request, None)
        if pending is None:
            return []
        if isinstance(pending, Publish) and pending.divisible:
            return refused_in_part(pending, error)
        return failed(pending, lambda: refusal(error))

    def _delivered(self, deliver: replies.Deliver) -> list[Event]:
        consumer = self._consumers.get(deliver.consumer)
        if consumer is None:
            return []
        if 4 * sum(row[1] for row in deliver.spans) != len(deliver.lengths):
            return self.end(errors.ProtocolError("the broker broke the protocol: a DELIVER's spans and lengths differ"))
        epoch = self.welcome.epoch if self.welcome else 0
        deliveries = [Delivery(consumer.queue, epoch, row) for row in deliver.spans]
        return [Delivered(deliver.consumer, deliveries, deliver.lease_ms, deliver.lengths, deliver.block)]

    def _cancelled(self, cancelled: replies.Cancelled) -> list[Event]:
        return [Cancelled(cancelled.consumer, cancelled.deliveries)]

    def _stopped(self, stopped: replies.Stopped) -> list[Event]:
        self._consumers.pop(stopped.consumer, None)
        error = replies.Error(0, stopped.code, stopped.text)
        return [ConsumerStopped(stopped.consumer, refusal(error))]

    def _goodbye(self, goodbye: commands.Goodbye) -> list[Event]:
        return self.end(goodbye_error(goodbye))

    def _pinged(self, ping: commands.Ping) -> list[Event]:
        self._out.append(codec.encode(replies.Pong(ping.nonce)))
        return []

    def _ponged(self, _pong: replies.Pong) -> list[Event]:
        return []


_HANDLERS: dict[type, Callable[[Conversation, Any], list[Event]]] = {
    replies.Welcome: Conversation._welcomed,  # noqa: SLF001 (the table belongs to the class)
    replies.Confirm: Conversation._confirmed,  # noqa: SLF001
    replies.Settled: Conversation._settled,  # noqa: SLF001
    replies.Done: Conversation._answered,  # noqa: SLF001
    replies.QueueInfo: Conversation._answered,  # noqa: SLF001
    replies.Queues: Conversation._answered,  # noqa: SLF001
    replies.Peeked: Conversation._answered,  # noqa: SLF001
    replies.Snapshot: Conversation._answered,  # noqa: SLF001
    replies.Piece: Conversation._answered,  # noqa: SLF001
    replies.Values: Conversation._answered,  # noqa: SLF001
    replies.Counted: Conversation._answered,  # noqa: SLF001
    replies.Routed: Conversation._answered,  # noqa: SLF001
    replies.Committed: Conversation._answered,  # noqa: SLF001
    replies.Schedules: Conversation._answered,  # noqa: SLF001
    replies.Error: Conversation._refused,  # noqa: SLF001
    replies.Deliver: Conversation._delivered,  # noqa: SLF001
    replies.Cancelled: Conversation._cancelled,  # noqa: SLF001
    replies.Stopped: Conversation._stopped,  # noqa: SLF001
    replies.Pong: Conversation._ponged,  # noqa: SLF001
    commands.Ping: Conversation._pinged,  # noqa: SLF001
    commands.Goodbye: Conversation._goodbye,  # noqa: SLF001
}
