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


def greet_wherry(sock: socket.socket) -> None:
    """Says HELLO without heartbeats, and waits for WELCOME.

    Raises:
        RuntimeError: something else came.
    """
    sock.sendall(codec.encode(commands.Hello("wherry", 1, 1, "", "idle", 0)))
    reader = FrameReader(ANSWER_BYTES)
    frames = reader.feed(sock.recv(ANSWER_BYTES))
    if not frames or not isinstance(codec.decode(frames[0]), replies.Welcome):
        raise RuntimeError(f"a connection was not welcomed: {frames}")


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
        greet: what is said on each, and waited for.
    """

    def __init__(self, address: str, count: int, greet: Callable[[socket.socket], None] = greet_wherry) -> None:
        self._address = address
        self._count = count
        self._greet = greet
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
