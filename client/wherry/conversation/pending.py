"""What waits for an answer, or to be sent: publishes and settles that gather, and the credit of consumers. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from wherry.model.commands import Settle as Command
    from wherry.model.commands import Verb


class Envelope(NamedTuple):
    """What the messages of one publish share. Numbers are milliseconds; 0 and "" mean none."""

    priority: int = 0
    key: str = ""
    delay_ms: int = 0
    at_ms: int = 0
    ttl_ms: int = 0
    dedupe: str = ""
    track: bool = False
    parent: str = ""

    @property
    def fields(self) -> tuple[int, str, int, int, int, str]:
        """What all that publishes has in its header, in the wire's order."""
        return self[:6]


PLAIN = Envelope()
TRACKED = Envelope(track=True)


class Publish:
    """A PUBLISH: being gathered, or sent and not answered yet.

    Attributes:
        sequence: its number among those of the producer; 0 for none.
        frame: its bytes, in pieces, once it was sent, for as long as they may have to be sent again.
        pieces: what its messages are made of, back to back, until it is sent.
        sizes: how many bytes each message has, until it is sent.
        size: how many they have together.
    """

    __slots__ = (
        "deadline",
        "divisible",
        "envelope",
        "frame",
        "pieces",
        "queue",
        "sequence",
        "size",
        "sizes",
        "waiters",
    )

    def __init__(self, queue: str, envelope: Envelope, deadline: float, *, divisible: bool) -> None:
        self.queue = queue
        self.envelope = envelope
        self.deadline = deadline
        self.divisible = divisible
        self.sequence = 0
        self.frame: tuple[bytes, ...] = ()
        self.pieces: list[bytes] = []
        self.sizes: list[int] = []
        self.size = 0
        self.waiters: list[Any] = []


class Settle:
    """A SETTLE: being gathered, or sent and not answered yet. Each waiter comes with its range: first, count."""

    __slots__ = (
        "command",
        "deadline",
        "duration_ms",
        "epoch",
        "is_sent",
        "progress",
        "queue",
        "result_bytes",
        "results",
        "rows",
        "text",
        "total",
        "verb",
        "waiters",
    )

    def __init__(
        self,
        queue: str,
        verb: Verb,
        epoch: int,
        duration_ms: int | None,
        text: str,
        deadline: float,
        progress: int | None = None,
    ) -> None:
        self.queue = queue
        self.verb = verb
        self.epoch = epoch
        self.duration_ms = duration_ms
        self.text = text
        self.deadline = deadline
        self.command: Command | None = None
        self.is_sent = False
        self.progress = progress
        self.results: list[bytes] = []
        self.result_bytes = 0
        self.rows: list[list[int]] = []
        self.total = 0
        self.waiters: list[tuple[Any, int, int]] = []

    def add(self, first: int, count: int, attempt: int) -> None:
        """Adds a range; joins it to the last one when it goes on from there."""
        self.total += count
        if self.rows:
            last = self.rows[-1]
            if last[0] + last[1] == first and last[2] == attempt:
                last[1] += count
                return
        self.rows.append([first, count, attempt])

    @property
    def end(self) -> int:
        """The offset after the last range."""
        return self.rows[-1][0] + self.rows[-1][1]


class Other:
    """Any other request.

    Attributes:
        waiter: who waits for the answer.
        frame: its bytes, in pieces.
        repeatable: whether it may be sent again on another connection: done twice it does no more than done once.
        sequence: its number among those of the producer; 0 for none.
    """

    __slots__ = ("frame", "repeatable", "sequence", "waiter")

    def __init__(self, waiter: Any, frame: bytes, *, repeatable: bool, sequence: int = 0) -> None:
        self.waiter = waiter
        self.frame: tuple[bytes, ...] = (frame,)
        self.repeatable = repeatable
        self.sequence = sequence


class Awaiting:
    """An AWAIT that gathers: messages of one queue, each after the one before it, whose ends are waited for."""

    __slots__ = ("awaited", "deadline", "first", "queue", "wait_ms")

    def __init__(self, queue: str, first: int, wait_ms: int, deadline: float) -> None:
        self.queue = queue
        self.first = first
        self.wait_ms = wait_ms
        self.deadline = deadline
        self.awaited: list[Awaited] = []

    def goes_on_with(self, queue: str, offset: int, wait_ms: int) -> bool:
        """Whether a message is the next one."""
        return queue == self.queue and offset == self.first + len(self.awaited) and wait_ms == self.wait_ms


class Awaited:
    """One message of an AWAIT that has no answer yet.

    Attributes:
        queue: the queue's name.
        offset: its place in it.
        wait_ms: how long the broker waits for its end.
        waiter: who waits; None when nobody does any more.
        number: that of the request; 0 while it is not sent.
    """

    __slots__ = ("number", "offset", "queue", "wait_ms", "waiter")

    def __init__(self, queue: str, offset: int, wait_ms: int, waiter: Any) -> None:
        self.queue = queue
        self.offset = offset
        self.wait_ms = wait_ms
        self.waiter = waiter
        self.number = 0


class Sequence:
    """The numbers of a producer's publishes: which of them have no answer yet.

    Attributes:
        last: the last number that was given.
        answered: all numbers up to this one are answered.
    """

    __slots__ = ("_answered", "answered", "last")

    def __init__(self) -> None:
        self.last = self.answered = 0
        self._answered: set[int] = set()

    def __len__(self) -> int:
        return self.last - self.answered

    def next(self) -> int:
        """The number of the next publish."""
        self.last += 1
        return self.last

    def done(self, number: int) -> None:
        """A publish is answered, or given up: it will not be sent again."""
        answered = self._answered
        answered.add(number)
        while self.answered + 1 in answered:
            self.answered += 1
            answered.remove(self.answered)
