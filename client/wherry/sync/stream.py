"""A socket that never blocks, and what waits to be written to it."""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Stream:
    """A connected TCP socket that threads share.

    All but `wait` is called by one thread at a time. A thread that waits does so between `enter` and `leave`, so that
    the system gives the socket's number to nobody else meanwhile.

    Args:
        sock: the socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._unsent: deque[memoryview] = deque()
        self._inside = 0
        self._ended = False

    @classmethod
    def dial(cls, host: str, port: int, timeout: float) -> Stream:
        """Connects.

        Args:
            host: its name or address.
            port: its port.
            timeout: how long that may take, in seconds.

        Raises:
            OSError: it cannot be reached; a TimeoutError when the time is over.
        """
        return cls(socket.create_connection((host, port), timeout))

    @property
    def unsent(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._unsent)

    def read(self, buffer: memoryview) -> int | None:
        """Reads what is there into the buffer.

        Returns:
            How many bytes; 0 when the other end has closed, and None when there are none now.

        Raises:
            OSError: the connection is lost.
        """
        try:
            return self._sock.recv_into(buffer)
        except BlockingIOError:
            return None

    def write(self, pieces: Sequence[bytes]) -> None:
        """Writes as much as there is room for; the rest stays `unsent`.

        Args:
            pieces: what comes after that which is unsent; may be empty.

        Raises:
            OSError: the connection is lost.
        """
        if pieces:
            self._unsent.append(memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces)))
        while self._unsent:
            piece = self._unsent[0]
            try:
                sent = self._sock.send(piece)
            except BlockingIOError:
                return
            if sent < len(piece):
                self._unsent[0] = piece[sent:]
            else:
                self._unsent.popleft()

    def enter(self) -> None:
        """A thread begins to wait."""
        self._inside += 1

    def leave(self) -> None:
        """It waits no more."""
        self._inside -= 1
        self._close_ended()

    def wait(self, timeout: float, *, read: bool, write: bool) -> None:
        """Returns when there is something to read, or room to write, as asked, or when the time is over.

        Args:
            timeout: how long to wait, in seconds.
            read: whether to wait for something to read.
            write: whether to wait for room to write.
        """
        poll = select.poll()  # one for each call: it serves one thread at a time, and gevent replaces the class
        poll.register(self._sock.fileno(), (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        # Rounded up, so that no deadline is found to be not quite over, and waited for again and again.
        poll.poll(int(timeout * 1000) + 1 if timeout > 0 else 0)

    def end(self) -> None:
        """Ends the connection, wakes those who wait, and closes the socket once they have left."""
        if not self._ended:
            self._ended = True
            with contextlib.suppress(OSError):  # it is over already
                self._sock.shutdown(socket.SHUT_RDWR)
            self._close_ended()

    def forsake(self) -> None:
        """Closes the socket in this process; another one that has it goes on with it."""
        self._ended = True
        self._sock.close()

    def _close_ended(self) -> None:
        if self._ended and not self._inside:
            self._unsent.clear()
            self._sock.close()
