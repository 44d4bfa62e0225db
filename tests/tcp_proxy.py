"""A TCP proxy that does to a connection what networks do: it cuts, stalls, delays, and drips bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

READ_BYTES = 65_536
LIMIT_BYTES = 262_144
"""How much waits in the proxy each way before it reads no more."""


class TcpProxy:
    """Carries connections to a broker.

    Args:
        host: of the broker.
        port: of the broker.

    Attributes:
        url: where the proxy is.
        connected: how many connections were made through it.
        delay_s: how long every piece of bytes takes each way.
        drip_bytes: how many bytes are passed on at a time; 0 for as many as come.
        refuses: whether new connections are closed at once.
    """

    def __init__(self, host: str, port: int) -> None:
        self.url = ""
        self.connected = 0
        self.delay_s = 0.0
        self.drip_bytes = 0
        self.refuses = False
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._pipes: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=LIMIT_BYTES)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"wherry://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.refuses = True
        self.cut()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._pipes)

    def cut(self) -> int:
        """Cuts all connections, whatever is on its way; returns how many there were."""
        pipes = dict(self._pipes)
        for task, writers in pipes.items():
            for writer in writers:
                writer.transport.abort()
            task.cancel()
        return len(pipes)

    def stall(self) -> None:
        """Lets nothing through any more, and closes nothing: the other end seems to be silent."""
        self._flows.clear()

    def flow(self) -> None:
        """Lets everything through again."""
        self._flows.set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target, limit=LIMIT_BYTES)
        except OSError:
            writer.transport.abort()
            return
        self.connected += 1
        task = asyncio.current_task()
        assert task is not None
        self._pipes[task] = (writer, far_writer)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, far_writer))
                both.create_task(self._carry(far_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass  # one end has gone, or was cut off: so is the other
        finally:
            del self._pipes[task]
            writer.transport.abort()
            far_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(self.drip_bytes or READ_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
