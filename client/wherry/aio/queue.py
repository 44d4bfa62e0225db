"""A queue, as the asyncio client offers it."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from operator import index
from typing import TYPE_CHECKING, Any

from wherry import errors
from wherry.aio.consumer import Consumer, Intake, runs
from wherry.aio.dead import Dead
from wherry.aio.message import ManySettlement, Message, Settlement
from wherry.conversation import PLAIN, Envelope
from wherry.delivery import Delivery, PeekedMessage, bodies
from wherry.model import commands
from wherry.model.commands import Verb
from wherry.model.fields import BATCH_MESSAGES_MAX, NAME_BYTES_MAX, PRIORITY_MAX, ROWS_MAX
from wherry.model.names import message_id, split_id
from wherry.model.options import QueueInfo, Receipt, wire_options
from wherry.model.times import Duration, moment_ms, to_ms
from wherry.wire.messages import pack_headers, pack_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from wherry.aio.link import Link

BACK_OFF_FACTOR = 2.0
BACK_OFF_CAP_S = 30.0
BACK_OFF_DOUBLINGS_MAX = 32
PEEK_MESSAGES_MAX = 1_000
BATCH_BYTES_MAX = 1_048_576


class Queue:
    """One queue of a broker. Made by `Broker.queue` and `Broker.declare`.

    Attributes:
        name: its name.
    """

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self.name = name

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    # Publish.

    async def publish(
        self,
        body: bytes | str,
        *,
        headers: Mapping[str, Any] | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        ttl: Duration | None = None,
        priority: int = 0,
        key: str = "",
        dedupe: str = "",
        timeout: float | None = None,
    ) -> Receipt:
        """Publishes one message, and returns when the broker has confirmed it.

        Publishes that are made within one turn of the event loop travel together.

        Args:
            body: the message; a str is sent as UTF-8.
            headers: names to values that msgpack can hold.
            delay: how long it waits before it is ready, in seconds.
            at: the moment at which it is ready, with a time zone.
            ttl: after how many seconds it expires when nobody has taken it.
            priority: 0 to 9; 9 goes first.
            key: what it belongs to, such as a customer.
            dedupe: a second message with this key is not stored while the queue remembers it.
            timeout: how long to try, in seconds, while the queue is full; 0 tries once.

        Returns:
            The receipt, which names the message's id and its durability.

        Raises:
            Busy: the queue is full, and still was when the time was over; says when to come back.
            TooLarge: the message is larger than the queue or a frame may hold.
            Invalid: a value is out of its range.
            RequestTimeout: the broker did not answer.
            Disconnected: the connection was lost; whether the message was stored is unknown.
        """
        envelope = PLAIN
        if priority or key or dedupe or delay is not None or at is not None or ttl is not None:
            envelope = _envelope(priority, key, dedupe, delay, at, ttl)
        message = (pack_headers(headers), _bytes(body))
        self._check_size(len(message[0]) + len(message[1]))
        link = self._link
        started = link.now()
        tries = 0
        while True:
            if link._room is not None:  # noqa: SLF001 (saves a coroutine a message)
                await link.room()
            link.check_open()
            waiter: asyncio.Future[Receipt] = link._loop.create_future()  # noqa: SLF001 (likewise)
            link.conversation.publish(self.name, envelope, message, waiter, _deadline(link))
            link.wake()
            try:
                return await waiter
            except errors.Busy as busy:
                tries += 1
                await _back_off(busy, tries, started, link, timeout)

    async def publish_many(
        self,
        bodies: Sequence[bytes | str],
        *,
        headers: Mapping[str, Any] | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        ttl: Duration | None = None,
        priority: int = 0,
        key: str = "",
        timeout: float | None = None,
    ) -> list[Receipt]:
        """Publishes many messages in order, and returns when all are confirmed.

        They travel in batches of at most 10,000 messages and 1 MiB. A batch is stored whole or not at all; when a later
        one is refused, those before it stay stored (`Busy.accepted` tells how many messages that is).

        Args:
            bodies: the messages.
            headers: the headers of each of them.
            delay: as for `publish`.
            at: as for `publish`.
            ttl: as for `publish`.
            priority: as for `publish`.
            key: as for `publish`.
            timeout: as for `publish`, for each batch.

        Returns:
            A receipt for each message, in order.
        """
        envelope = _envelope(priority, key, "", delay, at, ttl)
        receipts: list[Receipt] = []
        for lengths, block in self._blocks(pack_headers(headers), list(map(_bytes, bodies))):
            try:
                receipt = await self._publish_block(lengths, block, envelope, timeout)
            except errors.Busy as busy:
                busy.accepted = len(receipts)
                raise
            queue, first, durability, duplicate = receipt
            receipts += [Receipt(queue, first + n, durability, duplicate) for n in range(len(lengths) // 4)]
        return receipts

    async def _publish_block(self, lengths: bytes, block: bytes, envelope: Envelope, timeout: float | None) -> Receipt:
        link = self._link
        started, tries = link.now(), 0
        while True:
            await link.room()
            link.check_open()
            waiter = asyncio.get_running_loop().create_future()
            link.conversation.publish_block(self.name, envelope, lengths, block, waiter, _deadline(link))
            link.wake()
            try:
                receipt: Receipt = await waiter
            except errors.Busy as busy:
                tries += 1
                await _back_off(busy, tries, started, link, timeout)
            else:
                return receipt

    def _blocks(self, packed: bytes, bodies: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Messages that share their headers, in batches of at most BATCH_BYTES_MAX: lengths, and bytes back to back."""
        sizes = [len(packed) + len(body) for body in bodies]
        self._check_size(max(sizes, default=0))
        room_bytes = min(BATCH_BYTES_MAX, self._link.conversation.block_bytes_max)
        start = 0
        while start < len(sizes):
            stop, size = start + 1, sizes[start]
            while stop < len(sizes) and size + sizes[stop] <= room_bytes and stop - start < BATCH_MESSAGES_MAX:
                size += sizes[stop]
                stop += 1
            # Each of them is the headers and a body: the headers stand before the first body, and between two.
            yield pack_sizes(sizes[start:stop]), packed + packed.join(bodies[start:stop])
            start = stop

    def _check_size(self, size: int) -> None:
        limit = self._link.conversation.block_bytes_max
        if size > limit:
            raise errors.TooLarge(f"a message of {size} bytes is over the broker's limit of {limit} bytes")

    # Consume.

    def consume(self, credit: int = 500, *, lease: Duration | None = None) -> Consumer:
        """Messages as they come; see `Consumer`.

        Args:
            credit: how many messages may be in this client's hands at a time, taken or not.
            lease: how long this consumer may hold a message, in seconds; the queue's lease when not given.
        """
        if credit < 1:
            raise ValueError(f"a consumer needs a credit of at least 1, not {credit}")
        return Consumer(Intake(self._link, self.name, credit, 0 if lease is None else to_ms(lease)))

    async def get(self, limit: int = 1, wait: float = 0.0, *, lease: Duration | None = None) -> list[Message]:
        """Takes up to `limit` messages.

        Args:
            limit: how many at most.
            wait: how long to wait for the first one, in seconds.
            lease: how long they may be held, in seconds; the queue's lease when not given.

        Returns:
            The messages; none when none came in time.
        """
        if limit < 1:
            raise ValueError(f"a get takes at least 1 message, not {limit}")
        intake = Intake(self._link, self.name, limit, 0 if lease is None else to_ms(lease))
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
        return list(intake.buffer)

    def ack_many(self, messages: Sequence[Message]) -> Settlement:
        """Acknowledges many messages at once, in one frame; await the result to know that it is confirmed.

        Raises:
            AlreadySettled: one of them was settled before, or is named twice; none is settled then.
        """
        for position, message in enumerate(messages):
            if message.settled:
                mine = messages[:position]
                for each in mine:
                    each.settled = ""
                what = "it is named twice" if message in mine else f"it was settled before: {message.settled}"
                raise errors.AlreadySettled(f"{message.id} cannot be acknowledged: {what}")
            message.settled = "ack"
        settlement = ManySettlement(f"ack of {len(messages)} messages of {self.name}")
        ranges = runs(messages)
        settlement.expect(len(ranges))
        position = 0
        for delivery, first, count in ranges:
            messages[position]._intake.settle_range(delivery, Verb.ACK, first, count, settlement)  # noqa: SLF001
            position += count
        return settlement

    # Look and manage.

    async def info(self) -> QueueInfo:
        """Its counts, rates and options.

        Raises:
            NotFound: there is no such queue.
        """
        reply = await self._link.request(partial(commands.Info, queue=self.name))
        return QueueInfo.from_wire(reply.info)

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
        limit = min(limit, PEEK_MESSAGES_MAX)
        make = partial(commands.Peek, queue=self.name, state=state, first=first, limit=limit)
        reply = await self._link.request(make)
        messages = bodies(reply.lengths, reply.block)
        found = []
        for row, detail in zip(reply.spans, reply.details, strict=True):
            delivery = Delivery(self.name, 0, row)
            found += [PeekedMessage(delivery, row[0] + n, *next(messages), detail) for n in range(row[1])]
        return found, reply.next_offset

    async def find(self, message: str | int) -> PeekedMessage:
        """Looks at one message, in whatever state it is.

        Args:
            message: its id, or its offset.

        Raises:
            ValueError: it is the id of another queue's message, or no id.
            NotFound: it has left the queue, or was never there.
        """
        offset = self._offset_of(message)
        found, _ = await self.look(1, "", offset)
        if not found or found[0].offset != offset:
            raise errors.NotFound(f"there is no message {message_id(self.name, offset)}, or no longer")
        return found[0]

    async def cancel(self, *messages: str | int) -> int:
        """Removes messages, in whatever state they are, for good.

        A consumer that holds one sees it by `message.cancelled`, and its settle raises `StaleDelivery`.

        Args:
            messages: their ids, or their offsets.

        Returns:
            How many were there.
        """
        offsets = sorted({self._offset_of(each) for each in messages})
        total = 0
        for start in range(0, len(offsets), ROWS_MAX):
            ranges = tuple((offset, 1) for offset in offsets[start : start + ROWS_MAX])
            total += await self.total_of(partial(commands.Cancel, queue=self.name, ranges=ranges))
        return total

    @property
    def dead(self) -> Dead:
        """Its dead messages."""
        return Dead(self)

    async def purge(self, *states: str) -> int:
        """Removes all messages in the given states (ready and delayed when none is given); returns how many."""
        return await self.total_of(partial(commands.Purge, queue=self.name, states=states or ("ready", "delayed")))

    async def total_of(self, make: Callable[[int], commands.Request]) -> int:
        """Makes a request whose answer is a number."""
        total: int = (await self._link.request(make)).total
        return total

    def _offset_of(self, message: str | int) -> int:
        if isinstance(message, int):
            return message
        queue, offset = split_id(message)
        if queue != self.name:
            raise ValueError(f"{message!r} is no message of queue {self.name!r}")
        return offset

    async def delete(self) -> int:
        """Removes the queue and all that it holds; returns how many messages that were."""
        return await self.total_of(partial(commands.Delete, queue=self.name))

    async def pause(self) -> None:
        """Stops its deliveries; publishes and settles go on."""
        await self._link.request(partial(commands.Pause, queue=self.name, paused=True))

    async def resume(self) -> None:
        """Starts its deliveries again."""
        await self._link.request(partial(commands.Pause, queue=self.name, paused=False))

    async def alter(self, **options: Any) -> QueueInfo:
        """Changes options of the queue; see `Broker.declare` for their names. `durability` cannot be changed.

        Returns:
            The state of the queue with its new options.

        Raises:
            NotFound: there is no such queue.
            Invalid: an option is unknown, out of range, or cannot be changed.
        """
        reply = await self._link.request(partial(commands.Alter, queue=self.name, options=wire_options(options)))
        return QueueInfo.from_wire(reply.info)


