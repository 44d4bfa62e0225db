"""The client's half of a conversation with a broker. Pure: no socket, no event loop, no clock.

The shells call in (`publish`, `settle`, `request`, `consume`, ...), move the bytes of `data_to_send` out and received
ones in, and act on the events that come back. Whoever waits for an answer is an opaque `waiter` here, which comes back
in the event; time is the argument `now`, in seconds of the shell's monotonic clock.

Publishes and settles are gathered until `data_to_send` is called, and leave as few frames: neighbours of one queue
with one envelope are one PUBLISH, settles of one kind are one SETTLE. What else is asked leaves in order after them.
"""

from __future__ import annotations

from heapq import heappop
from typing import TYPE_CHECKING, Any

from wherry import errors
from wherry.conversation.asking import JOIN_BYTES_MAX, Asking
from wherry.conversation.consuming import Attach
from wherry.conversation.events import (
    Answered,
    Cancelled,
    Confirmed,
    ConsumerStopped,
    ConsumerSuspended,
    Delivered,
    Ended,
    Event,
    Failed,
    Interrupted,
    LeasesLost,
    Settled,
    Welcomed,
)
from wherry.conversation.outcomes import (
    Pending,
    again,
    failed,
    goodbye_error,
    refusal,
    refused_in_part,
    stale_error,
    timed_out,
    unknown_error,
)
from wherry.conversation.pending import PLAIN, TRACKED, Awaited, Envelope, Other, Publish, Settle
from wherry.delivery import Delivery
from wherry.model import commands, replies
from wherry.model.fields import HEADER_BYTES_MAX
from wherry.wire import codec
from wherry.wire.framing import FRAME_BYTES_MAX, PREFIX_BYTES, FrameReader
from wherry.wire.messages import split_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wherry.conversation.consuming import Consumer
    from wherry.wire.framing import Frame

__all__ = [
    "PLAIN",
    "TRACKED",
    "Answered",
    "Cancelled",
    "Confirmed",
    "ConsumerStopped",
    "ConsumerSuspended",
    "Conversation",
    "Delivered",
    "Ended",
    "Envelope",
    "Event",
    "Failed",
    "Interrupted",
    "LeasesLost",
    "Settled",
    "Welcomed",
    "refusal",
]


SENT_ONCE = (Publish, Other)
"""What may have a number of the producer's, under which it is sent again."""


