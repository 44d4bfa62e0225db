"""Two transports that are the ends of one connection within a process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry_broker.testing.loop import VirtualLoop


class LocalTransport(asyncio.Transport):
    """One end: what is written here is read by the protocol at the other end, in the next turn of the event loop.

    It holds back and calls back as that of a socket does, so that both protocols run as they are.

    Args:
        loop: the event loop.
        protocol: the protocol at this end.
    """

    def __init__(self, loop: VirtualLoop, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._peer = self
        self._waiting = bytearray()
        self._high, self._low = 65_536, 16_384
        self._full = self._reading_paused = self._closing = self._lost = self._ended = False

    def join(self, peer: Self) -> None:
        """Makes this and another one the ends of a connection."""
        self._peer, peer._peer = peer, self

    # What protocols ask for.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The peer's name, for logs; nothing else is known."""
        return ("local", id(self._peer)) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Sets at how many waiting bytes writing is paused, and at how many it goes on."""
        self._high = self._high if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """How many bytes wait."""
        return len(self._waiting)

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether what comes is handed to the protocol."""
        return not self._reading_paused

    def pause_reading(self) -> None:
        """Leaves what comes with the other end."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """Takes it again."""
        self._reading_paused = False
        self._peer._carry_soon()  # noqa: SLF001 (the other end of the same)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends bytes."""
        if self._closing:
            return
        self._waiting += data
        self._carry_soon()
        if len(self._waiting) > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Sends bytes."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Sends what waits, then ends."""
        if not self._closing:
            self._closing = True
            self._carry_soon()

    def abort(self) -> None:
        """Ends."""
        self._closing = True
        self._waiting.clear()
        self._carry_soon()

    # Inside.

    def _carry_soon(self) -> None:
        if not self._ended:
            self._loop.call_soon(self._carry)

    def _carry(self) -> None:
        """Hands what waits to the other end, as far as it reads."""
        peer = self._peer
        while self._waiting and not peer._reading_paused and not peer._lost:  # noqa: SLF001
            buffer = memoryview(peer._protocol.get_buffer(-1))  # noqa: SLF001
            size = min(len(buffer), len(self._waiting))
            buffer[:size] = self._waiting[:size]
            del self._waiting[:size]
            peer._protocol.buffer_updated(size)  # noqa: SLF001
        if peer._lost:  # noqa: SLF001 (nobody reads any more)
            self._waiting.clear()
        if self._full and len(self._waiting) <= self._low:
            self._full = False
            self._protocol.resume_writing()
        if self._closing and not self._waiting:
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = self._lost = True
            self._protocol.connection_lost(None)
            self._peer._hear_end()  # noqa: SLF001

    def _hear_end(self) -> None:
        """The other end has gone."""
        if not self._lost and not self._protocol.eof_received():
            self.close()