def _bytes(body: Any) -> bytes:
    """A body as bytes. Refuses what is none before it gets to the connection, which others use too."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    raise TypeError(f"a message's body is bytes or str, not {type(body).__name__}")


def _envelope(
    priority: int, key: str, dedupe: str, delay: Duration | None, at: datetime | None, ttl: Duration | None
) -> Envelope:
    # What the wire cannot hold must not get as far as the connection, which others use too.
    priority = int(index(priority))
    if not 0 <= priority <= PRIORITY_MAX:
        raise errors.Invalid(f"priority {priority} is not within 0 to {PRIORITY_MAX}")
    for what, text in (("key", key), ("dedupe key", dedupe)):
        if not isinstance(text, str):
            raise TypeError(f"a {what} is a str, not {text!r:.40}")
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > NAME_BYTES_MAX:
            raise errors.Invalid(f"a {what} of {size} bytes is over the limit of {NAME_BYTES_MAX}")
        text.encode()  # raises when it holds a lone surrogate
    delay_ms = 0 if delay is None else to_ms(delay)
    ttl_ms = 0 if ttl is None else to_ms(ttl)
    if ttl is not None and not ttl_ms:
        raise ValueError(f"a time to live is more than 0 seconds, not {ttl!r}")
    return Envelope(priority, key, delay_ms, 0 if at is None else moment_ms(at), ttl_ms, dedupe)


def _deadline(link: Link) -> float:
    """When a request made now is given up; the same for all that are made within a few milliseconds, so they join."""
    return round(link.now() + link.timeout, 2)


async def _back_off(busy: errors.Busy, tries: int, started: float, link: Link, timeout: float | None) -> None:
    """Waits before the next try: the broker's hint, grown exponentially, with full jitter on top.

    The last try comes when the caller's time is over.

    Raises:
        Busy: the caller's time is over.
    """
    if not busy.retry_after:
        return  # the queue is not full: a neighbour in the same frame was refused
    grown = min(BACK_OFF_CAP_S, busy.retry_after * BACK_OFF_FACTOR ** min(tries - 1, BACK_OFF_DOUBLINGS_MAX))
    pause = busy.retry_after + random.uniform(0, grown)  # noqa: S311 (jitter, not a secret)
    left = started + (link.timeout if timeout is None else timeout) - link.now()
    if left <= 0:
        raise busy
    await asyncio.sleep(min(pause, left))