class Conversation(Asking):
    """The client's half of a conversation, over one connection or, with a producer, over one after the other.

    Args:
        token: what to show to the broker.
        name: what the client calls itself.
        heartbeat_ms: the longest interval after which to send a PING.
        scratch: a receive buffer shared by all conversations of the thread.
        producer: a random id, by which the conversation goes on over several connections; "" for one connection only.

    Attributes:
        reader: cuts received bytes into frames.
        welcome: what the broker said to HELLO; None before it did.
        ended: why the conversation is over; None while it is not.
        is_live: whether there is a connection: what is asked for without one leaves once there is.
        block_bytes_max: how many bytes of messages fit into one frame.
    """

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
        self.ended, self.is_live = error, False
        self.gather()
        pending = list(self._unanswered.values())
        self._unanswered, self._out = {}, []
        events = [event for each in pending for event in failed(each, lambda: again(error))]
        return [*events, Ended(error)]

    def lose(self, error: errors.WherryError) -> list[Event]:
        """The connection is lost. What may be sent again is kept for the next one; all else has failed.

        Without a producer, or if the broker remembers none, the conversation is over.
        """
        if self.ended is not None or not self.is_live:
            return []
        if not self._hello.producer or not self._sequenced:
            return self.end(error)
        self.gather()
        self.is_live, self._out = False, []
        events: list[Event] = []
        for number, pending in list(self._unanswered.items()):
            if isinstance(pending, Other) and not pending.repeatable:
                del self._unanswered[number]
                events += failed(pending, lambda: again(error))
        return [*events, Interrupted(error)]

    def reopen(self) -> None:
        """Begins the same opening again, for another connection."""
        self.reader = FrameReader(FRAME_BYTES_MAX, self._scratch)
        self._out = [codec.encode(self._hello)]

    def expire(self, now: float) -> list[Event]:
        """Fails what has waited for too long."""
        events: list[Event] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            pending = self._unanswered.pop(heappop(self._deadlines)[1], None)
            if pending is not None:
                self._done(pending)
                events += failed(pending, timed_out)
        return events

    def next_deadline(self) -> float | None:
        """When `expire` has something to do; None for never."""
        self._drop_answered()
        return self._deadlines[0][0] if self._deadlines else None

    # Inside.

    def _welcomed(self, welcome: replies.Welcome) -> list[Event]:
        self.welcome = welcome
        self._sequenced = bool(self._hello.producer and welcome.producer_ms)
        # What one client may publish, another is delivered.
        self.reader.frame_bytes_max = max(FRAME_BYTES_MAX, welcome.frame_bytes_max)
        self.block_bytes_max = welcome.frame_bytes_max - HEADER_BYTES_MAX - PREFIX_BYTES
        self._join_bytes_max = min(JOIN_BYTES_MAX, self.block_bytes_max)
        if self.is_live:
            return [Welcomed(welcome)]
        self.gather()  # a settle of this very turn goes before consumers, too
        self.is_live = True
        return [Welcomed(welcome), *self._resume(welcome.epoch)]

    def _resume(self, epoch: int) -> list[Event]:
        """Says again what has no answer, settles before consumers: what they no longer hold must not come again."""
        events: list[Event] = []
        attaching: dict[int, int] = {}
        for number, pending in self._unanswered.items():
            if isinstance(pending, Attach):
                attaching[pending.consumer] = number
            elif isinstance(pending, Settle):
                assert pending.command is not None
                self._out.append(codec.encode(pending.command._replace(again=pending.is_sent)))
                pending.is_sent = True
            elif isinstance(pending, Awaited):
                again = commands.Await(number, pending.queue, pending.offset, 1, pending.wait_ms)
                self._out.append(codec.encode(again))
            else:
                self._out += pending.frame
        for number, consumer in self._consumers.items():
            if not consumer.stopping:
                events += self._attach_again(attaching.get(number), number, consumer, epoch)
        self._due_credit.clear()
        return events

    def _attach_again(self, request: int | None, number: int, consumer: Consumer, epoch: int) -> list[Event]:
        if request is None:
            request = self._next_number()
            self._unanswered[request] = Attach(number, None)
        self._out.append(codec.encode(consumer.consume_again(request, number, epoch)))
        over = consumer.over(epoch)
        return [LeasesLost(number, over)] if over else []

    def _confirmed(self, confirm: replies.Confirm) -> list[Event]:
        events: list[Event] = []
        for request, first, duplicate, *_ in confirm.confirms:
            publish = self._unanswered.pop(request, None)
            if isinstance(publish, Publish):  # or the client has given up on it
                self._done(publish)
                # One that was sent twice is no duplicate to the user, who has published it once.
                is_other = duplicate and (not publish.sequence or bool(publish.envelope.dedupe))
                events.append(Confirmed(publish.waiters, publish.queue, first, confirm.durability, is_other))
        return events

    def _settled(self, settled: replies.Settled) -> list[Event]:
        events: list[Event] = []
        for request, stale, *_ in settled.settles:
            settle = self._unanswered.pop(request, None)
            if isinstance(settle, Settle) and not stale:
                events.append(Settled([(waiter, None) for waiter, _, _ in settle.waiters]))
            elif isinstance(settle, Settle):
                is_unsure = settled.unsure and any(low <= request < low + n for low, n in settled.unsure)
                error = unknown_error if is_unsure else stale_error
                events.append(Settled([(w, error(settle, stale, f, c)) for w, f, c in settle.waiters]))
        return events

    def _answered(self, reply: Any) -> list[Event]:
        pending = self._unanswered.pop(reply.request, None)
        if isinstance(pending, Attach):
            return self._attached(pending, reply)
        if not isinstance(pending, Other | Awaited):  # the client has given up on it
            return []
        self._done(pending)
        return [Answered(pending.waiter, reply)]

    def _returned(self, returned: replies.Returned) -> list[Event]:
        numbers = [number for first, count in returned.requests for number in range(first, first + count)]
        events: list[Event] = []
        for number, result in zip(numbers, split_block(returned.lengths, returned.block), strict=False):
            pending = self._unanswered.pop(number, None)
            if isinstance(pending, Awaited):  # or the client has given up on it
                events.append(Answered(pending.waiter, result))
        return events

    def _attached(self, attach: Attach, done: replies.Done) -> list[Event]:
        events: list[Event] = [] if attach.waiter is None else [Answered(attach.waiter, done)]
        consumer = self._consumers.get(attach.consumer)
        parts = consumer.among(done.stale) if consumer is not None and done.stale else []
        return [*events, LeasesLost(attach.consumer, parts)] if parts else events

    def _done(self, pending: Pending) -> None:
        """A request will not be sent again."""
        if isinstance(pending, SENT_ONCE) and pending.sequence:
            pending.frame = ()
            self._sequence.done(pending.sequence)

    def _refused(self, error: replies.Error) -> list[Event]:
        pending = self._unanswered.pop(error.request, None)
        if pending is None:
            return []
        if error.code == "draining" and self._waits_for_another(error.request, pending):
            return []
        self._done(pending)
        if isinstance(pending, Attach) and pending.waiter is None:
            return self._stopped(replies.Stopped(pending.consumer, error.code, error.text))
        if isinstance(pending, Publish) and pending.divisible:
            return refused_in_part(pending, error)
        return failed(pending, lambda: refusal(error))

    def _waits_for_another(self, request: int, pending: Pending) -> bool:
        """Whether what a broker refuses that shuts down is kept for the next one."""
        if not isinstance(pending, Attach) and not (isinstance(pending, SENT_ONCE) and pending.sequence):
            return False
        if not self._sequenced:
            return False
        self._unanswered[request] = pending
        return True

    def _delivered(self, deliver: replies.Deliver) -> list[Event]:
        consumer = self._consumers.get(deliver.consumer)
        if consumer is None:
            return []
        epoch = self.welcome.epoch if self.welcome else 0
        deliveries = [Delivery(consumer.queue, epoch, row) for row in deliver.spans]
        if 4 * sum([each.count for each in deliveries]) != len(deliver.lengths):
            return self.end(errors.ProtocolError("the broker broke the protocol: a DELIVER's spans and lengths differ"))
        return [Delivered(deliver.consumer, deliveries, deliver.lease_ms, deliver.lengths, deliver.block)]

    def _cancelled(self, cancelled: replies.Cancelled) -> list[Event]:
        return [Cancelled(cancelled.consumer, cancelled.deliveries)]

    def _stopped(self, stopped: replies.Stopped) -> list[Event]:
        if stopped.code == "draining" and self._sequenced and stopped.consumer in self._consumers:
            return [ConsumerSuspended(stopped.consumer)]
        self._consumers.pop(stopped.consumer, None)
        error = replies.Error(0, stopped.code, stopped.text)
        return [ConsumerStopped(stopped.consumer, refusal(error))]

    def _goodbye(self, goodbye: commands.Goodbye) -> list[Event]:
        error = goodbye_error(goodbye)
        return self.lose(error) if isinstance(error, errors.Disconnected) else self.end(error)

    def _pinged(self, ping: commands.Ping) -> list[Event]:
        self._send(codec.encode(replies.Pong(ping.nonce)))
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
    replies.Gate: Conversation._answered,  # noqa: SLF001
    replies.Told: Conversation._answered,  # noqa: SLF001
    replies.Results: Conversation._answered,  # noqa: SLF001
    replies.Returned: Conversation._returned,  # noqa: SLF001
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
