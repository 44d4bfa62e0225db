"""Standard input and output without blocking the event loop, so that heartbeats, leases and signals go on.

A pipe or a terminal is waited for; a regular file is read and written as it is, since no system can say when one
would block.
"""

from __future__ import annotations

import asyncio
import bisect
import fcntl
import os
import select
import stat
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from wherry_broker.cli.root import Exit, fail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from wherry_broker.cli.remote import Stop

READ_BYTES = 262_144
WRITE_BYTES = 1_048_576
ONE_BY_ONE = 1_000
"""How many messages go into a pipe one by one, before several go together."""
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
        """What is there, once something is; b"" at the end, or when stopped.

        Raises:
            Failure: it cannot be read.
        """
        if self._stop.done():
            return b""
        if self._waits and not _events(self._descriptor, select.POLLIN):
            loop = asyncio.get_running_loop()
            await _wait(self._descriptor, loop.add_reader, loop.remove_reader, self._stop)
            if self._stop.done():
                return b""
        try:
            return os.read(self._descriptor, READ_BYTES)
        except OSError as error:
            fail(f"standard input cannot be read: {error.strerror}", Exit.IO_FAILED)

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
    """Where messages go.

    What stands in a pipe when its reader ends is lost, as with `| head -n 1`. So a pipe is made one page small: then
    Linux calls it writable when it is empty, and only then, since a page that holds anything is taken (pipe_poll in
    fs/pipe.c). That tells what the reader has taken, and so what may be acknowledged. The first messages go one by one,
    so that a reader of few takes no more of them than it wants.

    Args:
        descriptor: where to write.
        stop: ends waiting for a reader that takes nothing.
        ended: called when nothing more can be written: with None when nobody reads any more, else with the error.
        patience_s: after how long a reader that takes nothing gets as much as the pipe holds, since it may be one that
            waits for the end of this command; None when there will be no end. In seconds.
    """

    def __init__(
        self, descriptor: int, stop: Stop, ended: Callable[[OSError | None], None], patience_s: float | None
    ) -> None:
        self._descriptor = descriptor
        self._stop = stop
        self._ended = ended
        self._patience_s = patience_s
        self._waits = _can_be_waited_for(descriptor)
        # A pipe that can be written to has room for PIPE_BUF bytes; for more, a write would wait.
        self._step_bytes = select.PIPE_BUF if self._waits else WRITE_BYTES
        self._one_by_one = ONE_BY_ONE
        self._pipe_bytes = _shrink(descriptor)
        self._ends: list[int] = []
        self._done = self._begun = self._end = 0

    async def write(self, pieces: Sequence[bytes]) -> int:
        """Writes all pieces, or as many as were taken until the command was stopped or nobody read any more.

        Returns:
            How many pieces were written whole; where that can be told, how many the reader has taken.
        """
        ends = self._ends = list(accumulate(map(len, pieces)))
        view = memoryview(b"".join(pieces))
        self._done, self._begun, self._end = 0, 0, len(view)
        while self._done < self._end and await self._ready():
            step = view[self._done : min(self._step(self._done, ends), self._end)]
            try:
                written = os.write(self._descriptor, step)
            except OSError as error:
                self._ended(None if isinstance(error, BrokenPipeError) else error)
                break
            self._begun = self._done + written
            if self._pipe_bytes and not await self._ready():
                break
            self._done += written
        return bisect.bisect_right(ends, self._done)

    def cut(self) -> int:
        """Has `write` write no piece that is not begun yet, and return at once when there is none.

        Returns:
            How many pieces are begun.
        """
        begun = bisect.bisect_left(self._ends, self._begun) + 1 if self._begun else 0
        self._end = self._ends[begun - 1] if begun else 0
        if self._done >= self._end:
            self._ended(None)
        return begun

    def watch(self) -> None:
        """Notices when the reader of a pipe goes away, even while there is nothing to write."""
        if stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            asyncio.get_running_loop().add_reader(self._descriptor, self._nobody_reads)

    def close(self) -> None:
        """Ends watching, and leaves a pipe as it was."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._enlarge()

    async def _ready(self) -> bool:
        """Waits until there is room for more; False when there will be none, or the command was stopped."""
        while self._waits:
            events = _events(self._descriptor, select.POLLOUT)
            if events & select.POLLOUT:
                return True
            if events:
                self._nobody_reads()
            if events or self._stop.done():
                return False
            loop = asyncio.get_running_loop()
            patience_s = self._patience_s if self._pipe_bytes else None
            if not await _wait(self._descriptor, loop.add_writer, loop.remove_writer, self._stop, patience_s):
                self._enlarge()
        return True

    def _step(self, done: int, ends: list[int]) -> int:
        """Up to where to write next."""
        limit = done + self._step_bytes
        if not self._pipe_bytes:
            return limit
        first = bisect.bisect_right(ends, done)
        if self._one_by_one:
            self._one_by_one -= 1
            return min(ends[first], limit)
        last = bisect.bisect_right(ends, limit) - 1
        return ends[last] if last >= first else limit

    def _nobody_reads(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._ended(None)

    def _enlarge(self) -> None:
        """From now on, what is written counts as taken."""
        if self._pipe_bytes:
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, self._pipe_bytes)
            self._pipe_bytes = 0


def _shrink(descriptor: int) -> int:
    """Makes a pipe one page small; returns how large it was, or 0 where that is no pipe, or cannot be done."""
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode) or not hasattr(fcntl, "F_SETPIPE_SZ"):
        return 0
    try:
        before: int = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    except OSError:  # as when it holds more already
        return 0
    return before


def _can_be_waited_for(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def _events(descriptor: int, wanted: int) -> int:
    """What `poll` says of a file descriptor at this moment."""
    poll = select.poll()
    poll.register(descriptor, wanted)
    return sum(events for _, events in poll.poll(0))


async def _wait(
    descriptor: int,
    add: Callable[[int, Callable[[], None]], object],
    remove: Callable[[int], object],
    stop: Stop,
    timeout_s: float | None = None,
) -> bool:
    """Waits until something may be done, or the command was stopped; False when the time was over."""
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fired() -> None:
        if not ready.done():
            ready.set_result(None)

    add(descriptor, fired)
    try:
        either: set[asyncio.Future[Any]] = {ready, stop}
        done, _ = await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        remove(descriptor)
        ready.cancel()
    return bool(done)
