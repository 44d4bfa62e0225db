"""Consuming: an async iterator over what the broker delivers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Self

from wherry import errors
from wherry.aio.link import SETTLE_LATENCY_S, wake
from wherry.aio.message import Message, Settlement
from wherry.conversation.holding import MAX_LEASE_S, Holding
from wherry.conversation.leased import SAID
from wherry.model.commands import Verb
from wherry.model.times import Duration, to_ms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType

    from wherry.aio.link import Link
    from wherry.conversation import Delivered
    from wherry.conversation.leased import Outcome
    from wherry.delivery import BaseMessage, Delivery


class Intake(Holding[Message]):
    """What a consumer has been delivered, and those who wait for it.

    Args:
        link: the connection.
        queue: the queue's name.
        credit: how many messages may be here, or in the user's hands, at a time.
        lease: how long a lease is to run, in seconds; None for the queue's own.
        max_lease: how long a message may be held in the user's hands by extending its lease, in seconds; None for an
            hour.
        make: the type of its messages.

    Attributes:
        ended: why no more will come; None while more may.
        is_stopped: whether it was stopped by the user.
    """

    def __init__(
        self,
        link: Link,
        queue: str,
        credit: int,
        lease: Duration | None,
        max_lease: Duration | None,
        make: type[Message],
    ) -> None:
        lease_ms = 0 if lease is None else to_ms(lease)
        longest = MAX_LEASE_S if max_lease is None else to_ms(max_lease) / 1000
        super().__init__(link.conversation, queue, credit, lease_ms, longest, make.many)
        self.link = link
        self.ended: errors.WherryError | None = None
        self.is_stopped = False
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._empty: asyncio.Future[None] | None = None

    async def attach(self) -> None:
        """Begins to consume."""
        self.link.check_open()
        waiter = asyncio.get_running_loop().create_future()
        self.consume(waiter, self.link.now() + self.link.timeout)
        self.link.intakes[self.number] = self
        self.link.wake()
        waiter.add_done_callback(self._attach_answered)
        await asyncio.shield(waiter)  # who is cancelled here stays attached, and may come back

    def _attach_answered(self, answer: asyncio.Future[None]) -> None:
        error = answer.exception()
        if isinstance(error, errors.RequestTimeout):
            self.abandon()  # the broker may have attached it, or may still
        elif error is not None:
            self.forget()
            self._arrived()  # a task that waits here finds out for itself

    def take(self, delivered: Delivered) -> None:
        """Messages came."""
        self.link.watch_leases(self.hold(delivered, self.link.now(), self.link.now_ms()))
        self.link.wake()
        self._arrived()

    def cancelled(self, ranges: Sequence[tuple[int, int, int]]) -> None:
        """Messages were cancelled."""
        self.drop_cancelled(ranges)
        self.link.wake()

    def stopped(self, error: errors.WherryError) -> None:
        """No more will come: the broker has detached the consumer, or the connection is gone."""
        self.ended = error
        if self.link.is_open:
            self.release_buffer()
        self.buffer.clear()
        self.forget()
        self._arrived()

    def suspended(self) -> None:
        """The broker shuts down: hands back what nobody has taken, and goes on with the next one."""
        self.release_buffer()
        self.link.wake()

    def leases_lost(self, parts: Sequence[tuple[Delivery, int, int]]) -> None:
        """Messages are held no longer."""
        self.lose(parts)
        self.link.wake()

    def look(self, now: float) -> float | None:
        """Time has passed: looks at the leases. Returns when to look again; None when none runs."""
        self.link.wake()
        return self.expire(now, now + self.link.timeout if self.link.is_live else None)

    async def arrival(self, timeout: float | None) -> None:
        """Returns when something is in the buffer, no more will come, or the time is over."""
        # A future for each who waits: one that is cancelled takes nobody else along.
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await self.link.wait_own(waiter, timeout)
        finally:
            self._waiting.pop(waiter, None)

    def settle(
        self, message: BaseMessage, verb: Verb, duration_ms: int | None, text: str, result: bytes | None = None
    ) -> Settlement:
        """Settles one message."""
        link = self.link
        link.check_open()
        settlement = Settlement(SAID[verb], message)
        deadline = link.turn_deadline or link.begin_turn()
        self.settle_range(message.delivery, verb, message.offset, 1, settlement, deadline, duration_ms, text, result)
        return settlement

    def ack_range(self, delivery: Delivery, first: int, count: int, outcome: Outcome) -> None:
        """Acknowledges messages of one delivery, next to each other."""
        link = self.link
        link.check_open()
        self.settle_range(delivery, Verb.ACK, first, count, outcome, link.turn_deadline or link.begin_turn())

    def extend(
        self, message: BaseMessage, duration_ms: int | None, progress: int | None = None, note: str = ""
    ) -> Settlement:
        """Moves the deadline of one message's lease, and says how far the work has come."""
        link = self.link
        link.check_open()
        settlement, now = Settlement("extend", message), link.now()
        link.watch_leases(self.prolong(message, duration_ms, settlement, now, now + link.timeout, progress, note))
        link.wake()
        return settlement

    async def detach(self) -> None:
        """Takes no more. Once this returns, all that was ever delivered is here."""
        if not self.attached:
            return
        if self.link.is_live:
            waiter = asyncio.get_running_loop().create_future()
            self.link.conversation.stop(self.number, waiter, self.link.now() + self.link.timeout)
            self.link.wake()
            with contextlib.suppress(errors.NotFound, errors.Disconnected):
                await waiter  # else the broker has stopped it meanwhile, or is gone: nothing is left to stop
        self.forget()
        self._arrived()

    async def stop(self) -> None:
        """Takes no more, and hands back what nobody has taken."""
        self.is_stopped = True
        try:
            await self.detach()
        except (asyncio.CancelledError, errors.RequestTimeout):
            self.abandon()
            raise
        self.release_buffer()
        self._arrived()

    async def drain(self, grace: float) -> None:
        """Waits until nothing is held any more, `grace` seconds at most, and hands back the rest unspent."""
        if self.leases:
            self._empty = self._empty or asyncio.get_running_loop().create_future()
            await self.link.wait(self._empty, grace)
        if self.leases and self.link.is_open:
            self.release_all(self.link.now() + self.link.timeout)
            self.link.wake()

    def abandon(self) -> None:
        """Stops without waiting: for iterators that were dropped, and for what was cancelled. May be called again."""
        if not self.attached or not self.link.is_open:
            return
        self.release_buffer()
        self.link.wake()
        if self.link.is_live:
            waiter = asyncio.get_running_loop().create_future()
            waiter.add_done_callback(self._abandoned)
            self.link.conversation.stop(self.number, waiter, self.link.now() + self.link.timeout)
        else:
            self.forget()

    def _abandoned(self, answer: asyncio.Future[None]) -> None:
        answer.exception()  # whatever it was: nobody waits for it
        self.release_buffer()
        self.forget()
        self._arrived()

    def release_buffer(self) -> None:
        """Hands back what nobody has taken, unspent."""
        for message in self.buffer.take_all():
            if not message.settled and self.link.is_open:
                message.release()

    def emptied(self) -> None:
        """Nothing is held, and nothing more will come: nobody needs to look at it again."""
        self.link.intakes.pop(self.number, None)
        if self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def _arrived(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            wake(waiter)


class Consumer:
    """Messages of a queue, as they come.

    An async iterator, which several tasks may share; it ends when `stop` was called. As a context manager it stops at
    the end of the block. Dropping it (leaving its loop by `break`, say) stops it too. Messages that were delivered and
    that nobody has taken are handed back unspent.

    The leases of all that is here are extended in time, as long as the event loop turns: those of messages in the
    user's hands until they were there for `max_lease`. Whose lease has ended all the same is `message.lost`.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._turned_at = 0.0

    def __aiter__(self) -> Consumer:
        return self

    async def __anext__(self) -> Message:
        intake = self._intake
        now = time.monotonic()
        if now - self._turned_at > SETTLE_LATENCY_S:
            # A loop whose body never waits would keep the event loop from writing settles and reading messages.
            self._turned_at = now
            await asyncio.sleep(0)
            intake.link.look_at_leases()
        made = intake.buffer.made
        while not made and not intake.buffer.make_some():
            if not await self._more(None):
                raise StopAsyncIteration
        return made.popleft()

    async def batches(self, n: int, wait: float = 0.0) -> AsyncIterator[list[Message]]:
        """Messages in lists of at most `n`, for work in bulk.

        Args:
            n: the longest list.
            wait: how long to wait for a list to fill once it has a message, in seconds.

        Yields:
            Lists of at least one message.
        """
        if n < 1:
            raise ValueError(f"a batch has at least 1 message, not {n}")
        while True:
            batch = await self._batch(n, wait)
            if not batch:
                return
            yield batch

    async def _batch(self, n: int, wait: float) -> list[Message]:
        buffer = self._intake.buffer
        await asyncio.sleep(0)
        self._intake.link.look_at_leases()
        while not buffer:
            if not await self._more(None):
                return []
        until = self._intake.link.now() + wait
        while len(buffer) < n and (left := until - self._intake.link.now()) > 0:
            if not await self._more(left, n):
                break
        return buffer.take(n)

    async def _more(self, timeout: float | None, n: int = 1) -> bool:
        """Waits until something may have come if fewer than `n` messages are here; False when no more will.

        Raises:
            WherryError: the broker has stopped the consumer, or the connection is gone.
        """
        intake = self._intake
        if intake.is_stopped:
            return False
        if intake.ended is not None:
            raise intake.ended
        if not intake.attached:
            await intake.attach()
        elif len(intake.buffer) < n:
            await intake.arrival(timeout)
        return True

    async def wait_ended(self) -> None:
        """Returns when the consumer was stopped.

        Raises:
            WherryError: the broker has stopped the consumer, or the connection is gone.
        """
        intake = self._intake
        while not intake.is_stopped:
            if intake.ended is not None:
                raise intake.ended
            await intake.arrival(None)

    async def stop(self, grace: Duration | None = None) -> None:
        """Takes no more messages; the iterator ends, and what nobody has taken is handed back unspent.

        Args:
            grace: how long to wait until the messages in the user's hands are settled, in seconds. Those that are not
                by then are handed back unspent, so that others may have them, and their settles raise `StaleDelivery`.
                When not given, this does not wait, and they stay leased.
        """
        await self._intake.stop()
        if grace is not None:
            await self._intake.drain(to_ms(grace) / 1000)

    async def __aenter__(self) -> Self:
        if not self._intake.attached:
            await self._intake.attach()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __del__(self) -> None:
        if not self._intake.is_stopped:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return  # the loop is gone, and the connection with it
            self._intake.abandon()
