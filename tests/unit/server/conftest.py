"""Connections whose loop, transport and pump are the test's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from fakes import FakeLoop, FakeTransport
from wherry.model import commands
from wherry.wire import codec
from wherry.wire.framing import FrameReader
from wherry_broker.server.connection import Connection
from wherry_broker.server.limits import Limits, Unfinished
from wherry_broker.server.session import Session

HELLO = commands.Hello("wherry", 1, 1, "", "tester", 60_000)


class FakePump:
    """Notes what it is asked for, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.attached: dict[int, Connection] = {}

    def attach(self, client: Connection, producer: str = "", owner: str = "", name: str = "") -> int:
        number = 100 + len(self.calls)
        self.calls.append(("attach",))
        self.attached[number] = client
        return number

    def detach(self, number: int, *, resumes: bool = False) -> None:
        del self.attached[number]
        self.calls.append(("detach", resumes))

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
        self.unfinished = Unfinished(self.limits.unfinished_bytes_max)
        self.connection = Connection(
            self.session, self.pump, self.limits, self.unfinished, log, lambda _: refused, self.gone.append
        )
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
