"""Records: the facts that a queue's state is made of, and all that a log holds.

A record says what happened, never what was asked for, so that a changed policy does not change what an old log means.
Ranges are (low, high): the offsets low, low + 1, ..., high - 1. Moments are milliseconds of the wall clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from wherry_broker.core.batch import Envelope, Failure
from wherry_broker.core.block import Block, Shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Ranges = tuple[tuple[int, int], ...]

TEMPORARY_FIRST = 1 << 62
"""The number of the first queue that ends with the session that made it; no log has so many others."""

SETTLED, EXPIRED, DROPPED, PURGED = "settled", "expired", "dropped", "purged"
CANCELLED, MOVED = "cancelled", "moved"
REPLACED, UNSET = "replaced", "unset"
FAILED, LOST, RELEASED, REDRIVEN = "failed", "lost", "released", "redriven"
REJECTED = "rejected"


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same ranges with neighbours made one; they come in order."""
    result: list[tuple[int, int]] = []
    for low, high in ranges:
        if result and result[-1][1] == low:
            result[-1] = (result[-1][0], high)
        else:
            result.append((low, high))
    return tuple(result)


class Declared(NamedTuple):
    """A queue came to be. `first` is the offset that its first message will have.

    `asked` are the options that somebody asked for, which no policy changes; None in old logs: all of them.
    """

    queue: int
    name: str
    options: dict[str, Any]
    first: int
    asked: tuple[str, ...] | None = None


class Changed(NamedTuple):
    """Options of a queue were changed, as somebody `asked`; else the broker's configuration did it."""

    queue: int
    options: dict[str, Any]
    asked: bool = True


class Deleted(NamedTuple):
    """A queue went, with all that it held."""

    queue: int


class Published(NamedTuple):
    """A batch was stored at the offsets from `first` on. It waits until `ready_at_ms` when that is not 0."""

    queue: int
    first: int
    envelope: Envelope
    ready_at_ms: int
    dedupe: str
    block: Block


class Target(NamedTuple):
    """One of the queues that a batch was routed to, and what is said of the batch there only."""

    queue: int
    first: int
    expires_at_ms: int
    priority: int


class Routed(NamedTuple):
    """A batch was stored once for several queues, by its subject. The log keeps all of the targets, or none.

    To each of them it is a `Published`; see `parts`.
    """

    subject: str
    published_at_ms: int
    key: str
    ready_at_ms: int
    dedupe: str
    targets: tuple[Target, ...]
    block: Block

    def parts(self) -> Iterator[Published]:
        """What happened to each queue; the blocks share the bytes of the one there is."""
        shared = Shared()
        for queue, first, expires_at_ms, priority in self.targets:
            envelope = Envelope(self.published_at_ms, expires_at_ms, priority, self.key)
            yield Published(queue, first, envelope, self.ready_at_ms, self.dedupe, self.block.twin(shared))


class Removed(NamedTuple):
    """Messages left for good.

    `cause` is one of settled, expired, dropped, purged, cancelled and moved; in a store replaced and unset too.
    """

    queue: int
    cause: str
    ranges: Ranges
    at_ms: int


class Returned(NamedTuple):
    """Messages wait again: their deliveries ended (`cause` failed, lost or released), or they were dead (redriven)."""

    queue: int
    cause: str
    ranges: Ranges
    ready_at_ms: int
    error: str
    at_ms: int


class Died(NamedTuple):
    """Deliveries ended and the messages are dead; `cause` is how the last one ended: failed, lost or rejected."""

    queue: int
    ranges: Ranges
    failure: Failure
    cause: str = FAILED


class Stage(NamedTuple):
    """Where the messages [low, high) of a batch stand, but for leases, which no log knows.

    `ready_at_ms` is 0 unless they are delayed.
    """

    low: int
    high: int
    attempt: int
    released: int
    ready_at_ms: int
    dead: bool
    failure: Failure | None


class Rehomed(NamedTuple):
    """What is left of an old batch was written again, so that the segment it lay in can be forgotten."""

    queue: int
    first: int
    envelope: Envelope
    stages: tuple[Stage, ...]
    block: Block


class Row(NamedTuple):
    """What became of a publish. None stored: its dedupe key was known, and `first` is that of the batch under it."""

    sequence: int
    queue: int
    first: int
    stored: int


class Sequenced(NamedTuple):
    """Publishes of a producer were stored under its sequences; it has the answers to all up to `answered`."""

    producer: str
    answered: int
    at_ms: int
    rows: tuple[Row, ...]


class Known(NamedTuple):
    """What is remembered of a producer, which was heard of at `at_ms`."""

    producer: str
    answered: int
    at_ms: int
    rows: tuple[Row, ...]


class Limited(NamedTuple):
    """The batch that holds `offset` has another time to live: until `expires_at_ms`, or for ever when that is 0."""

    queue: int
    offset: int
    expires_at_ms: int


