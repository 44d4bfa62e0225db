"""Standard input and output without blocking the event loop, so that heartbeats, leases and signals go on.

A pipe or a terminal is waited for; a regular file is read and written as it is, since no system can say when one
would block.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from typing import TYPE_CHECKING, Any

from wherry_broker.cli.root import fail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from wherry_broker.cli.remote import Stop

READ_BYTES = 262_144
WRITE_BYTES = 1_048_576
BODY_BYTES_MAX = 1 << 30
"""The longest body read; the longest frame that any broker can be set to take."""


class Input:
    """What comes in by a file descriptor.

    Args:
        descriptor: where to read.
        stop: ends the input early.
    """

    def __init__(self, descriptor: int, stop: Stop) -> None:
        self._descriptor = descriptor
        self._stop = stop
        self._waits = _can_be_waited_for(descriptor)

    async def read(self) -> bytes:
        """What is there, once something is; b"" at the end, or when stopped."""
        if self._stop.done():
            return b""
        if self._waits and not _is_ready(self._descriptor, select.POLLIN):
            loop = asyncio.get_running_loop()
            await _wait(self._descriptor, loop.add_reader, loop.remove_reader, self._stop)
            if self._stop.done():
                return b""
        return os.read(self._descriptor, READ_BYTES)

    async def pieces(self, separator: bytes) -> AsyncIterator[list[bytes]]:
        """All that lies between separators, in lists of what has come together; what follows the last one, too.

        Raises:
            Failure: a piece is longer than any message can be.
        """
        rest = bytearray()
        while data := await self.read():
            *pieces, last = data.split(separator)
            if pieces:
                pieces[0] = bytes(rest) + pieces[0]
                rest.clear()
                yield pieces
            rest += last
            if len(rest) > BODY_BYTES_MAX:
                fail(f"a piece of the input is longer than {BODY_BYTES_MAX} bytes, which no message can be")
        if rest and not self._stop.done():
            yield [bytes(rest)]


class Output:
    """Where bytes go.

    Args:
        descriptor: where to write.
        stop: ends waiting for a reader that takes nothing.
    """

    def __init__(self, descriptor: int, stop: Stop) -> None:
        self._descriptor = descriptor
        self._stop = stop
        self._waits = _can_be_waited_for(descriptor)
        # A pipe that can be written to has room for PIPE_BUF bytes; for more, a write would wait.
        self._step_bytes = select.PIPE_BUF if self._waits else WRITE_BYTES

    async def write(self, data: bytes) -> int:
        """Writes all, or as much as was taken when the command was stopped.

        Returns:
            How many bytes were written.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        view, written = memoryview(data), 0
        while written < len(view):
            if self._waits and not _is_ready(self._descriptor, select.POLLOUT):
                if self._stop.done():
                    return written
                loop = asyncio.get_running_loop()
                await _wait(self._descriptor, loop.add_writer, loop.remove_writer, self._stop)
                continue
            written += os.write(self._descriptor, view[written : written + self._step_bytes])
        return written

    def watch_reader(self, gone: Callable[[], None]) -> Callable[[], None]:
        """Calls `gone` when the reader of a pipe goes away, even while there is nothing to write.

        Returns:
            What ends watching.
        """
        if not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            return lambda: None
        loop = asyncio.get_running_loop()

        def unwatch() -> None:
            loop.remove_reader(self._descriptor)

        def fired() -> None:
            unwatch()
            gone()

        loop.add_reader(self._descriptor, fired)
        return unwatch


def _can_be_waited_for(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def _is_ready(descriptor: int, event: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(0))


async def _wait(
    descriptor: int, add: Callable[[int, Callable[[], None]], object], remove: Callable[[int], object], stop: Stop
) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fired() -> None:
        if not ready.done():
            ready.set_result(None)

    add(descriptor, fired)
    try:
        either: set[asyncio.Future[Any]] = {ready, stop}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        remove(descriptor)
        ready.cancel()
