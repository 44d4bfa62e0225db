"""The load of scaling.py: any number of producers, consumers and queues, in one process that does as little as it can.

    crew.py ADDRESS CREW

CREW is JSON; see `Crew`. The connections speak frames by the codec alone, so that it is the broker that has to work.
It prints a line once `queued` messages are stored, waits for a line, keeps messages moving for some seconds until
as many as it published then are settled, and prints how many those were.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, cast

import uvloop

from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry.wire import codec
from wherry.wire.framing import FRAME_BYTES_MAX, SCRATCH_BYTES, FrameReader

if TYPE_CHECKING:
    from collections.abc import Callable

CREDIT = 4_000
OPENING = 500
"""How many connections are opened, or queues declared, at a time."""
NEXT_QUEUE = 2
"""A producer publishes so many batches to a queue before it turns to the next: as many as are in flight at least."""


@dataclass(frozen=True)
class Crew:
    """Who does what.

    Attributes:
        producers: how many connections publish, each in its turn.
        consumers: how many connections consume, each from an equal share of the queues, and at least from one.
        queues: how many queues are used.
        declared: how many more are there.
        size: the bytes of a body.
        batch: how many messages a PUBLISH has.
        queued: how many messages wait in the first queue all the time.
        flight: how many messages at most are published and not settled; at least two batches in any case.
        seconds: how long it goes on.
    """

    producers: int = 1
    consumers: int = 1
    queues: int = 1
    declared: int = 0
    size: int = 100
    batch: int = 100
    queued: int = 0
    flight: int = 2_000
    seconds: float = 1.0


class Line(asyncio.BufferedProtocol):
    """One connection.

    Args:
        scratch: the receive buffer of all.
        heard: called with each message and this line.
    """

    def __init__(self, scratch: memoryview, heard: Callable[[Any, Line], None]) -> None:
        self._reader = FrameReader(FRAME_BYTES_MAX, scratch)
        self._heard = heard
        self._transport: asyncio.Transport | None = None
        self.granted: dict[int, int] = {}
        self.taken: dict[int, int] = {}
        self.queues: dict[int, str] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.Transport", transport)
        self.say(commands.Hello("wherry", 1, 1, "", "crew", 0))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the reader knows better)
        """Where the event loop puts the next bytes."""
        return self._reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        for frame in self._reader.received(nbytes):
            self._heard(codec.decode(frame), self)

    def say(self, message: Any) -> None:
        """Sends a message."""
        self.write(codec.encode(message))

    def write(self, data: bytes) -> None:
        """Sends frames."""
        assert self._transport is not None
        self._transport.write(data)


class Work:
    """All of it.

    Args:
        address: HOST:PORT.
        crew: who does what.
    """

    def __init__(self, address: str, crew: Crew) -> None:
        self._address = address
        self._crew = crew
        self._names = [f"q{number}" for number in range(crew.queues)]
        self._lengths = crew.size.to_bytes(4, "big") * crew.batch
        self._block = bytes(crew.size * crew.batch)
        self._flight = max(crew.flight, 2 * crew.batch)
        self._request = 0
        self._settles: dict[int, int] = {}
        self._epoch = 0
        self._end = 0.0
        self._done = asyncio.Event()
        self.published = self.confirmed = self.settled = 0

    async def run(self) -> None:
        """Does it, and prints what there is to print."""
        crew = self._crew
        self._producers = await self._open(crew.producers)
        await self._declare(crew.declared)
        await self._fill(crew.queued)
        consumers = await self._open(crew.consumers)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        begin = time.monotonic()
        self._end = begin + crew.seconds
        self._turns = zip(cycle(self._producers), cycle(self._queues()), strict=False)
        self._consume(consumers)
        self._publish()
        await self._done.wait()
        wall = time.monotonic() - begin
        print(json.dumps({"count": self.settled, "wall_s": wall, "cpu_s": time.process_time()}), flush=True)

    async def _open(self, count: int) -> list[Line]:
        host, _, port = self._address.rpartition(":")
        loop, scratch = asyncio.get_running_loop(), memoryview(bytearray(SCRATCH_BYTES))
        lines: list[Line] = []
        while len(lines) < count:
            some = [
                loop.create_connection(lambda: Line(scratch, self._heard), host, int(port))
                for _ in range(min(OPENING, count - len(lines)))
            ]
            lines += [line for _, line in await asyncio.gather(*some)]
        return lines

    async def _declare(self, count: int) -> None:
        for number in range(count):
            self._producers[0].say(commands.Declare(self._next(), f"unused{number}", {}))
            if number % OPENING == 0:
                await asyncio.sleep(0)
        await self._answered()

    async def _answered(self) -> None:
        """Everything that was said before is answered: of one connection, in order."""
        self._answer = asyncio.get_running_loop().create_future()
        self._producers[0].say(commands.Ping(7))
        await self._answer

    async def _fill(self, count: int) -> None:
        while self.published < count:
            self._send(self._producers[0], self._names[0])
            if self.published - self.confirmed > 20 * self._flight:
                await self._answered()
        while self.confirmed < self.published:
            await self._answered()
        self.published = 0

    def _queues(self) -> list[str]:
        return [name for name in self._names for _ in range(NEXT_QUEUE)] if len(self._names) > 1 else self._names

    def _consume(self, lines: list[Line]) -> None:
        for number in range(max(len(lines), len(self._names))):
            line = lines[number % len(lines)]
            queue, credit = self._names[number % len(self._names)], max(CREDIT, 2 * self._crew.batch)
            line.queues[number], line.granted[number], line.taken[number] = queue, credit, 0
            line.say(commands.Consume(self._next(), number, queue, credit))

    def _publish(self) -> None:
        batch = self._crew.batch
        while self.published - self.settled + batch <= self._flight and time.monotonic() < self._end:
            self._send(*next(self._turns))
        if self.settled >= self.published and time.monotonic() >= self._end:
            self._done.set()

    def _send(self, line: Line, queue: str) -> None:
        line.write(codec.encode(commands.Publish(self._next(), queue, self._lengths, block=self._block)))
        self.published += self._crew.batch

    def _next(self) -> int:
        self._request += 1
        return self._request

    def _heard(self, message: Any, line: Line) -> None:
        kind = type(message)
        if kind is replies.Deliver:
            self._deliver(message, line)
        elif kind is replies.Settled:
            for request, stale, *_ in message.settles:
                assert not stale, message
                self.settled += self._settles.pop(request)
            self._publish()
        elif kind is replies.Confirm:
            self.confirmed += len(message.confirms) * self._crew.batch
        elif kind is replies.Pong:
            self._answer.set_result(None)
        elif kind is replies.Welcome:
            self._epoch = message.epoch
        elif kind in {replies.Error, replies.Stopped, commands.Goodbye}:
            raise RuntimeError(f"the broker says {message}")

    def _deliver(self, deliver: replies.Deliver, line: Line) -> None:
        number, request = deliver.consumer, self._next()
        count = sum(row[1] for row in deliver.spans)
        self._settles[request] = count
        rows = tuple(row[:3] for row in deliver.spans)
        line.say(commands.Settle(request, line.queues[number], Verb.ACK, self._epoch, cast("Any", rows)))
        line.taken[number] += count
        if line.granted[number] - line.taken[number] < max(CREDIT // 2, self._crew.batch):
            line.granted[number] = line.taken[number] + max(CREDIT, 2 * self._crew.batch)
            line.say(commands.Credit(number, line.granted[number]))


if __name__ == "__main__":
    uvloop.run(Work(sys.argv[1], Crew(**json.loads(sys.argv[2]))).run())
