"""Many connections that are open and do nothing: what they cost a server is its memory, and that is what is asked here.

They are bare sockets, so that ten thousand of them cost this process next to nothing. Both ends may be of any peer: a
greeting tells what a client of it says first.
"""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from wherry.model import commands, replies
from wherry.wire import codec
from wherry.wire.framing import FrameReader

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_BYTES = 65_536
ANSWER_S = 30
SPARE_FILES = 200
"""What a process has open beside its connections."""


class Greeting:
    """What a client of wherry says first.

    Args:
        heartbeat_ms: the interval that it asks for; one that says nothing for two of them is closed.
        producer: how its producer id begins; "" for a client that does not come back.
    """

    def __init__(self, heartbeat_ms: int = 0, producer: str = "") -> None:
        self._heartbeat_ms = heartbeat_ms
        self._producer = producer
        self._number = 0

    def __call__(self, sock: socket.socket) -> None:
        """Says HELLO, and waits for WELCOME.

        Raises:
            RuntimeError: something else came.
        """
        self._number += 1
        producer = f"{self._producer}-{self._number}" if self._producer else ""
        sock.sendall(codec.encode(commands.Hello("wherry", 1, 1, "", "idle", self._heartbeat_ms, producer)))
        frames = FrameReader(ANSWER_BYTES, self._scratch).feed(sock.recv(ANSWER_BYTES))
        if not frames or not isinstance(codec.decode(frames[0]), replies.Welcome):
            raise RuntimeError(f"a connection was not welcomed: {frames}")

    _scratch = memoryview(bytearray(ANSWER_BYTES))


def greet_with(says: bytes) -> Callable[[socket.socket], None]:
    """A greeting of which it is enough that anything is answered, as PING is one for Redis."""

    def greet(sock: socket.socket) -> None:
        sock.sendall(says)
        if not sock.recv(ANSWER_BYTES):
            raise RuntimeError("a connection was closed")

    return greet


class Crowd:
    """Idle connections; open as long as this is entered.

    Args:
        address: HOST:PORT.
        count: how many there are; no more than `affordable`.
        greet: what is said on each, and waited for; wherry's HELLO when not given.
    """

    def __init__(self, address: str, count: int, greet: Callable[[socket.socket], None] | None = None) -> None:
        self._address = address
        self._count = count
        self._greet = greet or Greeting()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        host, _, port = self._address.rpartition(":")
        raise_open_files()
        with ExitStack() as opened:
            for _ in range(self._count):
                sock = opened.enter_context(socket.create_connection((host, int(port)), ANSWER_S))
                self._greet(sock)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def raise_open_files() -> int:
    """Allows this process as many open files as it may allow itself; returns how many that is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def affordable(wanted: int) -> int:
    """How many of so many connections this process may open."""
    return min(wanted, raise_open_files() - SPARE_FILES)
