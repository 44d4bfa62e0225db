"""A history: what clients asked of a broker and were told by it, and when the broker was hurt. JSON lines.

Each process writes a file of its own; `read` puts them together by time. All times are seconds of CLOCK_MONOTONIC,
which is one clock for all processes of a machine. What is asked for is written before it is sent, and an outcome after
it is known, so that a crash between the two leaves an operation open: its outcome is unknown.

A `who` is one connection of one process, such as `p1/3`: what a broker knows of a client ends with the connection.
A message's id is `producer:number`, and the numbers of a producer grow in each queue that it publishes to.
"""

from __future__ import annotations

import json
import time
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

OK, ERROR, STALE, UNKNOWN = "ok", "error", "stale", "unknown"
"""Outcomes. `error` is definite: what was asked for was not done. `stale`: the lease was not held any more."""
ACK, NACK, RELEASE, REJECT = "ack", "nack", "release", "reject"
KILL, POWER, STOP = "kill", "power", "stop"
"""Faults: SIGKILL, a power cut, and an ordinary end."""


class Queue(NamedTuple):
    """A queue is there, at a level of durability."""

    t: float
    q: str
    level: str


class Pub(NamedTuple):
    """A publish begins."""

    t: float
    who: str
    id: str
    q: str
    priority: int = 0
    delay_ms: int = 0
    dedupe: bool = False


class PubEnd(NamedTuple):
    """A publish has ended: ok, error or unknown."""

    t: float
    who: str
    id: str
    outcome: str
    offset: int = 0
    level: str = ""


class Attach(NamedTuple):
    """A consumer begins; it takes up to `credit` messages at a time."""

    t: float
    who: str
    q: str
    credit: int


class Deliver(NamedTuple):
    """A consumer was given a message. `id` is what the body says, `intact` whether its checksum is right."""

    t: float
    who: str
    id: str
    q: str
    offset: int
    epoch: int
    attempt: int
    lease_ms: int = 30_000
    intact: bool = True

    @property
    def token(self) -> tuple[int, int]:
        """(epoch, attempt): greater with every delivery of a message."""
        return self.epoch, self.attempt

    @property
    def place(self) -> tuple[int, int, int]:
        """(offset, epoch, attempt): names the delivery within its queue."""
        return self.offset, self.epoch, self.attempt


class Settle(NamedTuple):
    """A settle begins. `delay_ms` is that of a nack."""

    t: float
    who: str
    verb: str
    id: str
    offset: int
    epoch: int
    attempt: int
    delay_ms: int = 0

    @property
    def place(self) -> tuple[int, int, int]:
        """Which delivery it is of: (offset, epoch, attempt)."""
        return self.offset, self.epoch, self.attempt


class SettleEnd(NamedTuple):
    """A settle has ended: ok, stale or unknown."""

    t: float
    who: str
    id: str
    offset: int
    epoch: int
    attempt: int
    outcome: str

    @property
    def place(self) -> tuple[int, int, int]:
        """Which delivery it is of: (offset, epoch, attempt)."""
        return self.offset, self.epoch, self.attempt


class Detach(NamedTuple):
    """A connection is gone, and with it all its consumers and leases."""

    t: float
    who: str


class Crash(NamedTuple):
    """The broker is hurt: kill, power or stop."""

    t: float
    fault: str


class Restart(NamedTuple):
    """The broker is started again."""

    t: float


class Counters(NamedTuple):
    """What the broker itself counts of a queue. It was asked at `asked`, and had answered at `t`."""

    t: float
    asked: float
    q: str
    ready: int
    delayed: int
    leased: int
    dead: int
    published: int
    next_offset: int
    removed: dict[str, int]


class Drained(NamedTuple):
    """Publishers have ended, and consumers have taken all there was."""

    t: float


Event = Queue | Pub | PubEnd | Attach | Deliver | Settle | SettleEnd | Detach | Crash | Restart | Counters | Drained
KINDS: dict[str, Any] = {
    kind.__name__.lower(): kind
    for kind in (Queue, Pub, PubEnd, Attach, Deliver, Settle, SettleEnd, Detach, Crash, Restart, Counters, Drained)
}


class Recorder:
    """Writes one process's part of a history.

    Args:
        path: the file; a new one.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1 << 16)

    def add(self, kind: Any, *fields: Any, **named: Any) -> float:
        """Writes an event that happens now; returns when that is."""
        now = time.monotonic()
        self._file.write(line(kind(now, *fields, **named)))
        return now

    def flush(self) -> None:
        """Hands all to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


def line(event: Event) -> str:
    """An event as one line of JSON."""
    return json.dumps({"e": type(event).__name__.lower(), **event._asdict()}, separators=(",", ":")) + "\n"


def read(paths: Iterable[Path]) -> list[Event]:
    """All events of these files, by time."""
    events: list[Event] = []
    for path in paths:
        for text in path.read_text("utf-8").splitlines():
            fields = json.loads(text)
            events.append(KINDS[fields.pop("e")](**fields))
    return sorted(events, key=attrgetter("t"))
