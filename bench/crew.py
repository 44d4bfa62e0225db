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
    from collections.abc import Callable, Iterable

CREDIT = 4_000
OPENING = 500
"""How many connections are opened, queues declared or consumers attached at a time."""
FILLING = 200
"""How many publishes may be unconfirmed while the first queue is filled."""
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
        self._credit = max(CREDIT, 4 * crew.batch)
        self._open_requests: set[int | Line] = set()  # a HELLO has no number
        self._answer: asyncio.Future[None] | None = None
        self._but = 0
        self._request = 0
        self._settles: dict[int, int] = {}
        self._epoch = 0
        self._goes_on: Callable[[], bool] = bool
        self._done: asyncio.Future[None] | None = None
        self.published = self.settled = 0

    async def run(self) -> None:
        """Does it, and prints what there is to print."""
        crew = self._crew
        self._producers = await self._open(crew.producers)
        await self._declare(crew.declared)
        await self._fill(crew.queued)
        consumers = await self._open(crew.consumers)
        await self._attach(consumers)
        self._turns = zip(cycle(self._producers), cycle(self._queues()), strict=False)
        if not crew.queued:
            await self._move(self._first_time())
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        begin, before = time.monotonic(), self.settled
        if crew.queued:
            self._grant(consumers)
        await self._move(lambda: time.monotonic() < begin + crew.seconds)
        print(json.dumps({"count": self.settled - before, "wall_s": time.monotonic() - begin}), flush=True)

    def _first_time(self) -> Callable[[], bool]:
        """Lets all publish, to all queues: what a connection costs when it is used first is not what is asked."""
        count = self._crew.batch * max(len(self._producers), len(self._queues()))
        return lambda: self.published < count

    async def _move(self, goes_on: Callable[[], bool]) -> None:
        """Publishes while it goes on, and returns once as much is settled."""
        self._goes_on = goes_on
        done = self._done = asyncio.get_running_loop().create_future()
        self._publish()
        await done

    async def _open(self, count: int) -> list[Line]:
        host, _, port = self._address.rpartition(":")
        loop, scratch = asyncio.get_running_loop(), memoryview(bytearray(SCRATCH_BYTES))
        lines: list[Line] = []
        while len(lines) < count:
            some = [
                loop.create_connection(lambda: Line(scratch, self._heard), host, int(port))
                for _ in range(min(OPENING, count - len(lines)))
            ]
            opened = [line for _, line in await asyncio.gather(*some)]
            for line in opened:
                self._open_requests.add(line)
                line.say(commands.Hello("wherry", 1, 1, "", "crew", 0))
            await self._answered()
            lines += opened
        return lines

    async def _declare(self, count: int) -> None:
        for number in range(count):
            self._producers[0].say(commands.Declare(self._next(), f"unused{number}", {}))
            await self._answered(OPENING)
        await self._answered()

    async def _fill(self, count: int) -> None:
        while self.published < count:
            self._send(self._producers[0], self._names[0])
            await self._answered(FILLING)
        await self._answered()
        self.published = 0

    async def _attach(self, lines: list[Line]) -> None:
        """Attaches the consumers, which may take nothing yet if something is queued."""
        credit = 0 if self._crew.queued else self._credit
        for number in range(max(len(lines), len(self._names))):
            line, queue = lines[number % len(lines)], self._names[number % len(self._names)]
            line.queues[number], line.granted[number], line.taken[number] = queue, credit, 0
            line.say(commands.Consume(self._next(), number, queue, credit))
            await self._answered(OPENING)
        await self._answered()

    def _grant(self, lines: list[Line]) -> None:
        for line in lines:
            for number in line.queues:
                self._raise_credit(line, number)

    async def _answered(self, but: int = 0) -> None:
        """Waits until no more than so many requests have no answer."""
        if len(self._open_requests) > but:
            self._answer, self._but = asyncio.get_running_loop().create_future(), but
            await self._answer

    def _queues(self) -> list[str]:
        return [name for name in self._names for _ in range(NEXT_QUEUE)] if len(self._names) > 1 else self._names

    def _publish(self) -> None:
        batch = self._crew.batch
        while self.published - self.settled + batch <= self._flight and self._goes_on():
            self._send(*next(self._turns))
        if self.settled >= self.published and self._done is not None:  # if it went on, more would have been sent
            done, self._done = self._done, None
            done.set_result(None)

    def _send(self, line: Line, queue: str) -> None:
        line.write(codec.encode(commands.Publish(self._next(), queue, self._lengths, block=self._block)))
        self.published += self._crew.batch

    def _next(self) -> int:
        self._request += 1
        self._open_requests.add(self._request)
        return self._request

    def _heard(self, message: Any, line: Line) -> None:
        kind = type(message)
        if kind is replies.Deliver:
            self._deliver(message, line)
        elif kind is replies.Settled:
            for request, stale in message.settles:
                assert not stale, message
                self.settled += self._settles.pop(request)
                self._open_requests.discard(request)
            self._publish()
        elif kind is replies.Confirm:
            self._end_requests(row[0] for row in message.confirms)
        elif kind in {replies.QueueInfo, replies.Done}:
            self._end_requests([message.request])
        elif kind is replies.Welcome:
            self._epoch = message.epoch
            self._end_requests([line])
        else:
            self._fail(f"the broker says {message}")

    def _fail(self, text: str) -> None:
        for waiting in (self._answer, self._done):
            if waiting is not None and not waiting.done():
                waiting.set_exception(RuntimeError(text))

    def _end_requests(self, requests: Iterable[int | Line]) -> None:
        self._open_requests.difference_update(requests)
        if self._answer is not None and len(self._open_requests) <= self._but:
            answer, self._answer = self._answer, None
            answer.set_result(None)

    def _deliver(self, deliver: replies.Deliver, line: Line) -> None:
        number, request = deliver.consumer, self._next()
        count = sum(row[1] for row in deliver.spans)
        self._settles[request] = count
        rows = tuple(row[:3] for row in deliver.spans)
        line.say(commands.Settle(request, line.queues[number], Verb.ACK, self._epoch, cast("Any", rows)))
        line.taken[number] += count
        if line.granted[number] - line.taken[number] < self._credit // 2:
            self._raise_credit(line, number)

    def _raise_credit(self, line: Line, number: int) -> None:
        line.granted[number] = line.taken[number] + self._credit
        line.say(commands.Credit(number, line.granted[number]))


async def main(address: str, crew: Crew) -> None:
    await Work(address, crew).run()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Crew(**json.loads(sys.argv[2]))))
