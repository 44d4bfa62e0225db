"""A loop, a transport and a pump that do nothing by themselves, so that a test owns the time and the other end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from wherry.model import commands
from wherry.wire import codec
from wherry.wire.framing import FrameReader
from wherry_broker.server.connection import Connection
from wherry_broker.server.limits import Limits
from wherry_broker.server.session import Session

HELLO = commands.Hello("wherry", 1, 1, "", "tester", 0)


class FakeTimer:
    """What `call_later` returns."""

    def __init__(self, at: float, call) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """An event loop whose time stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[FakeTimer] = []
        self._soon: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call, *arguments) -> FakeTimer:
        timer = FakeTimer(self.now + delay, lambda: call(*arguments))
        self._timers.append(timer)
        return timer

    def call_soon(self, call, *arguments) -> None:
        self._soon.append(lambda: call(*arguments))

    @property
    def timers(self) -> list[FakeTimer]:
        """Those that still run, the earliest first."""
        self._timers = sorted((each for each in self._timers if not each.cancelled), key=lambda each: each.at)
        return self._timers

    def turn(self) -> None:
        """Runs what was asked for with `call_soon`, and what that asks for."""
        while self._soon:
            soon, self._soon = self._soon, []
            for call in soon:
                call()

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.turn()
        end = self.now + seconds
        while (timers := self.timers) and timers[0].at <= end + 1e-9:
            timer = self._timers.pop(0)
            self.now = max(self.now, timer.at)
            timer.call()
            self.turn()
        self.now = end


class FakeTransport:
    """The broker's end of a socket; `reads` is whether the client takes what is written to it."""

    def __init__(self, loop: FakeLoop) -> None:
        self._loop = loop
        self.protocol: Connection | None = None
        self.written = bytearray()
        self.waiting = 0
        self.reads = True
        self.paused = self.closing = self.reading_paused = self.aborted = False
        self.high = self.low = 0

    def get_extra_info(self, name: str):
        return ("192.0.2.7", 4711) if name == "peername" else None

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self.high, self.low = high, low

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return not self.reading_paused

    def pause_reading(self) -> None:
        assert not self.closing
        self.reading_paused = True

    def resume_reading(self) -> None:
        assert not self.closing
        self.reading_paused = False

    def write(self, data: bytes) -> None:
        if self.closing:
            raise RuntimeError("uvloop raises it for a handler that is closed")
        self.written += data
        if self.reads:
            return
        self.waiting += len(data)
        if self.waiting > self.high and not self.paused:
            self.paused = True
            self.protocol.pause_writing()

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def take(self, size: int) -> None:
        """The client takes some of what waits."""
        self.waiting -= min(size, self.waiting)
        if self.paused and self.waiting <= self.low:
            self.paused = False
            self.protocol.resume_writing()
        if self.closing and not self.waiting:
            self._lose()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.waiting:
                self._lose()

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.waiting = 0
        self._lose()

    def _lose(self) -> None:
        self._loop.call_soon(self.protocol.connection_lost, None)


class FakePump:
    """Notes what it is asked for, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.attached: dict[int, Connection] = {}

    def attach(self, client: Connection) -> int:
        number = 100 + len(self.calls)
        self.calls.append(("attach",))
        self.attached[number] = client
        return number

    def detach(self, number: int) -> None:
        del self.attached[number]
        self.calls.append(("detach",))

    def submit(self, number: int, given: list[Any]) -> None:
        assert number in self.attached
        self.calls.append(("submit", *given))

    def make_room(self, number: int) -> None:
        assert number in self.attached
        self.calls.append(("make_room",))


class Line:
    """A connection with all its ends in the hands of a test."""

    def __init__(self, loop: FakeLoop, *, refused: str = "", **limits: int) -> None:
        self.loop = loop
        self.limits = Limits(**limits)
        self.pump = FakePump()
        self.transport = FakeTransport(loop)
        self.logged = structlog.testing.LogCapture()
        self.gone: list[Connection] = []
        log = structlog.wrap_logger(None, processors=[self.logged], wrapper_class=structlog.stdlib.BoundLogger)
        self.session = Session(3, "wherry/test", lambda token: not token, self.limits)
        self.connection = Connection(self.session, self.pump, self.limits, log, lambda _: refused, self.gone.append)
        self.transport.protocol = self.connection
        self._heard = FrameReader(1 << 30)
        self.connection.connection_made(self.transport)

    def feed(self, data: bytes) -> None:
        """Bytes come, as the event loop brings them."""
        while data and not self.transport.closing:
            buffer = self.connection.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            self.connection.buffer_updated(size)

    def say(self, *messages) -> None:
        self.feed(b"".join(codec.encode(message) for message in messages))

    def heard(self) -> list[Any]:
        """What has been written since it was asked last, taken or not."""
        data, self.transport.written = bytes(self.transport.written), bytearray()
        return [codec.decode(frame) for frame in self._heard.feed(data)]

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.logged.entries]


@pytest.fixture
def loop(monkeypatch) -> FakeLoop:
    loop = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


@pytest.fixture
def pump() -> FakePump:
    return FakePump()


@pytest.fixture
def transport_of(loop):
    """Makes a transport for a connection."""

    def make(connection: Connection) -> FakeTransport:
        transport = FakeTransport(loop)
        transport.protocol = connection
        return transport

    return make


@pytest.fixture
def line(loop):
    """Makes a connection that has said nothing yet."""
    return lambda **more: Line(loop, **more)


@pytest.fixture
def opened(line):
    """Makes a connection that has been welcomed."""

    def make(heartbeat_ms: int = 0, **more) -> Line:
        made = line(heartbeat_ms=heartbeat_ms, **more)
        made.say(HELLO)
        made.heard()
        return made

    return make
