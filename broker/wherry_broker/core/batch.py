"""A batch, and its spans: ranges of its messages that share a state.

A queue holds spans, not messages: a batch of a thousand messages that nobody has split is one span, and costs what
one message costs. Offsets are absolute in the queue. A span that leaves its state altogether is `GONE`; structures
that hold it by order (lanes, timers) find out when they come across it.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from wherry_broker.core.block import Block
    from wherry_broker.core.consumers import Consumer
    from wherry_broker.core.queue import Queue

READY, DELAYED, LEASED, DEAD, GONE = range(5)
STATE_NAMES = ("ready", "delayed", "leased", "dead")
EVENT_CHARACTERS = 64
"""How much of a text is kept with each of these things."""
HISTORY_MAX = 8
"""How much of its history is kept of a tracked message: the newest, while others forget the oldest."""

_low = attrgetter("low")


class Failure(NamedTuple):
    """Why a message is dead, or what its last attempt said."""

    reason: str
    error: str
    at_ms: int


Ancestor = tuple[int, int]
"""A message that has sent others: the number of its queue, and its offset."""


class Envelope(NamedTuple):
    """What the messages of a batch share.

    Attributes:
        tracked: whether it is remembered how they end.
        publisher: what the client calls itself that published them, when they are tracked.
        lineage: the messages that have sent them, the farthest first; see `families`.
    """

    published_at_ms: int
    expires_at_ms: int = 0
    priority: int = 0
    key: str = ""
    tracked: bool = False
    publisher: str = ""
    lineage: tuple[Ancestor, ...] = ()


class Event(NamedTuple):
    """Something that happened to a tracked message; `more` is what was said of it."""

    at_ms: int
    what: str
    who: str
    more: str


class Span:
    """The messages [low, high) of a batch, all in one state.

    Attributes:
        attempt: how many deliveries of these messages have ended; the next one is `attempt + 1`.
        released: how many of those were handed back unworked, and so do not count against `max_attempts`.
        due_ms: when the lease or the delay ends; 0 when neither runs.
        timer: the entry in `Timers` that stands for it; 0 when none does.
        consumer: who holds the lease.
        failure: what the last failed attempt said.
        history: what happened to tracked messages lately: (when, what, who, more).
        progress: how far the consumer has come, in thousandths, and what it says of it; None when it said nothing.
    """

    __slots__ = (
        "attempt",
        "batch",
        "consumer",
        "due_ms",
        "failure",
        "high",
        "history",
        "low",
        "progress",
        "released",
        "state",
        "timer",
    )

    def __init__(self, batch: Batch, low: int, high: int, state: int) -> None:
        self.batch = batch
        self.low = low
        self.high = high
        self.state = state
        self.attempt = 0
        self.released = 0
        self.due_ms = 0
        self.timer = 0
        self.consumer: Consumer | None = None
        self.failure: Failure | None = None
        self.history: tuple[Event, ...] = ()
        self.progress: tuple[int, str] | None = None

    def __len__(self) -> int:
        return self.high - self.low

    @property
    def spent(self) -> int:
        """How many attempts count against `max_attempts`."""
        return self.attempt - self.released

    def size(self) -> int:
        """The bytes of its messages."""
        return self.batch.bytes_between(self.low, self.high)

    @property
    def worker(self) -> str:
        """What the client calls itself that a tracked message was leased to last."""
        return next((event.who for event in reversed(self.history) if event.what == STATE_NAMES[LEASED]), "")

    def note(self, at_ms: int, what: str, who: str, more: str = "") -> int:
        """Takes note of what happens to tracked messages; returns by how much that has made their history longer."""
        before = len(self.history)
        event = Event(at_ms, what, who[:EVENT_CHARACTERS], more[:EVENT_CHARACTERS])
        self.history = (*self.history, event)[-HISTORY_MAX:]
        return len(self.history) - before

    def split(self, at: int) -> Span:
        """Cuts the messages [at, high) off, and returns them as a span that has the same state, but no timer."""
        right = Span(self.batch, at, self.high, self.state)
        right.attempt, right.released = self.attempt, self.released
        right.due_ms, right.consumer, right.failure = self.due_ms, self.consumer, self.failure
        right.history, right.progress = self.history, self.progress
        self.high = at
        spans = self.batch.spans
        spans.insert(bisect_right(spans, self.low, key=_low), right)
        return right


class Batch:
    """The messages of one publish in one queue.

    Attributes:
        first: the offset of its first message.
        spans: what is left of it, by offset.
        held_bytes: the bytes of the messages that are left of it.
        home: the segment of the log that it lies in; 0 for none.
        log_bytes: what it counts as alive there.
        due_ms: when its messages expire; 0 when they do not.
        timer: the entry in `Timers` that stands for its expiry.
        mark: the commit without which its messages could not be delivered as they are.
    """

    __slots__ = (
        "block",
        "due_ms",
        "envelope",
        "first",
        "held_bytes",
        "home",
        "log_bytes",
        "mark",
        "queue",
        "spans",
        "timer",
    )

    def __init__(self, queue: Queue, first: int, block: Block, envelope: Envelope, mark: int = 0) -> None:
        self.queue = queue
        self.first = first
        self.block = block
        self.envelope = envelope
        self.spans: list[Span] = []
        self.held_bytes = block.size
        self.home = 0
        self.log_bytes = 0
        self.due_ms = 0
        self.timer = 0
        self.mark = mark

    @property
    def end(self) -> int:
        """The offset after its last message."""
        return self.first + self.block.count

    def bytes_between(self, low: int, high: int) -> int:
        """The bytes of the messages [low, high), by offset."""
        return self.block.bytes_between(low - self.first, high - self.first)

    def position(self, offset: int) -> int:
        """Where in `spans` the one stands that holds `offset`, or else the first one after it."""
        spans = self.spans
        position = bisect_right(spans, offset, key=_low)
        return position - 1 if position and spans[position - 1].high > offset else position
