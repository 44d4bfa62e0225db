"""What waits for an answer, or to be sent: publishes and settles that gather, and the credit of consumers. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from wherry.model.commands import Verb


class Envelope(NamedTuple):
    """What the messages of one publish share. Numbers are milliseconds; 0 and "" mean none."""

    priority: int = 0
    key: str = ""
    delay_ms: int = 0
    at_ms: int = 0
    ttl_ms: int = 0
    dedupe: str = ""


PLAIN = Envelope()


class Publish:
    """A PUBLISH: being gathered, or sent and not answered yet."""

    __slots__ = ("deadline", "divisible", "envelope", "pieces", "queue", "size", "waiters")

    def __init__(self, queue: str, envelope: Envelope, deadline: float, *, divisible: bool) -> None:
        self.queue = queue
        self.envelope = envelope
        self.deadline = deadline
        self.divisible = divisible
        self.pieces: list[bytes] = []
        self.size = 0
        self.waiters: list[Any] = []


class Settle:
    """A SETTLE: being gathered, or sent and not answered yet. Each waiter comes with its range: first, count."""

    __slots__ = ("deadline", "duration_ms", "epoch", "queue", "rows", "text", "total", "verb", "waiters")

    def __init__(self, queue: str, verb: Verb, epoch: int, duration_ms: int | None, text: str, deadline: float) -> None:
        self.queue = queue
        self.verb = verb
        self.epoch = epoch
        self.duration_ms = duration_ms
        self.text = text
        self.deadline = deadline
        self.rows: list[list[int]] = []
        self.total = 0
        self.waiters: list[tuple[Any, int, int]] = []

    def add(self, first: int, count: int, attempt: int) -> None:
        """Adds a range; joins it to the last one when it goes on from there."""
        self.total += count
        last = self.rows[-1] if self.rows else None
        if last is not None and self.end == first and last[2] == attempt:
            last[1] += count
        else:
            self.rows.append([first, count, attempt])

    @property
    def end(self) -> int:
        """The offset after the last range."""
        return self.rows[-1][0] + self.rows[-1][1]


class Other(NamedTuple):
    """Any other request."""

    waiter: Any


class Consumer:
    """The credit of a consumer: `window` messages may be in the client's hands at a time."""

    __slots__ = ("finished", "granted", "queue", "window")

    def __init__(self, queue: str, window: int) -> None:
        self.queue = queue
        self.window = window
        self.granted = window
        self.finished = 0
