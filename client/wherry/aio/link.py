"""The link: a conversation, and the socket under it. It moves bytes, keeps deadlines, and hands answers to who waits.

Everything that is asked within one turn of the event loop leaves in one write at its end. A lost socket is replaced by
another one, and the conversation goes on: who waits for an answer notices nothing but the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

from wherry import errors
from wherry.aio.connection import Connection
from wherry.conversation import (
    Answered,
    Cancelled,
    Confirmed,
    ConsumerStopped,
    ConsumerSuspended,
    Conversation,
    Delivered,
    Ended,
    Failed,
    Interrupted,
    LeasesLost,
    Settled,
    Welcomed,
)
from wherry.conversation.receipts import new_receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.aio.intake import Intake
    from wherry.aio.reconnecting import Reconnector
    from wherry.conversation.asks import Ask
    from wherry.model import commands

T = TypeVar("T")
logger = logging.getLogger("wherry")

CONNECTING, CONNECTED, RECONNECTING, CLOSED = "connecting", "connected", "reconnecting", "closed"
CLOSE_S = 5.0
"""How long a closing connection may take to send what it still has to say."""
CANCEL_S = 1.0
"""How long an attempt to connect may take to end once it is cancelled, before it is cancelled again."""
AWAY_S = 2.0
"""How long an end waits for what is not answered, while there is no broker that could answer."""
LONG_BYTES = 4_096
"""From how many bytes on, on average, what is to be written is written piece by piece."""
SETTLE_LATENCY_S = 0.005
"""How long a settle may wait for company while the user's code does not let the event loop turn."""


