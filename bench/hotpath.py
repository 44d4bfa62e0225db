"""The broker's hot path without sockets: bytes in, frames, commands, core, records, log bytes, effects, bytes out.

A producer publishes and a consumer settles all that it is delivered, through the broker's own sessions, pump and core.
The event loop is a list, and the log encodes each commit and forgets it. What the two clients send is made by one run;
a second one, which is what gets measured, is fed the same bytes and must say the same.

    hotpath.py    runs a calibrating loop and each load once, and calls os.getppid() where each begins and ends,
                  which is how instructions.py tells them apart
"""

from __future__ import annotations

import gc
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry.wire import codec
from wherry.wire.framing import Frame, FrameReader
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard
from wherry_broker.log.codec import encode_entry
from wherry_broker.log.memory import MemoryLog
from wherry_broker.server.limits import Limits
from wherry_broker.server.pump import Pump, restore
from wherry_broker.server.session import Session

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from wherry_broker.core.effects import Say
    from wherry_broker.core.ledger import Commit
    from wherry_broker.log.interface import Committed

BODY = bytes(100)
LENGTH = struct.Struct(">I")
HELLO = codec.encode(commands.Hello("wherry", 1, 1, "", "hotpath", 0))
CREDIT = 1 << 40
MARK = os.getppid
"""Nothing else calls it, and it does next to nothing."""


@dataclass(frozen=True)
class Load:
    """What is sent.

    Attributes:
        level: the durability of the queue.
        batch: how many messages a PUBLISH has.
        turn: how many messages come in one turn of the broker.
        count: how many there are.
    """

    level: str
    batch: int
    turn: int
    count: int


LOADS = {
    "batches of 100, memory": Load("memory", 100, 1_000, 20_000),
    "batches of 100, synced": Load("synced", 100, 1_000, 20_000),
    "single, memory": Load("memory", 1, 100, 1_000),
    "single, synced": Load("synced", 1, 100, 1_000),
}


class Loop:
    """As much of an event loop as the pump asks for; time stands still."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        """Has `turn` make the call."""
        self._soon.append(call)

    def call_later(self, _delay: float, _call: Callable[[], None]) -> None:
        """Never makes the call: no moment comes."""

    def turn(self) -> None:
        """Makes all calls, and those that they ask for."""
        while self._soon:
            soon, self._soon = self._soon, []
            for call in soon:
                call()


class Clock:
    """A clock that stands."""

    def now_ms(self) -> int:
        """The time."""
        return 1_700_000_000_000


class EncodingLog(MemoryLog):
    """A log that makes the bytes of each commit, says where they would lie, and forgets them."""

    segment = oldest = 1

    def __init__(self, level: str) -> None:
        self.level = level
        self._number = 0
        self._offset = 0
        self.encoded_bytes = 0

    def commit(self, commit: Commit, done: Committed) -> None:
        """Done at once."""
        if not commit.records:
            done(())
            return
        self._number += 1
        encoded = encode_entry(1, self._number, self._number - 1, 1, commit.records, _never_paged)
        done([(block, (1, self._offset + start)) for block, start in encoded.blocks])
        self._offset += encoded.size
        self.encoded_bytes += encoded.size


def _never_paged(_block: object) -> bytes:
    raise AssertionError("a block is not in memory")


@dataclass
class Line:
    """One client's connection: what it was told, as bytes."""

    session: Session
    told: list[bytes] = field(default_factory=list)

    def say(self, says: list[Say]) -> None:
        """What the pump has to say."""
        self.session.say(says)
        self.told += self.session.data_to_send()

    def room_bytes(self) -> int:
        """There is always as much room as an empty connection has."""
        return 1 << 30

    def hold_reading(self, *, hold: bool) -> None:
        """It is read again before anything is measured."""

    def close(self, code: str, text: str) -> None:
        """Nothing here breaks the protocol."""
        raise AssertionError(f"{code}: {text}")


