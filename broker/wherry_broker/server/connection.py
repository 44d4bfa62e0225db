"""One TCP connection: bytes between a transport and a session, and the deadlines of the socket."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from wherry_broker.server.session import CLOSING, OPEN, OPENING, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from wherry_broker.core.effects import Say
    from wherry_broker.server.limits import Limits, Unfinished
    from wherry_broker.server.pump import Pump

CLOSE_S = 2.0
"""How long a closing connection may take to send what it still has to say; a transport alone would wait for ever."""
KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""After how many seconds of silence the system asks, after how many it asks again, and how often in vain."""


class Connection(asyncio.BufferedProtocol):
    """A client's socket.

    Args:
        session: the conversation.
        pump: where commands go.
        limits: the limits of a connection.
        unfinished: counts what all connections hold.
        log: where events are told.
        opened: called with this connection when its socket is there; returns why it is refused, "" when it is not.
        closed: called with this connection when its socket is gone.
        loop: the event loop; the running one when not given.
    """

    def __init__(
        self,
        session: Session,
        pump: Pump,
        limits: Limits,
        unfinished: Unfinished,
        log: FilteringBoundLogger,
        opened: Callable[[Connection], str],
        closed: Callable[[Connection], None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._session = session
        self._pump = pump
        self._limits = limits
        self._unfinished = unfinished
        self._log = log
        self._opened = opened
        self._closed = closed
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._written = 0
        self._taken = 0
        self._reserved = 0
        self._heard_at = 0.0
        self._full = False
        self._held = False

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._transport = transport
        transport.set_write_buffer_limits(self._limits.write_high_bytes, self._limits.write_low_bytes)
        self._log = self._log.bind(peer=_address(transport))
        refused = self._opened(self)
        if refused:
            self.close("unavailable", refused)
            return
        self._deadline = self._loop.call_later(self._limits.login_ms / 1000, self._login_missed)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the reader knows better)
        """Where the event loop puts the next bytes."""
        return self._session.reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        self._heard_at = self._loop.time()
        session = self._session
        frames = session.reader.received(nbytes)
        opening = session.phase == OPENING
        given = session.receive(frames)
        if opening and (session.phase == OPEN or given):  # what was said before a GOODBYE in the same bytes counts
            self._welcomed()
        if given and self._number:
            self._pump.submit(self._number, given)
        if session.asked and self._number:
            self._pump.back_up(self._number, session.take_asked())
        if session.reader.reserved_bytes != self._reserved:
            self._count_unfinished(session.reader.reserved_bytes)
        if session.out:
            self._flush()
        if session.phase == CLOSING:
            self._end()

    def eof_received(self) -> None:
        """The client says nothing more: it has gone, though what it was told may still be read."""
        self._session.end("", "")
        self._end()

    def pause_writing(self) -> None:
        """More waits to be written than may: deliver nothing, and read nothing that would have to be answered."""
        self._full = True
        self._set_reading()
        self._watch_writing()

    def resume_writing(self) -> None:
        """There is room again."""
        self._full = False
        self._set_reading()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        if self._number:
            self._pump.make_room(self._number)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        for timer in (self._deadline, self._write_deadline):
            if timer is not None:
                timer.cancel()
        self._transport = None
        self._detach()
        code, text = self._session.reason
        self._log.debug("connection_closed", code=code, text=text, error=str(exc) if exc else "")
        self._closed(self)

    # Called by the pump.

    def say(self, says: list[Say]) -> None:
        """Sends what the core has to say."""
        if self._session.phase == OPEN:
            self._session.say(says)
            self._flush()

    def room_bytes(self) -> int:
        """How many bytes may be delivered now."""
        if self._transport is None or self._session.phase != OPEN:
            return 0
        # One more than the limit: a transport that holds just that much is not full, and so never tells of room.
        return self._limits.write_high_bytes + 1 - self._transport.get_write_buffer_size()

    def hold_reading(self, *, hold: bool) -> None:
        """Stops or starts reading, for the sake of all."""
        self._held = hold
        self._set_reading()

    # Called by the listener.

    def close(self, code: str, text: str) -> None:
        """Says GOODBYE and closes."""
        self._session.close(code, text)
        self._flush()
        self._end()

    # Inside.

    def _flush(self) -> None:
        pieces = self._session.data_to_send()
        transport = self._transport
        if not pieces or transport is None or transport.is_closing():
            return
        if len(pieces) == 1:
            self._written += len(pieces[0])
            transport.write(pieces[0])
        else:
            self._written += sum(map(len, pieces))
            transport.writelines(pieces)

    def _count_unfinished(self, reserved: int) -> None:
        """Takes note of how much memory is held for an unfinished frame; ends the conversation if all hold too much."""
        before, self._reserved = self._reserved, reserved
        if not self._unfinished.change(before, reserved):
            limit = self._limits.unfinished_bytes_max
            text = f"frames that have not come whole hold over {limit} bytes, which is the limit for all connections"
            self._session.close("unavailable", text)

    def _welcomed(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._log = self._log.bind(client=self._session.name) if self._session.name else self._log
        self._log.debug("connection_opened")
        self._number = self._pump.attach(self, self._session.producer, self._session.owner, self._session.name)
        self._watch_silence()
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is not None and not self._session.listens:
            keep_alive(sock)

    def _login_missed(self) -> None:
        self.close("unauthenticated", f"no HELLO came within {self._limits.login_ms} ms")

    def _watch_silence(self) -> None:
        """Closes the connection after two heartbeat intervals without a byte; looks again when one could be over."""
        if not self._session.heartbeat_ms or self._session.phase != OPEN:
            return
        allowed = 2 * self._session.heartbeat_ms / 1000
        silent = self._loop.time() - self._heard_at
        if silent >= allowed and not self._full and not self._held:
            self._log.info("connection_silent", silent_s=round(silent, 1))
            self.close("unavailable", f"nothing came for {round(silent, 1)} s, which is two heartbeat intervals")
            return
        self._deadline = self._loop.call_later(max(allowed - silent, allowed / 4), self._watch_silence)

    def _watch_writing(self) -> None:
        """Aborts the connection when the client has taken nothing for as long as is allowed."""
        if self._transport is None or not self._session.listens:
            return
        unwritten = self._transport.get_write_buffer_size()
        taken = self._written - unwritten  # not what waits: that may grow although the client reads
        if self._write_deadline is not None and taken <= self._taken:
            self._log.warning("client_reads_nothing", waiting_bytes=unwritten)
            self._transport.abort()
            return
        self._taken = taken
        self._write_deadline = self._loop.call_later(self._limits.write_deadline_ms / 1000, self._watch_writing)

    def _set_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._full or self._held:
            if transport.is_reading():
                transport.pause_reading()
        elif not transport.is_reading():
            self._heard_at = self._loop.time()  # it could not be heard while nothing was read
            transport.resume_reading()

    def _detach(self) -> None:
        self._unfinished.change(self._reserved, 0)
        self._reserved = 0
        if self._number:
            number, self._number = self._number, 0
            self._pump.detach(number, resumes=self._session.may_resume)

    def _end(self) -> None:
        """Gives up what the client holds, closes the socket once all is written, and aborts it if that takes long."""
        self._detach()  # also from a socket that is closing: before its loss is told, its client may have come back
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        code, text = self._session.reason
        if code not in {"", "draining"}:
            self._log.info("connection_refused", code=code, text=text)
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(CLOSE_S, transport.abort)
        transport.close()


def keep_alive(sock: socket.socket) -> None:
    """Has the system look whether the other end's machine is still there, for who answers no PING."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEP_ALIVE.items():
        if hasattr(socket, option):  # elsewhere the system's own figures hold
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _address(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)