class Link:
    """A connection to a broker, over as many sockets as it takes.

    Args:
        conversation: what is said.
        timeout: how long a request may take when it does not say itself, in seconds.
        reconnector: gets its sockets; without one, the first that is lost is the last.
        on_status: called with each new status.
        loop: the event loop, and the clock; the running one when not given.

    Attributes:
        intakes: consumers by number, those too that take no more but hold messages still.
        status: `connecting`, `connected`, `reconnecting` or `closed`.
        transport: the socket that there is; None while there is none.
        turn_deadline: when publishes of this turn of the event loop are given up; 0 before there is one.
        inbox: where replies to requests come; None before the first request.
        inbox_lock: held while it is made.
    """

    def __init__(
        self,
        conversation: Conversation,
        timeout: float,
        reconnector: Reconnector | None = None,
        on_status: Callable[[str], None] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.conversation = conversation
        self.timeout = timeout
        self.intakes: dict[int, Intake] = {}
        self.status = CONNECTING
        self.transport: asyncio.Transport | None = None
        self._reconnector = reconnector
        self._on_status = on_status
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._welcomed: asyncio.Future[None] = self._loop.create_future()
        self._connection: Connection | None = None
        self._gone: asyncio.Future[None] | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self.inbox: Intake | None = None
        self.inbox_lock = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._is_writing_held = False
        self._flush_soon = False
        self.turn_deadline = 0.0
        self._deadline: asyncio.TimerHandle | None = None
        self._heartbeat: asyncio.TimerHandle | None = None
        self._leases: asyncio.TimerHandle | None = None
        self._leases_at = 0.0
        self._heard_at = 0.0

    # Called by its connections.

    def make_connection(self) -> Connection:
        """The end of the next connection, the only one that is listened to from now on."""
        self._connection = Connection(self)
        return self._connection

    def connected(self, connection: Connection, transport: asyncio.Transport) -> None:
        """The socket is there: say HELLO; unless the attempt was given up meanwhile."""
        if connection is not self._connection or self.status == CLOSED:
            transport.abort()
            return
        self.transport = transport
        self._gone = self._loop.create_future()
        self.flush()

    def received(self, nbytes: int) -> None:
        """Bytes have come."""
        self._heard_at = self._loop.time()
        conversation = self.conversation
        self._tell(conversation.receive(conversation.reader.received(nbytes)))
        self.wake()
        if self._idle is not None and not conversation.unanswered and not self._idle.done():
            self._idle.set_result(None)
        if self._room is not None and not conversation.is_full and not self._is_writing_held:
            self._make_room()

    def hold_publishers(self) -> None:
        """Much waits to be written: publishers wait."""
        self._is_writing_held = True
        if self._room is None:
            self._room = self._loop.create_future()

    def release_publishers(self) -> None:
        """There is room again."""
        self._is_writing_held = False
        if not self.conversation.is_full:
            self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        error = errors.Disconnected(f"the connection to the broker is gone: {exc or 'it was closed'}")
        error.__cause__ = exc
        self.transport = None
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        is_last = self._reconnector is None or self.status in {CONNECTING, CLOSED}
        self._tell(self.conversation.end(error) if is_last else self.conversation.lose(error))
        self._fail_welcome(self.conversation.ended or error)
        self.release_publishers()
        if self._reconnector is not None and self.conversation.ended is None and self._reconnecting is None:
            self._set_status(RECONNECTING)
            self._reconnecting = self._loop.create_task(self._reconnect(self._reconnector))

    def discard(self, error: errors.WherryError) -> None:
        """Gives up an attempt to connect, which may never tell that it is over: uvloop closes without a word."""
        transport, self.transport, self._connection = self.transport, None, None
        if transport is not None:
            transport.abort()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        self._fail_welcome(error)

    async def _reconnect(self, reconnector: Reconnector) -> None:
        try:
            await reconnector.connect_again(self)
        except errors.WherryError as error:
            self._tell(self.conversation.end(error))
        finally:
            self._reconnecting = None

    def begin(self) -> asyncio.Future[None]:
        """Another socket is about to be tried; what is returned is done when the broker has accepted it."""
        if self._welcomed.done():
            self._welcomed = self._loop.create_future()
            self.conversation.reopen()
        return self._welcomed

    # Called by the client's other parts.

    @property
    def is_open(self) -> bool:
        """Whether requests can be made; while there is no connection, they wait for one."""
        return self.conversation.ended is None and self.status != CONNECTING

    @property
    def is_live(self) -> bool:
        """Whether there is a connection."""
        return self.status == CONNECTED and self.conversation.is_live

    def now(self) -> float:
        """The time, in seconds of the event loop's clock."""
        return self._loop.time()

    def now_ms(self) -> int:
        """The time of day, in milliseconds since 1970."""
        return int(time.time() * 1000)

    async def sleep(self, seconds: float) -> None:
        """Waits, by the event loop's clock."""
        await self.wait_own(self._loop.create_future(), seconds)

    async def wait(self, future: asyncio.Future[Any], seconds: float | None) -> None:
        """Returns when a future is done or the time is over, by the event loop's clock. The future is left alone."""
        if seconds is None:
            await asyncio.wait((future,))
            return
        over = self._loop.create_future()
        timer = self._loop.call_later(seconds, over.cancel)
        try:
            await asyncio.wait((future, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            timer.cancel()

    async def wait_own(self, future: asyncio.Future[None], seconds: float | None) -> None:
        """The same for a future that nobody else waits for, with less ado: it is done once the time is over."""
        timer = None if seconds is None else self._loop.call_later(seconds, wake, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    def check_open(self) -> None:
        """Raises what ended the conversation, if it has ended."""
        error = self.conversation.ended
        if error is not None:
            raise errors.Disconnected(str(error)) from error

    async def room(self) -> None:
        """Returns when there is room for more to be written, and fewer publishes have no answer than a broker takes."""
        while self._room is not None or self.conversation.is_full:
            if self._room is None:
                self._room = self._loop.create_future()
            self.wake()
            await asyncio.shield(self._room)

    async def request(self, make: Callable[[int], commands.Request], timeout: float | None = None) -> Any:
        """Makes a request and waits for its reply.

        Raises:
            WherryError: the broker refused, the connection was lost, or no answer came in time.
        """
        self.check_open()
        waiter = self._loop.create_future()
        number = self.conversation.request(make, waiter, self.now() + (self.timeout if timeout is None else timeout))
        self.wake()
        try:
            return await waiter
        except asyncio.CancelledError:
            self.conversation.give_up(number)
            raise

    async def ask(self, ask: Ask[T], timeout: float | None = None) -> T:
        """Makes a request and reads its reply, which comes within `timeout` seconds, or in the link's own time.

        Raises:
            WherryError: as for `request`, or as reading the reply says.
        """
        return ask.read(await self.request(ask.make, timeout))

    def watch_leases(self, at: float) -> None:
        """Has all intakes look at their leases at the time `at`, or before."""
        if self._leases is None or at < self._leases_at:
            if self._leases is not None:
                self._leases.cancel()
            self._leases_at = at
            self._leases = self._loop.call_at(at, self._on_leases)

    def look_at_leases(self) -> None:
        """Looks at what is due already, for code that has kept the event loop from turning."""
        if self._leases is not None and self._leases_at <= self.now():
            self._leases.cancel()
            self._on_leases()

    async def settled(self) -> None:
        """Returns when nothing is unanswered any more, or the time is over: less without a broker."""
        if self.is_open and self.conversation.unanswered:
            self._idle = self._loop.create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle, self.timeout if self.is_live else min(AWAY_S, self.timeout))

    def wake(self) -> None:
        """Has what was said written at the end of this turn of the event loop."""
        if not self._flush_soon:
            self._flush_soon = True
            self._loop.call_soon(self._end_turn)

    def begin_turn(self) -> float:
        """What is said in this turn of the event loop is written at its end; returns when that is given up.

        It is one moment for all, so that publishes may join however long the turn takes.
        """
        self.wake()
        self.turn_deadline = self._loop.time() + self.timeout
        return self.turn_deadline

    def _end_turn(self) -> None:
        self._flush_soon = False
        self.turn_deadline = 0.0
        self.flush()

    def flush(self) -> None:
        """Writes what was said, now."""
        transport = self.transport
        if transport is None or transport.is_closing():
            self.conversation.gather()
        elif pieces := self.conversation.data_to_send():
            # Long pieces are not copied once more; short ones are cheaper to write as one.
            if len(pieces) > 1 and sum(map(len, pieces)) > LONG_BYTES * len(pieces):
                transport.writelines(pieces)
            else:
                transport.write(b"".join(pieces))
        self._set_deadline()

    async def close(self) -> None:
        """Says GOODBYE and waits until the socket is closed."""
        if self.is_live:
            self.conversation.close()
            self.flush()
        self._set_status(CLOSED)  # from now on, a socket that is lost is not replaced
        reconnecting = self._reconnecting
        while reconnecting is not None and not reconnecting.done():
            reconnecting.cancel()
            await asyncio.wait((reconnecting,), timeout=CANCEL_S)
        if self.transport is not None and self._gone is not None:
            gone = self._gone
            self.transport.close()
            try:
                await asyncio.wait_for(asyncio.shield(gone), CLOSE_S)
            except TimeoutError:
                self.discard(errors.Disconnected("the socket did not close in time"))
        self._tell(self.conversation.end(errors.Disconnected("the connection to the broker is gone: it was closed")))

    def abort(self) -> None:
        """Closes the socket, whatever waits to be written."""
        if self.transport is not None:
            self.transport.abort()

    # Inside.

    def _tell(self, events: list[Any]) -> None:
        for event in events:
            _TELL[type(event)](self, event)

    def _tell_welcomed(self, event: Welcomed) -> None:
        if not self._welcomed.done():
            self._welcomed.set_result(None)
        self._set_status(CONNECTED)
        if event.welcome.producer_ms:  # what is older must not be sent again
            self.timeout = min(self.timeout, event.welcome.producer_ms / 2000)
        if event.welcome.heartbeat_ms:
            self._heartbeat = self._loop.call_later(event.welcome.heartbeat_ms / 1000, self._beat)

    def _tell_confirmed(self, event: Confirmed) -> None:
        _, queue, offset, durability, duplicate = event
        for waiter in event.waiters:
            if not waiter.done():
                waiter.set_result(new_receipt((queue, offset, durability, duplicate)))
            offset += 1

    def _tell_settled(self, event: Settled) -> None:
        for waiter, error in event.outcomes:
            waiter.resolve(error)

    def _tell_answered(self, event: Answered) -> None:
        if not event.waiter.done():
            event.waiter.set_result(event.reply)

    def _tell_failed(self, event: Failed) -> None:
        for waiter in event.waiters:
            if not waiter.done():
                waiter.set_exception(event.error())

    def _tell_delivered(self, event: Delivered) -> None:
        intake = self.intakes.get(event.consumer)
        if intake is not None:
            intake.take(event)

    def _tell_cancelled(self, event: Cancelled) -> None:
        intake = self.intakes.get(event.consumer)
        if intake is not None:
            intake.cancelled(event.deliveries)

    def _tell_stopped(self, event: ConsumerStopped) -> None:
        intake = self.intakes.get(event.consumer)
        if intake is not None:
            intake.stopped(event.error)

    def _tell_suspended(self, event: ConsumerSuspended) -> None:
        intake = self.intakes.get(event.consumer)
        if intake is not None:
            intake.suspended()

    def _tell_leases_lost(self, event: LeasesLost) -> None:
        intake = self.intakes.get(event.consumer)
        if intake is not None:
            intake.leases_lost(event.parts)

    def _tell_interrupted(self, event: Interrupted) -> None:
        logger.info("%s; connecting again", event.error)
        self.abort()

    def _tell_ended(self, event: Ended) -> None:
        self._fail_welcome(event.error)
        self._set_status(CLOSED)
        intakes, self.intakes = self.intakes, {}
        for intake in intakes.values():
            intake.stopped(event.error)
        self._make_room()
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        for timer in (self._deadline, self._heartbeat, self._leases):
            if timer is not None:
                timer.cancel()
        if self.transport is not None:
            self.transport.close()

    def _fail_welcome(self, error: errors.WherryError) -> None:
        if not self._welcomed.done():
            self._welcomed.set_exception(error)
            self._welcomed.exception()  # told, whether anybody still waits for it or not

    def _set_status(self, status: str) -> None:
        if self.status in {status, CLOSED}:
            return
        was, self.status = self.status, status
        if self._on_status is not None and (was, status) != (CONNECTING, CLOSED):  # an exception tells of that
            self._on_status(status)

    def _set_deadline(self) -> None:
        if self._deadline is None:
            deadline = self.conversation.next_deadline()
            if deadline is not None:
                self._deadline = self._loop.call_at(deadline, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = None
        self._tell(self.conversation.expire(self.now()))
        self._set_deadline()

    def _on_leases(self) -> None:
        self._leases = None
        now = self.now()
        next_ones = [at for intake in list(self.intakes.values()) if (at := intake.look(now)) is not None]
        if next_ones and self.is_open:
            self.watch_leases(min(next_ones))

    def _beat(self) -> None:
        """Once an interval: the broker hears from us, and two intervals without hearing from it end the connection."""
        welcome = self.conversation.welcome
        if not self.is_live or welcome is None:
            return
        interval, now = welcome.heartbeat_ms / 1000, self.now()
        if now - self._heard_at >= 2 * interval:
            self._tell(self.conversation.lose(errors.Disconnected(f"the broker was silent for {2 * interval:g} s")))
            self.abort()
            return
        self.conversation.ping()
        self.flush()
        self._heartbeat = self._loop.call_at(min(now + interval, self._heard_at + 2 * interval), self._beat)


def wake(waiter: asyncio.Future[None]) -> None:
    """Wakes one who waits, unless somebody has, or it is cancelled."""
    if not waiter.done():
        waiter.set_result(None)


_TELL: dict[type, Callable[[Link, Any], None]] = {
    Welcomed: Link._tell_welcomed,  # noqa: SLF001 (the table belongs to the class)
    Confirmed: Link._tell_confirmed,  # noqa: SLF001
    Settled: Link._tell_settled,  # noqa: SLF001
    Answered: Link._tell_answered,  # noqa: SLF001
    Failed: Link._tell_failed,  # noqa: SLF001
    Delivered: Link._tell_delivered,  # noqa: SLF001
    Cancelled: Link._tell_cancelled,  # noqa: SLF001
    ConsumerSuspended: Link._tell_suspended,  # noqa: SLF001
    LeasesLost: Link._tell_leases_lost,  # noqa: SLF001
    Interrupted: Link._tell_interrupted,  # noqa: SLF001
    ConsumerStopped: Link._tell_stopped,  # noqa: SLF001
    Ended: Link._tell_ended,  # noqa: SLF001
}