class Road:
    """A broker with two clients, a producer and a consumer, of one queue.

    Args:
        level: the durability of the queue.
    """

    def __init__(self, level: str) -> None:
        self._loop = Loop()
        self.log = EncodingLog(level)
        shard = self.shard = Shard(1, lambda: 0.5, QueueOptions(durability=level))
        clock, limits = Clock(), Limits()
        restore(shard, self.log, clock)
        self._pump = Pump(
            shard, self.log, clock, cast("asyncio.AbstractEventLoop", self._loop), limits.uncommitted_bytes_max
        )
        self._lines = [Line(Session(1, "hotpath", lambda _: True, limits)) for _ in range(2)]
        self._numbers: list[int] = []
        for line in self._lines:
            line.session.receive(line.session.reader.feed(HELLO))
            self._numbers.append(self._pump.attach(line))
        self.feed(1, codec.encode(commands.Consume(1, 1, "q", CREDIT)))

    def feed(self, who: int, data: bytes) -> None:
        """Bytes come from the producer, 0, or the consumer, 1, and the broker does all that comes of them."""
        session = self._lines[who].session
        self._pump.submit(self._numbers[who], session.receive(session.reader.feed(data)))
        self._loop.turn()

    def heard(self, who: int) -> bytes:
        """All that a client was told since the last call."""
        line = self._lines[who]
        told, line.told = line.told, []
        return b"".join(told)


def transcript(load: Load) -> list[tuple[int, bytes]]:
    """What both clients send, in order."""
    road, reader = Road(load.level), FrameReader(1 << 30)
    reader.feed(road.heard(1))
    sent: list[tuple[int, bytes]] = []
    request = 1
    for _ in range(load.count // load.turn):
        publishes = []
        for _ in range(load.turn // load.batch):
            request += 1
            lengths = LENGTH.pack(len(BODY)) * load.batch
            publishes.append(codec.encode(commands.Publish(request, "q", lengths, block=BODY * load.batch)))
        sent.append((0, b"".join(publishes)))
        road.feed(*sent[-1])
        request += 1
        rows = _delivered(reader.feed(road.heard(1)))
        assert sum(row[1] for row in rows) == load.turn
        sent.append((1, codec.encode(commands.Settle(request, "q", Verb.ACK, road.shard.state.epoch, rows))))
        road.feed(*sent[-1])
        reader.feed(road.heard(1))
    return sent


def _delivered(frames: list[Frame]) -> tuple[tuple[int, int, int], ...]:
    """All that frames deliver, as a SETTLE names it."""
    delivers = [each for each in map(codec.decode, frames) if isinstance(each, replies.Deliver)]
    return tuple((row[0], row[1], row[2]) for deliver in delivers for row in deliver.spans)


def run(road: Road, sent: list[tuple[int, bytes]]) -> None:
    """What is measured."""
    for who, data in sent:
        road.feed(who, data)


def check(road: Road, load: Load) -> None:
    """Everything was delivered and settled.

    Raises:
        AssertionError: it was not, and no figure means anything.
    """
    queue = road.shard.state.names["q"]
    assert queue.next_offset == load.count + 1 and not sum(queue.counts), queue.counts  # noqa: PT018 (one thing)
    assert bool(road.log.encoded_bytes > load.count * len(BODY)) == (load.level != "memory")


@dataclass(slots=True)
class Thing:
    """What `calibrate` makes many of."""

    number: int
    text: bytes

    def grown(self, by: int) -> int:
        """A method, to be called."""
        return self.number + by


def calibrate() -> int:
    """A little of all that the hot path has Python do, and nothing of ours: what a Python costs, not a broker."""
    seen: dict[int, Thing] = {}
    total = 0
    for number in range(20_000):
        thing = Thing(number, LENGTH.pack(number))
        seen[number % 100] = thing
        row = (number, thing.grown(1), thing.text)
        total += len(b"".join([row[2], thing.text])) if row[1] & 1 else row[0]
    return total + len(seen)


def main() -> None:
    gc.set_threshold(20_000, 20, 20)  # as the broker has it
    calibrate()
    MARK()
    calibrate()
    MARK()
    for load in LOADS.values():
        sent = transcript(load)
        road = Road(load.level)
        gc.collect()
        gc.freeze()
        MARK()
        run(road, sent)
        MARK()
        check(road, load)


if __name__ == "__main__":
    main()
