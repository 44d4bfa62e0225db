"""A broker in process, without sockets, files or time of its own: the real connections, sessions, pump and core, on a
loop and transports that are the test's. And an oracle, which says what has to come of what is said to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from unittest import mock

import structlog

from fakes import FakeLoop, FakeTransport
from wherry.model import commands, replies
from wherry.wire import codec
from wherry.wire.framing import FIRST_FRAME_BYTES_MAX, FrameReader
from wherry.wire.messages import pack_sizes
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard
from wherry_broker.log.memory import MemoryLog
from wherry_broker.server.auth import TokenAuth
from wherry_broker.server.connection import CLOSE_S, Connection
from wherry_broker.server.limits import Limits, Unfinished
from wherry_broker.server.pump import Pump
from wherry_broker.server.session import Session

HELLO = commands.Hello("wherry", 1, 1, "", "fuzz", 0)
EPOCH = 7
LIMITS = Limits(heartbeat_ms=0)
CLIENT_SAYS = {*commands.Request.__args__, commands.Credit, commands.Ping, commands.Goodbye, replies.Pong}
FIRST_REQUEST = 1 << 30
"""Where the numbers of requests begin that are not a case's own."""


class Time:
    """The pump's clock, which goes with the loop's."""

    def __init__(self, loop: FakeLoop) -> None:
        self._loop = loop

    def now_ms(self) -> int:
        return 1_800_000_000_000 + round(1000 * self._loop.time())


class Peer:
    """A client: what it says, and what it hears."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gone = False
        self.transport = FakeTransport(world.loop)
        self.session = Session(EPOCH, "wherry/fuzz", TokenAuth("").accepts, LIMITS, world.scratch)
        with mock.patch.object(asyncio, "get_running_loop", return_value=world.loop):
            self.connection = Connection(
                self.session,
                world.pump,
                LIMITS,
                world.unfinished,
                world.log,
                lambda _: "",
                lambda _: setattr(self, "gone", True),
            )
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)
        self.heard: list[Any] = []
        self._reader = FrameReader(1 << 30)

    def feed(self, data: bytes) -> None:
        """Bytes come, as far as they are read."""
        while data and not self.transport.closing:
            if self.transport.reading_paused:
                self.transport.take(1 << 30)
                self.world.loop.turn()
                continue
            buffer = self.connection.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            self.connection.buffer_updated(size)

    def say(self, *messages) -> list[Any]:
        """Says well-formed messages; returns what is heard then."""
        self.feed(b"".join(map(codec.encode, messages)))
        return self.hear()

    def hear(self) -> list[Any]:
        """Takes all that there is to hear; every frame must be one that a client takes."""
        self.world.loop.turn()
        while self.transport.waiting:
            self.transport.take(1 << 30)
            self.world.loop.turn()
        data, self.transport.written = bytes(self.transport.written), bytearray()
        new = [codec.decode(frame) for frame in self._reader.feed(data)]
        assert not self._reader.failure, self._reader.failure
        self.heard += new
        return new


class World:
    """A broker with a bystander that has work in hand."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.clock = Time(self.loop)
        self.scratch = memoryview(bytearray(262_144))
        self.log = structlog.wrap_logger(None, processors=[_drop], wrapper_class=structlog.stdlib.BoundLogger)
        self.shard = Shard(EPOCH, lambda: 0.5, QueueOptions(durability="memory"))
        self.pump = Pump(self.shard, MemoryLog(), self.clock, self.loop, 1 << 26)
        self.unfinished = Unfinished(LIMITS.unfinished_bytes_max)
        self._request = FIRST_REQUEST
        self.bystander = self.peer()
        kept = commands.Publish(1, "kept", pack_sizes([1, 1]), block=b"\x80\x80")
        said = self.bystander.say(kept, commands.Consume(2, 1, "kept", 1, 3_600_000))
        assert [type(each) for each in said] == [replies.Confirm, replies.Done, replies.Deliver]

    def peer(self) -> Peer:
        """A client that has been welcomed."""
        peer = Peer(self)
        assert [type(each) for each in peer.say(HELLO)] == [replies.Welcome]
        return peer

    def request(self) -> int:
        self._request += 1
        return self._request

    def check(self, *gone: Peer) -> None:
        """The bystander has what it had, the core is in order, and nothing is left of who has gone."""
        self.loop.advance(2 * CLOSE_S)
        answers = self.bystander.say(commands.Info(self.request(), "kept"))
        (info,) = (each.info for each in answers if type(each) is replies.QueueInfo)
        assert (info["ready"], info["leased"], info["consumers"]) == (1, 1, not self.shard.draining)
        for peer in gone:
            assert peer.gone
            assert peer.transport.closing
        assert len(self.shard._sessions) == 1
        assert self.unfinished.held_bytes == 0
        for queue in self.shard.state.names.values():
            self._check_queue(queue)

    def _check_queue(self, queue) -> None:
        spans = list(queue.spans())
        for state in range(4):
            mine = [span for span in spans if span.state == state]
            assert queue.counts[state] == sum(map(len, mine)), (queue.name, state)
            assert queue.sizes[state] == sum(span.size() for span in mine), (queue.name, state)
        for span in spans:
            assert span.consumer is None or span.consumer.session.number in self.shard._sessions
        for consumer in queue.consumers:
            assert self.shard._sessions[consumer.session.number].consumers[consumer.number] is consumer


