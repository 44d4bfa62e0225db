"""One socket of a link: it brings bytes, and tells when it is full and when it is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from wherry.aio.link import Link

WRITE_HIGH_BYTES = 4_194_304
WRITE_LOW_BYTES = 1_048_576


class Connection(asyncio.BufferedProtocol):
    """A socket. What its link does with it, or without it, is the link's affair.

    Args:
        link: whose socket it is; one that has another by now is told nothing more.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._transport = transport
        transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)
        self._link.connected(self, transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the reader knows better)
        """Where the event loop puts the next bytes."""
        return self._link.conversation.reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        if self._transport is self._link.transport:
            self._link.received(nbytes)

    def pause_writing(self) -> None:
        """Much waits to be written: publishers wait."""
        if self._transport is self._link.transport:
            self._link.hold_publishers()

    def resume_writing(self) -> None:
        """There is room again."""
        if self._transport is self._link.transport:
            self._link.release_publishers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self._transport is self._link.transport:
            self._link.lost(exc)