class Plan(NamedTuple):
    """What a schedule does, and when: exactly one of `cron`, `every_ms` and `at_ms` is given. 0 and "" mean none.

    Attributes:
        queue: the name of the queue that its messages go to.
        cron: the moments as a cron expression, in the wall time of `zone`.
        zone: the IANA name of a time zone.
        every_ms: the interval of the moments.
        anchor_ms: one of them, or what would be one.
        at_ms: the only moment.
        start_ms: no moment is before it.
        end_ms: no moment is after it.
        priority: of the messages.
        key: of the messages.
        ttl_ms: of the messages.
        missed: what becomes of moments that nothing was published for in time: skip, once or all.
        overlap: whether to publish while the message before is still in its queue: allow or skip.
        late_ms: how late it may be published and still be in time.
        stamp: where in the message the due moment is written, as a big-endian u64; 0 for nowhere.
        message: the bytes of the message.
        track: whether it is remembered how its messages end.
    """

    queue: str
    cron: str
    zone: str
    every_ms: int
    anchor_ms: int
    at_ms: int
    start_ms: int
    end_ms: int
    priority: int
    key: str
    ttl_ms: int
    missed: str
    overlap: str
    late_ms: int
    stamp: int
    message: bytes
    track: bool = False


class Scheduled(NamedTuple):
    """A schedule came to be, or does something else from now on, or was paused, or goes on.

    `since_ms` is when it came to be, for intervals without an anchor. `next_ms` is its next moment; 0 for none.
    """

    name: str
    plan: Plan
    since_ms: int
    paused: bool
    next_ms: int
    at_ms: int


class Unscheduled(NamedTuple):
    """A schedule went."""

    name: str


class Fired(NamedTuple):
    """A schedule has dealt with a moment.

    Attributes:
        name: the schedule.
        due_ms: the moment; 0 when there was none but those that were missed.
        next_ms: the next moment; 0 for none.
        at_ms: when that was.
        queue: the queue that holds the message; 0 when none was published.
        first: the offset of the message; 0 when none was published.
        missed: how many moments before were missed.
        skipped: whether nothing was published because the message before was still in its queue.
        error: why nothing was published.
    """

    name: str
    due_ms: int
    next_ms: int
    at_ms: int
    queue: int
    first: int
    missed: int
    skipped: bool
    error: str


class Kept(NamedTuple):
    """The standing facts of one schedule: what `Scheduled` and the `Fired` since have left.

    `told_ms` is when the newest of them was, `last_at_ms` and what is before it is of the newest message.
    """

    name: str
    plan: Plan
    since_ms: int
    paused: bool
    next_ms: int
    told_ms: int
    last_due_ms: int
    last_at_ms: int
    last_queue: int
    last_first: int
    fired: int
    missed: int
    skipped: int
    error: str


class Standing(NamedTuple):
    """The standing facts of one queue. `keys` are its dedupe keys: (key, first offset, forgotten at).

    `asked` is that of Declared, as of now.
    """

    number: int
    name: str
    options: dict[str, Any]
    next_offset: int
    keys: tuple[tuple[str, int, int], ...]
    asked: tuple[str, ...] | None = None


class Gated(NamedTuple):
    """The message at `offset` waits until as many others have ended as it `expects`; see `gates`."""

    queue: int
    gate: str
    offset: int
    expects: int
    strict: bool


class Joined(NamedTuple):
    """Messages have come that count for a gate: so many `messages`, from `first` on, in the queue `of`."""

    queue: int
    gate: str
    of: int
    first: int
    messages: int


class Tallied(NamedTuple):
    """Messages that count for a gate have ended, `failed` of them otherwise than well."""

    queue: int
    gate: str
    ended: int
    failed: int


class Waiting(NamedTuple):
    """A gate, as a preamble restates it. `members` are those that count for it: (queue, first offset, how many)."""

    gate: str
    queue: int
    offset: int
    remaining: int
    failed: int
    strict: bool
    members: tuple[tuple[int, int, int], ...]


class Preamble(NamedTuple):
    """The standing facts, at the head of a segment: what stays when older segments go."""

    epoch: int
    next_number: int
    next_first: int
    queues: tuple[Standing, ...]
    producers: tuple[Known, ...] = ()
    schedules: tuple[Kept, ...] = ()
    gates: tuple[Waiting, ...] = ()


Fact = (
    Declared | Changed | Deleted | Published | Removed | Returned | Died | Rehomed | Limited | Gated | Joined | Tallied
)
"""What happened to one queue."""
Change = Fact | Routed | Sequenced
"""What happened to queues, and to producers with them."""
ScheduleFact = Scheduled | Unscheduled | Fired
"""What happened to one schedule."""
Record = Change | ScheduleFact | Preamble
