"""A queue, as the asyncio client offers it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from wherry import errors
from wherry.aio.consumer import Consumer, Intake
from wherry.aio.dead import Dead
from wherry.aio.inbox import inbox_of
from wherry.aio.message import Message, Settlement
from wherry.aio.tracked import TrackedReceipt, result_of
from wherry.conversation import PLAIN, TRACKED, Envelope, asks
from wherry.conversation.backoff import busy_pause_s
from wherry.conversation.composing import blocks, check_size, envelope_of
from wherry.conversation.content import UNSET, Unset, compose, compose_many
from wherry.conversation.leased import acked_ranges
from wherry.conversation.receipts import Receipts
from wherry.conversation.requesting import no_reply, request_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from wherry.aio.link import Link
    from wherry.delivery import PeekedMessage
    from wherry.model.options import QueueInfo, Receipt
    from wherry.model.status import Status
    from wherry.model.times import Duration
    from wherry.wire.messages import HeaderValue

NO_OPTIONS = (0, "", "", None, None, None, "")
"""What a publish has that asks for nothing, but maybe to be tracked."""


class Queue:
    """One queue of a broker. Made by `Broker.queue` and `Broker.declare`.

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

    async def publish(
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
            TooLarge, StaleDelivery: it is larger than the queue or a frame may hold; its parent has ended.
            Invalid, TypeError, ValueError: a value is out of its range, or it or a header cannot be sent.
            RequestTimeout, Disconnected: no answer came; whether the message was stored is unknown.
        """
        options = (priority, key, dedupe, delay, at, ttl, parent)
        envelope = (TRACKED if track else PLAIN) if options == NO_OPTIONS else envelope_of(*options[:6], track, parent)
        message, link = compose(body, headers, json, pack), self._link
        check_size(len(message[0]) + len(message[1]), link.conversation.block_bytes_max)
        tries, started = 0, 0.0
        while True:
            if link._room is not None or link.conversation.is_full:  # noqa: SLF001 (saves a coroutine a message)
                await link.room()
            link.check_open()
            waiter: asyncio.Future[Receipt] = link._loop.create_future()  # noqa: SLF001 (likewise)
            deadline = link.turn_deadline or link.begin_turn()
            link.conversation.publish(self.name, envelope, message, waiter, deadline)
            try:
                return TrackedReceipt.of(await waiter, link) if track else await waiter
            except errors.Busy as busy:
                tries, started = tries + 1, started if tries else deadline - link.timeout
                await back_off(busy, tries, started, link, timeout)

    async def publish_many(
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
        receipts = Receipts()
        limit = self._link.conversation.block_bytes_max
        for lengths, block in blocks(*compose_many(bodies, headers, json, pack), limit):
            try:
                receipt = await self._publish_block(lengths, block, envelope, timeout)
            except errors.Busy as busy:
                busy.accepted = len(receipts)
                raise
            receipts.add(receipt, len(lengths) // 4)
        return [TrackedReceipt.of(each, self._link) for each in receipts] if track else receipts

    async def _publish_block(self, lengths: bytes, block: bytes, envelope: Envelope, timeout: float | None) -> Receipt:
        link = self._link
        started, tries = link.now(), 0
        while True:
            await link.room()
            link.check_open()
            waiter = asyncio.get_running_loop().create_future()
            link.conversation.publish_block(self.name, envelope, lengths, block, waiter, link.now() + link.timeout)
            link.wake()
            try:
                receipt: Receipt = await waiter
            except errors.Busy as busy:
                tries += 1
                await back_off(busy, tries, started, link, timeout)
            else:
                return receipt

    async def request(
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
        inbox = await inbox_of(link)
        seconds = link.timeout if timeout is None else timeout
        until = link.now() + seconds
        waiter: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        number = inbox.replies.expect(waiter)
        try:
            await self.publish(
                body,
                json=json,
                pack=pack,
                headers=request_headers(headers, inbox.queue, number),
                ttl=seconds if ttl is None else ttl,
                priority=priority,
                key=key,
                timeout=seconds,
            )
            await link.wait(waiter, max(0.0, until - link.now()))
        finally:
            inbox.replies.forget(number)
        if not waiter.done():
            raise no_reply(self.name, seconds)
        return waiter.result()

    # Consume.

    def consume(
        self, credit: int = 500, *, lease: Duration | None = None, max_lease: Duration | None = None
    ) -> Consumer:
        """Messages as they come; see `Consumer`.

        Args:
            credit: how many messages may be in this client's hands at a time, taken or not.
            lease: after how long a message goes to another consumer when this client is no more, in seconds; the
                queue's lease when not given.
            max_lease: how long a message may stay in the user's hands, in seconds: its lease is extended until then. An
                hour when not given; 0 extends none.
        """
        if credit < 1:
            raise ValueError(f"a consumer needs a credit of at least 1, not {credit}")
        return Consumer(Intake(self._link, self.name, credit, lease, max_lease, self._message_type))

    async def get(
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
        try:
            await intake.attach()
            if not intake.buffer and wait > 0:
                await intake.arrival(wait)
            # The credit is used up or not; what came before the answer to STOP is in the buffer by then.
            await intake.detach()
        except (asyncio.CancelledError, errors.RequestTimeout):
            intake.abandon()
            raise
        if intake.ended is not None:
            raise intake.ended
        return intake.buffer.take_all()

    def ack_many(self, messages: Sequence[Message]) -> Settlement:
        """Acknowledges many messages at once, in one frame; await the result to know that it is confirmed.

        Raises:
            AlreadySettled: one of them was settled before, or is named twice; none is settled then.
        """
        ranges = acked_ranges(messages)
        settlement = Settlement(f"ack of {len(messages)} messages of {self.name}", expected=len(ranges))
        position = 0
        for delivery, first, count in ranges:
            messages[position]._intake.ack_range(delivery, first, count, settlement)  # noqa: SLF001
            position += count
        return settlement

    # Look and manage.

    async def info(self) -> QueueInfo:
        """Its counts, rates and options.

        Raises:
            NotFound: there is no such queue.
        """
        return await self._link.ask(asks.info(self.name))

    async def peek(self, limit: int = 10, *, state: str = "ready", first: int = 0) -> list[PeekedMessage]:
        """Looks at messages without taking them.

        Args:
            limit: how many at most.
            state: ready, delayed, leased or dead; "" for any.
            first: the offset to begin at.
        """
        found: list[PeekedMessage] = []
        while len(found) < limit:
            more, first = await self.look(limit - len(found), state, first)
            found += more
            if not first:
                break
        return found

    async def look(self, limit: int, state: str, first: int) -> tuple[list[PeekedMessage], int]:
        """One page of what `peek` shows, and the offset at which the next one begins; 0 when there is none."""
        return await self._link.ask(asks.look(self.name, limit, state, first))

    async def find(self, message: str | int) -> PeekedMessage:
        """Looks at one message, in whatever state it is.

        Args:
            message: its id, or its offset.

        Raises:
            ValueError: it is the id of another queue's message, or no id.
            NotFound: it has left the queue, or was never there.
        """
        return await self._link.ask(asks.find(self.name, message))

    async def status(self, message: str | int) -> Status:
        """How a message stands, or how it ended.

        Args:
            message: its id, or its offset.

        Raises:
            NotFound: it is not here, and it is not remembered how it ended.
        """
        return await self._link.ask(asks.status(self.name, message))

    async def result(self, message: str | int, timeout: Duration | None = None) -> bytes:
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
        return await result_of(self._link, self.name, message, timeout)

    async def cancel(self, *messages: str | int) -> int:
        """Removes messages, in whatever state they are, for good; and those of which they are the `parent`, and so on.

        A consumer that holds one sees it by `message.cancelled`, and its settle raises `StaleDelivery`.

        Args:
            messages: their ids, or their offsets.

        Returns:
            How many there were, in all.
        """
        return sum([await self._link.ask(ask) for ask in asks.cancel_each(self.name, messages)])

    @property
    def dead(self) -> Dead:
        """Its dead messages."""
        return Dead(self._link, self.name)

    async def purge(self, *states: str) -> int:
        """Removes all messages in the given states (ready and delayed when none is given); returns how many."""
        return await self._link.ask(asks.purge(self.name, states))

    async def delete(self) -> int:
        """Removes the queue and all that it holds; returns how many messages that were."""
        return await self._link.ask(asks.delete(self.name))

    async def pause(self) -> None:
        """Stops its deliveries; publishes and settles go on."""
        await self._link.ask(asks.pause(self.name, paused=True))

    async def resume(self) -> None:
        """Starts its deliveries again."""
        await self._link.ask(asks.pause(self.name, paused=False))

    async def alter(self, **options: Any) -> QueueInfo:
        """Changes options of the queue; see `Broker.declare` for their names. `durability` cannot be changed.

        Returns:
            The state of the queue with its new options.

        Raises:
            NotFound: there is no such queue.
            Invalid: an option is unknown, out of range, or cannot be changed.
        """
        return await self._link.ask(asks.alter(self.name, options))


async def back_off(busy: errors.Busy, tries: int, started: float, link: Link, timeout: float | None) -> None:
    """Waits before the next try of what was refused for the `tries`th time.

    Raises:
        Busy: the caller's time is over.
    """
    left = started + (link.timeout if timeout is None else timeout) - link.now()
    pause = busy_pause_s(busy, tries, left, random.random())  # noqa: S311 (jitter, not a secret)
    if pause:
        await link.sleep(pause)
