"""A queue, as the blocking client offers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry import errors
from wherry.conversation import PLAIN, asks
from wherry.conversation.composing import blocks, check_size, envelope_of
from wherry.conversation.content import UNSET, Unset, compose, compose_many
from wherry.conversation.leased import acked_ranges
from wherry.conversation.receipts import Receipts
from wherry.conversation.requesting import no_reply, request_headers
from wherry.sync.consumer import Consumer, Intake
from wherry.sync.dead import Dead
from wherry.sync.inbox import Awaited, inbox_of
from wherry.sync.insisting import insist
from wherry.sync.message import Message, Settlement
from wherry.sync.tracked import TrackedReceipt, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from wherry.delivery import PeekedMessage
    from wherry.model.options import QueueInfo, Receipt
    from wherry.model.status import Status
    from wherry.model.times import Duration
    from wherry.sync.link import Link
    from wherry.sync.turns import Waiter
    from wherry.wire.messages import HeaderValue


class Queue:
    """One queue of a broker. Made by `Broker.queue` and `Broker.declare`. Any number of threads may use it.

    Attributes:
        name: its name.
    """

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self.name = name

    _message_type = Message

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    # Publish.

    def publish(
        self,
        body: bytes | str | Unset = UNSET,
        *,
        json: Any = UNSET,
        pack: Any = UNSET,
        headers: Mapping[str, HeaderValue] | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        ttl: Duration | None = None,
        priority: int = 0,
        key: str = "",
        dedupe: str = "",
        track: bool = False,
        parent: str = "",
        timeout: float | None = None,
    ) -> Receipt:
        """Publishes one message, and returns when the broker has confirmed it.

        Args:
            body: the message; a str is sent as UTF-8.
            json: a value to send as JSON, in place of a body; `message.json()` reads it.
            pack: a value to send as msgpack, in place of a body; `message.unpack()` reads it.
            headers: at most 64 names to values: str, int, float, bool, bytes or None.
            delay: how long it waits before it is ready, in seconds.
            at: the moment at which it is ready, with a time zone.
            ttl: after how many seconds it expires when nobody has taken it.
            priority: 0 to 9; 9 goes first.
            key: what it belongs to, such as a customer.
            dedupe: a second message with this key is not stored while the queue remembers it.
            track: whether how it ends is remembered, and its result; the receipt then has `status()` and `result()`.
            parent: the id of the message that sends this one: a cancel of that, which must not have ended, takes both.
            timeout: how long to try, in seconds, while the queue is full; 0 tries once.

        Returns:
            The receipt, which names the message's id and its durability.

        Raises:
            Busy: the queue is full, and still was when the time was over; says when to come back.
            TooLarge: the message is larger than the queue or a frame may hold.
            Invalid: a value is out of its range.
            StaleDelivery: its parent has ended.
            TypeError, ValueError: a value, or a header, cannot be sent.
            RequestTimeout: the broker did not answer.
            Disconnected: the connection was lost; whether the message was stored is unknown.
        """
        envelope = PLAIN
        if priority or key or dedupe or delay is not None or at is not None or ttl is not None or track or parent:
            envelope = envelope_of(priority, key, dedupe, delay, at, ttl, track, parent)
        message = compose(body, headers, json, pack)
        link = self._link
        check_size(len(message[0]) + len(message[1]), link.conversation.block_bytes_max)
        receipt = self._publish(
            lambda waiter, until: link.conversation.publish(self.name, envelope, message, waiter, until), timeout
        )
        return TrackedReceipt.of(receipt, link) if track else receipt

    def publish_many(
        self,
        bodies: Iterable[bytes | str] | Unset = UNSET,
        *,
        json: Iterable[Any] | Unset = UNSET,
        pack: Iterable[Any] | Unset = UNSET,
        headers: Mapping[str, HeaderValue] | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        ttl: Duration | None = None,
        priority: int = 0,
        key: str = "",
        track: bool = False,
        parent: str = "",
        timeout: float | None = None,
    ) -> Sequence[Receipt]:
        """Publishes many messages in order, and returns when all are confirmed.

        They travel in batches of at most 10,000 messages and 1 MiB. A batch is stored whole or not at all; when a later
        one is refused, those before it stay stored (`Busy.accepted` tells how many messages that is).

        Args:
            bodies: the messages.
            json: values to send as JSON, in place of bodies.
            pack: values to send as msgpack, in place of bodies.
            headers: the headers of each of them.
            delay: as for `publish`.
            at: as for `publish`.
            ttl: as for `publish`.
            priority: as for `publish`.
            key: as for `publish`.
            track: as for `publish`.
            parent: as for `publish`.
            timeout: as for `publish`, for each batch.

        Returns:
            A receipt for each message, in order; each is made when it is looked at.
        """
        envelope = envelope_of(priority, key, "", delay, at, ttl, track, parent)
        link = self._link
        receipts = Receipts()
        limit = link.conversation.block_bytes_max

        def say(lengths: bytes, block: bytes) -> Callable[[Waiter, float], None]:
            return lambda waiter, until: link.conversation.publish_block(
                self.name, envelope, lengths, block, waiter, until
            )

        for lengths, block in blocks(*compose_many(bodies, headers, json, pack), limit):
            try:
                receipt = self._publish(say(lengths, block), timeout)
            except errors.Busy as busy:
                busy.accepted = len(receipts)
                raise
            receipts.add(receipt, len(lengths) // 4)
        return [TrackedReceipt.of(each, self._link) for each in receipts] if track else receipts

    def _publish(self, say: Callable[[Waiter, float], None], timeout: float | None) -> Receipt:
        receipt: Receipt = insist(self._link, lambda: self._link.call(say), timeout)
        return receipt

    def request(
        self,
        body: bytes | str | Unset = UNSET,
        *,
        json: Any = UNSET,
        pack: Any = UNSET,
        headers: Mapping[str, HeaderValue] | None = None,
        ttl: Duration | None = None,
        priority: int = 0,
        key: str = "",
        timeout: float | None = None,
    ) -> Message:
        """Publishes a request, and returns when its reply has come; see `Message.reply`.

        The replies to all requests of this connection come to one temporary queue, which ends with it.

        Args:
            body: the request; a str is sent as UTF-8.
            json: a value to send as JSON, in place of a body.
            pack: a value to send as msgpack, in place of a body.
            headers: as for `publish`.
            ttl: after how many seconds it expires when nobody has taken it; as long as the reply is waited for, when
                not given.
            priority: as for `publish`.
            key: as for `publish`.
            timeout: how long to wait for the reply, in seconds.

        Returns:
            The reply, which is settled.

        Raises:
            RequestTimeout: no reply came in time; whether the request was worked on is unknown.
            Busy: the queue was full all the time.
            WherryError: as for `publish`.
        """
        link = self._link
        inbox = inbox_of(link)
        seconds = link.timeout if timeout is None else timeout
        until = link.now() + seconds
        awaited = Awaited()
        number = inbox.expect(awaited)
        try:
            self.publish(
                body,
                json=json,
                pack=pack,
                headers=request_headers(headers, inbox.queue, number),
                ttl=seconds if ttl is None else ttl,
                priority=priority,
                key=key,
                timeout=seconds,
            )
            reply = inbox.wait(awaited, until)
        finally:
            inbox.forget_reply(number)
        if reply is None:
            raise no_reply(self.name, seconds)
        return reply

    # Consume.

    def consume(
        self,
        credit: int = 500,
        *,
        lease: Duration | None = None,
        max_lease: Duration | None = None,
        wait: float | None = None,
    ) -> Consumer:
        """Messages as they come; see `Consumer`.

        Args:
            credit: how many messages may be in this client's hands at a time, taken or not.
            lease: after how long a message goes to another consumer, in seconds: as long as a handler may take, since
                nothing extends it while all threads are at work. `max_lease` when not given, or else the queue's lease.
            max_lease: how long a message may stay in the user's hands, in seconds: while any thread is inside a call,
                its lease is extended until then. An hour when not given; 0 extends none.
            wait: the iterator ends when no message came for so long, in seconds; None for never.
        """
        if credit < 1:
            raise ValueError(f"a consumer needs a credit of at least 1, not {credit}")
        return Consumer(Intake(self._link, self.name, credit, lease, max_lease, self._message_type), wait)

    def get(
        self, limit: int = 1, wait: float = 0.0, *, lease: Duration | None = None, max_lease: Duration | None = None
    ) -> list[Message]:
        """Takes up to `limit` messages.

        Args:
            limit: how many at most.
            wait: how long to wait for the first one, in seconds.
            lease: as for `consume`.
            max_lease: as for `consume`.

        Returns:
            The messages; none when none came in time.
        """
        if limit < 1:
            raise ValueError(f"a get takes at least 1 message, not {limit}")
        intake = Intake(self._link, self.name, limit, lease, max_lease, self._message_type)
        got = False
        try:
            intake.attach()
            if wait > 0:
                intake.more(1, self._link.now() + wait)
            # The credit is used up or not; what came before the answer to STOP is in the buffer by then.
            intake.detach()
            got = True
        finally:
            if not got:
                intake.is_stopped = True
                self._link.drop(intake)
        if intake.ended is not None:
            raise intake.ended
        return intake.take_batch(limit)

    def ack_many(self, messages: Sequence[Message]) -> Settlement:
        """Acknowledges many messages at once, in one frame; `wait` for the result to know that it is confirmed.

        Raises:
            AlreadySettled: one of them was settled before, or is named twice; none is settled then.
        """
        ranges = acked_ranges(messages)
        settlement = Settlement(self._link, f"ack of {len(messages)} messages of {self.name}", expected=len(ranges))

        def say(_until: float) -> None:
            position = 0
            for delivery, first, count in ranges:
                messages[position]._intake.ack_range(delivery, first, count, settlement)  # noqa: SLF001
                position += count

        self._link.say(say)
        return settlement

    # Look and manage.

    def info(self) -> QueueInfo:
        """Its counts, rates and options.

        Raises:
            NotFound: there is no such queue.
        """
        return self._link.ask(asks.info(self.name))

    def peek(self, limit: int = 10, *, state: str = "ready", first: int = 0) -> list[PeekedMessage]:
        """Looks at messages without taking them.

        Args:
            limit: how many at most.
            state: ready, delayed, leased or dead; "" for any.
            first: the offset to begin at.
        """
        found: list[PeekedMessage] = []
        while len(found) < limit:
            more, first = self.look(limit - len(found), state, first)
            found += more
            if not first:
                break
        return found

    def look(self, limit: int, state: str, first: int) -> tuple[list[PeekedMessage], int]:
        """One page of what `peek` shows, and the offset at which the next one begins; 0 when there is none."""
        return self._link.ask(asks.look(self.name, limit, state, first))

    def find(self, message: str | int) -> PeekedMessage:
        """Looks at one message, in whatever state it is.

        Args:
            message: its id, or its offset.

        Raises:
            ValueError: it is the id of another queue's message, or no id.
            NotFound: it has left the queue, or was never there.
        """
        return self._link.ask(asks.find(self.name, message))

    def status(self, message: str | int) -> Status:
        """How a message stands, or how it ended.

        Args:
            message: its id, or its offset.

        Raises:
            NotFound: it is not here, and it is not remembered how it ended.
        """
        return self._link.ask(asks.status(self.name, message))

    def result(self, message: str | int, timeout: Duration | None = None) -> bytes:
        """What the consumer of a tracked message returns: waits until the message has ended. Any number may wait.

        Args:
            message: its id, or its offset.
            timeout: how long to wait, in seconds; for as long as it takes when not given.

        Raises:
            NoResult: it has ended without one: `JobFailed`, `JobExpired`, `JobCancelled` or `JobRemoved`.
            RequestTimeout: it has not ended in time; the text says how it stands.
            Invalid: it is not tracked.
            NotFound: it is not here, and it is not remembered how it ended.
        """
        return result_of(self._link, self.name, message, timeout)

    def cancel(self, *messages: str | int) -> int:
        """Removes messages, in whatever state they are, for good; and those of which they are the `parent`, and so on.

        A consumer that holds one sees it by `message.cancelled`, and its settle raises `StaleDelivery`.

        Args:
            messages: their ids, or their offsets.

        Returns:
            How many there were, in all.
        """
        return sum(self._link.ask(ask) for ask in asks.cancel_each(self.name, messages))

    @property
    def dead(self) -> Dead:
        """Its dead messages."""
        return Dead(self._link, self.name)

    def purge(self, *states: str) -> int:
        """Removes all messages in the given states (ready and delayed when none is given); returns how many."""
        return self._link.ask(asks.purge(self.name, states))

    def delete(self) -> int:
        """Removes the queue and all that it holds; returns how many messages that were."""
        return self._link.ask(asks.delete(self.name))

    def pause(self) -> None:
        """Stops its deliveries; publishes and settles go on."""
        self._link.ask(asks.pause(self.name, paused=True))

    def resume(self) -> None:
        """Starts its deliveries again."""
        self._link.ask(asks.pause(self.name, paused=False))

    def alter(self, **options: Any) -> QueueInfo:
        """Changes options of the queue; see `Broker.declare` for their names. `durability` cannot be changed.

        Returns:
            The state of the queue with its new options.

        Raises:
            NotFound: there is no such queue.
            Invalid: an option is unknown, out of range, or cannot be changed.
        """
        return self._link.ask(asks.alter(self.name, options))
