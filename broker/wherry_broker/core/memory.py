"""Memory: how much of it all that the broker holds takes, counted in one place.

A message takes more than its bytes: Python objects stand around each batch, each span, each key. The figures below are
measured (decision 0017), a little more than what the allocator really hands out, so that the process stays under the
bound and what it needs for itself. Whatever takes memory in proportion to what clients store takes it from here, and
frees as much when it goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry_broker.core.rates import Line, Meter

if TYPE_CHECKING:
    from wherry_broker.core.batch import Batch, Failure, Span
    from wherry_broker.core.producers import Producers
    from wherry_broker.core.timers import Timers

UNBOUNDED = 1 << 62
QUEUE_BYTES = 5_120
"""A queue, and what it needs once it has been used."""
BATCH_BYTES = 640
"""A batch and its block, its envelope, and its places in the index and in the log; but for its bytes and its spans."""
SPAN_BYTES = 384
"""A span, and its place in a lane, in a consumer's hands, or among the dead."""
MESSAGE_BYTES = 12
"""A message in a batch of many: its length, and where it ends."""
TIMER_BYTES = 144
"""What waits for a moment, and what did until a moment ago."""
LANE_BYTES = 1_152
"""A key that has messages that are ready."""
LIMITED_BYTES = 640
"""A key whose deliveries are limited, as long as some are leased or count against its rate."""
DEDUPE_BYTES = 288
"""A dedupe key that is remembered, but for its text."""
FAILURE_BYTES = 136
"""What is known of a failed attempt, but for its error."""
EVENT_BYTES = 480
"""Something that happened to a tracked message."""
ENDED_BYTES = 112
"""A message that has ended, and is found in a batch of outcomes."""
PRODUCER_BYTES = 640
"""A producer that numbers its publishes."""
SEQUENCE_BYTES = 384
"""A publish of it that may be sent again."""
TEXT_BYTES = 56
"""A text, but for its characters."""
ANCESTOR_BYTES = 480
"""A message that has sent others, of which some are left, and each batch of these."""
TIGHT_EIGHTHS = 7
"""From how many eighths of the bound on it is told how fast memory is freed, and nothing is kept that need not be."""


class Memory:
    """Counts what is taken.

    Args:
        timers: what waits for a moment.
        producers: what may be sent again.
        bytes_max: how much may be taken before publishes are refused.

    Attributes:
        line: who was told to come back.
        seen_ms: when it was looked last.
    """

    __slots__ = ("_freed", "_held", "_producers", "_seen", "_taken", "_timers", "bytes_max", "line", "seen_ms")

    def __init__(self, timers: Timers, producers: Producers, bytes_max: int = UNBOUNDED) -> None:
        self.bytes_max = bytes_max
        self._timers = timers
        self._producers = producers
        self._held = 0
        self._taken = 0
        self.line = Line()
        self.seen_ms = 0
        self._seen = 0
        self._freed = Meter()

    @property
    def held_bytes(self) -> int:
        """How much is taken now."""
        producers = self._producers
        told = PRODUCER_BYTES * len(producers) + SEQUENCE_BYTES * producers.rows
        return self._held + TIMER_BYTES * self._timers.entries + told

    @property
    def is_tight(self) -> bool:
        """Whether little is left."""
        return 8 * self.held_bytes > TIGHT_EIGHTHS * self.bytes_max

    def take(self, size: int) -> None:
        """Takes `size` bytes more."""
        self._held += size
        self._taken += size

    def free(self, size: int) -> None:
        """Gives `size` bytes back."""
        self._held -= size

    def shift(self, more: int) -> None:
        """What is stored takes `more` bytes from now on, or less; that is not counted as freed."""
        self._held += more
        self._taken += more

    def observe(self, now_ms: int) -> bool:
        """Looks how much was freed since the last time; to be called often, and of use only when little is left.

        Returns:
            Whether it is tight.
        """
        freed, is_tight = self._taken - self._held, self.is_tight
        if is_tight:
            self._freed.add(freed - self._seen, now_ms)
        self._seen, self.seen_ms = freed, now_ms
        return is_tight

    @property
    def freed_per_second(self) -> float:
        """How many bytes were given back a second before the last look; 0 when that is not known."""
        return self._freed.per_second(self.seen_ms)


def batch_bytes(batch: Batch) -> int:
    """What a batch takes, but for its spans and the bytes of its messages."""
    block, key, lineage = batch.block, batch.envelope.key, batch.envelope.lineage
    size = BATCH_BYTES + (MESSAGE_BYTES * block.count if block.count > 1 else 0)
    if lineage:
        size += ANCESTOR_BYTES * len(lineage)
    return size + text_bytes(key) if key else size


def publish_bytes(size: int, count: int, key: str, dedupe: str, ancestors: int = 0) -> int:
    """What a publish of `count` messages, of `size` bytes together, takes at most."""
    needed = ANCESTOR_BYTES * ancestors + BATCH_BYTES + SPAN_BYTES + size + MESSAGE_BYTES * count + 2 * TIMER_BYTES
    if key:
        needed += LANE_BYTES + text_bytes(key)
    return needed + DEDUPE_BYTES + text_bytes(dedupe) if dedupe else needed


def text_bytes(text: str) -> int:
    """What a text takes at most."""
    return TEXT_BYTES + (len(text) if text.isascii() else 4 * len(text))


def story_bytes(span: Span) -> int:
    """What is known of what happened to the messages of a span takes so much."""
    return failure_bytes(span.failure) + EVENT_BYTES * len(span.history)


def failure_bytes(failure: Failure | None) -> int:
    """What is known of a failure takes so much."""
    return 0 if failure is None else FAILURE_BYTES + text_bytes(failure.error)