def _drop(_logger, _name, _event):
    raise structlog.DropEvent


class Oracle:
    """What has to come of what one client says, told from the same bytes in the same pieces.

    Attributes:
        answers: how often each request has to be answered.
        late: how often each request may be answered that waits for something.
        pongs: how often each nonce has to come back.
        end: "" while the connection lives; "goodbye" when the client ended it; else the code of the GOODBYE.
    """

    def __init__(self, *, opened: bool) -> None:
        self.opened = opened
        self.answers: Counter[int] = Counter()
        self.late: Counter[int] = Counter()
        self.pongs: Counter[int] = Counter()
        self.end = ""
        self._reader = FrameReader(LIMITS.frame_bytes_max if opened else FIRST_FRAME_BYTES_MAX)

    def feed(self, data: bytes) -> None:
        reader = self._reader
        while data and not self.end:
            buffer = reader.get_buffer()
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            for frame in reader.received(size):
                if not self.end:
                    self._take(frame)
            if reader.failure and not self.end:
                self.end = "too_large" if reader.size_exceeded else "bad_frame"

    def _take(self, frame) -> None:
        try:
            message = codec.decode(frame)
        except codec.BadFrame:
            self.end = "bad_frame"
            return
        except codec.BadValue as error:
            if self.opened and error.request:
                self.answers[error.request] += 1
            else:
                self.end = "bad_frame"
            return
        if not self.opened:
            self._open(message)
        elif type(message) not in CLIENT_SAYS:
            self.end = "bad_frame"
        elif type(message) is commands.Goodbye:
            self.end = "goodbye"
        elif type(message) is commands.Ping:
            self.pongs[message.nonce] += 1
        elif type(message) in {commands.Watch, commands.Status} and message.wait_ms:
            self.late[message.request] += 1
        elif type(message) not in {commands.Credit, replies.Pong}:
            self.answers[message.request] += 1

    def _open(self, message) -> None:
        sound = type(message) is commands.Hello and message.magic == "wherry"
        if not sound or not message.version_min <= codec.VERSION <= message.version_max:
            self.end = "bad_frame"
        elif message.token:
            self.end = ""  # a broker without a token lets everyone in
        self.opened = not self.end
        self._reader.frame_bytes_max = LIMITS.frame_bytes_max


def answered(heard: list[Any]) -> Counter[int]:
    """The requests that were answered, with how often."""
    result: Counter[int] = Counter()
    for each in heard:
        if type(each) is replies.Confirm:
            result.update(row[0] for row in each.confirms)
        elif type(each) is replies.Settled:
            result.update(row[0] for row in each.settles)
        elif isinstance(each, replies.Reply.__args__):
            result[each.request] += 1
    return result
