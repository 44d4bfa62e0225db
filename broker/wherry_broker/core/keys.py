"""What limits the deliveries of a queue by key: one at a time and in order, so many leased, so many a second.

Nothing here is durable: it is counted from the spans, and made anew when the options change. Messages without a key
are limited by none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry_broker.core.batch import DELAYED, LEASED
from wherry_broker.core.memory import LIMITED_BYTES
from wherry_broker.core.rates import Bucket
from wherry_broker.core.turns import UNLIMITED

if TYPE_CHECKING:
    from wherry_broker.core.batch import Span
    from wherry_broker.core.memory import Memory
    from wherry_broker.core.options import QueueOptions
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.timers import Timers


class Throttle(Bucket):
    """The tokens of a queue, or of one key of it."""

    __slots__ = ("key", "queue")

    def __init__(self, rate_per_s: float, queue: Queue, key: str = "") -> None:
        super().__init__(rate_per_s)
        self.queue = queue
        self.key = key


class Key:
    """One key: how many of its messages are leased, and how many wait for their next attempt."""

    __slots__ = ("leased", "retrying", "throttle")

    def __init__(self, throttle: Throttle | None) -> None:
        self.leased = 0
        self.retrying = 0
        self.throttle = throttle


class Keys:
    """The keys of which something is leased, or was a moment ago.

    Args:
        queue: whose options limit keys.
        timers: where a key waits whose rate is spent.
        memory: where it is told how many keys there are.
    """

    def __init__(self, queue: Queue, timers: Timers, memory: Memory) -> None:
        options = queue.options
        self._queue = queue
        self._ordered = options.ordered
        self._leased_max = options.key_max_leased or UNLIMITED
        self._rate_per_s = options.key_rate_per_s
        self._timers = timers
        self._memory = memory
        self._keys: dict[str, Key] = {}
        self._idle: dict[str, None] = {}  # those of which nothing is leased, kept for what is spent of their rate

    @staticmethod
    def limited_by(options: QueueOptions) -> bool:
        """Whether these options limit keys."""
        return bool(options.ordered or options.key_max_leased or options.key_rate_per_s)

    def allowed(self, name: str, now_ms: int) -> int:
        """How many messages of a key may be leased now; a key whose rate is spent is told of when it no longer is."""
        if not name:
            return UNLIMITED
        key = self._keys.get(name) or self._active(name)
        count = int(not key.leased and not key.retrying) if self._ordered else self._leased_max - key.leased
        if key.throttle is None or count <= 0:
            return count
        tokens = key.throttle.available(now_ms)
        if not tokens:
            self._timers.arm(key.throttle, key.throttle.next_ms())
        return min(count, tokens)

    def find(self, name: str) -> Key | None:
        """The key of a name, if it is limited by anything now."""
        return self._keys.get(name)

    def spend(self, name: str, count: int, now_ms: int) -> None:
        """Takes note that messages of a key are delivered."""
        key = self._keys.get(name)
        if key is not None and key.throttle is not None:
            key.throttle.take(count, now_ms)
        self._forget_idle(now_ms)

    def count(self, span: Span, count: int) -> bool:
        """Counts messages that are in the state of `span` now; less than 0 for those that are so no more.

        Returns:
            Whether more of the key may be leased than before.
        """
        name = span.batch.envelope.key
        retrying = span.state == DELAYED and span.attempt > 0
        if not name or not (retrying or span.state == LEASED):
            return False
        key = self._active(name)
        if retrying:
            key.retrying += count
        else:
            key.leased += count
        if not key.leased and not key.retrying:
            self._rest(name, key)
        return count < 0

    def clear(self) -> None:
        """Forgets all keys."""
        for key in self._keys.values():
            if key.throttle is not None:
                self._timers.disarm(key.throttle)
        self._memory.free(LIMITED_BYTES * len(self._keys))
        self._keys.clear()
        self._idle.clear()

    def _active(self, name: str) -> Key:
        key = self._keys.get(name)
        if key is None:
            self._memory.take(LIMITED_BYTES)
            key = self._keys[name] = Key(Throttle(self._rate_per_s, self._queue, name) if self._rate_per_s else None)
        self._idle.pop(name, None)
        return key

    def _rest(self, name: str, key: Key) -> None:
        if key.throttle is None:
            del self._keys[name]
            self._memory.free(LIMITED_BYTES)
        else:
            self._idle[name] = None

    def _forget_idle(self, now_ms: int) -> None:
        """Forgets the keys that have rested for longest, once nothing is spent of their rate."""
        while self._idle:
            name = next(iter(self._idle))
            throttle = self._keys[name].throttle
            if throttle is None or not throttle.is_full(now_ms):
                return
            self._timers.disarm(throttle)
            del self._idle[name], self._keys[name]
            self._memory.free(LIMITED_BYTES)
