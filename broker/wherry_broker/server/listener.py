"""The listener: accepts connections, counts them, and closes them when the broker ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wherry.wire.framing import SCRATCH_BYTES
from wherry_broker.server.connection import Connection
from wherry_broker.server.limits import Unfinished
from wherry_broker.server.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from wherry_broker.server.auth import TokenAuth
    from wherry_broker.server.limits import Limits
    from wherry_broker.server.pump import Pump

BACKLOG = 4096


class Listener:
    """A listening socket and the connections that came by it.

    Args:
        pump: where commands go.
        auth: who may come in.
        limits: the limits of connections.
        epoch: the log's epoch.
        server: the broker's name and version.
        log: where events are told.
        loop: the event loop; the running one when not given.
    """

    def __init__(
        self,
        pump: Pump,
        auth: TokenAuth,
        limits: Limits,
        epoch: int,
        server: str,
        log: FilteringBoundLogger,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._pump = pump
        self._auth = auth
        self._limits = limits
        self._epoch = epoch
        self._server_name = server
        self._log = log
        self._loop = loop
        # One receive buffer for all: the event loop fills it and hands it over in one step.
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._unfinished = Unfinished(limits.unfinished_bytes_max)
        self._connections: dict[Connection, None] = {}
        self._server: asyncio.Server | None = None
        self._empty: Callable[[], None] | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Begins to accept.

        Returns:
            The address that is listened on; port 0 was replaced by a free one.

        Raises:
            OSError: the address is taken, or is none of this machine.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.accept, host, port, backlog=BACKLOG)
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    def accept(self) -> Connection:
        """Makes the protocol of a new connection."""
        session = Session(self._epoch, self._server_name, self._auth.accepts, self._limits, self._scratch)
        opened, closed = self._opened, self._closed
        return Connection(session, self._pump, self._limits, self._unfinished, self._log, opened, closed, self._loop)

    def stop_accepting(self) -> None:
        """Accepts no more; open connections go on."""
        if self._server is not None:
            self._server.close()

    async def close(self, code: str, text: str) -> None:
        """Says GOODBYE to all connections, and waits until they are gone."""
        done = asyncio.Event()
        self._empty = done.set
        for connection in list(self._connections):
            connection.close(code, text)
        if self._connections:
            await done.wait()

    def _opened(self, connection: Connection) -> str:
        self._connections[connection] = None
        if self._empty is not None:
            return "the broker is shutting down"  # it was accepted before, and is heard of only now
        if len(self._connections) > self._limits.connections_max:
            return f"there are {self._limits.connections_max} connections, which is the limit"
        return ""

    def _closed(self, connection: Connection) -> None:
        del self._connections[connection]
        if not self._connections and self._empty is not None:
            self._empty()
