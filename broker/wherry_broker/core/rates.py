"""How fast something happens, and how fast it may: an average that forgets, a line of those who wait, and tokens."""

from __future__ import annotations

from math import exp

TAU_MS = 5_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
BURST_MS = 100
"""How much of a rate may be spent at once, by the time that it takes to gather."""


class Meter:
    """Events a second, averaged over about the last five seconds.

    An exponentially decaying sum, divided by the part of its window that has passed since the first event, so that it
    is right from the start and not only once the window is full.
    """

    __slots__ = ("_since_ms", "_stamp_ms", "_sum", "total")

    def __init__(self) -> None:
        self.total = 0
        self._sum = 0.0
        self._since_ms = 0
        self._stamp_ms = 0

    def add(self, count: int, now_ms: int) -> None:
        """Takes note of `count` events."""
        self._sum = self._decayed(now_ms)
        if self._sum < 1e-3:  # noqa: PLR2004 (less than a thousandth of an event is left of the past: begin anew)
            self._sum, self._since_ms = 0.0, now_ms
        self._sum += count
        self._stamp_ms = now_ms
        self.total += count

    def skip(self, now_ms: int) -> None:
        """Leaves the time since the last event out of the average: nothing could have happened in it."""
        idle_ms = max(0, now_ms - self._stamp_ms)
        self._since_ms += idle_ms
        self._stamp_ms += idle_ms

    def per_second(self, now_ms: int) -> float:
        """Events a second; 0 when nothing has happened for a while."""
        elapsed_ms = now_ms - self._since_ms
        if not self._sum or elapsed_ms <= 0:
            return 0.0
        # The window that an exponential average has seen after `elapsed` is tau * (1 - exp(-elapsed / tau)).
        return self._decayed(now_ms) * 1000 / (TAU_MS * (1 - exp(-elapsed_ms / TAU_MS)))

    def _decayed(self, now_ms: int) -> float:
        """What is left of the sum; all of it when the clock stands before the last event, as after it was set back."""
        return self._sum * exp(min(0, self._stamp_ms - now_ms) / TAU_MS)


class Line:
    """Those who were told when to come back, so that nobody is told a moment that others were told already.

    Only the moment is kept that the last of them was told: what was promised is over by itself, whether they come back
    then or not at all.
    """

    __slots__ = ("_end_ms",)

    def __init__(self) -> None:
        self._end_ms = 0

    def wait_ms(self, missing: int, more: int, per_second: float, now_ms: int) -> float:
        """How long until `more` fit, of which `missing` are too many now, once all have what they were promised.

        Args:
            missing: how much has to be freed for it if nobody else comes.
            more: how much it takes.
            per_second: how fast it is freed; more than 0.
            now_ms: the time.
        """
        alone_ms = 1000 * missing / per_second
        return max(alone_ms, self._end_ms - now_ms + 1000 * more / per_second)

    def join(self, end_ms: int) -> None:
        """One more was told to come back at `end_ms`."""
        self._end_ms = max(self._end_ms, end_ms)


class Bucket:
    """Tokens that come at a rate; whoever finds it empty waits for the next one.

    Kept as one moment, in the manner of the generic cell rate algorithm (ATM Forum, 1996): all tokens that came up to
    `_spent_ns` are spent. It holds what comes in BURST_MS, and at least one. In whole nanoseconds, so that a token that
    was promised for a moment is there at that moment.

    Args:
        rate_per_s: how many tokens come a second.

    Attributes:
        due_ms: when somebody is to be told of the next token; see `timers`.
        timer: the entry in `Timers` that stands for it; 0 when none does.
    """

    __slots__ = ("_burst", "_interval_ns", "_spent_ns", "due_ms", "timer")

    def __init__(self, rate_per_s: float) -> None:
        self._interval_ns = max(1, round(NS_PER_S / rate_per_s))
        self._burst = max(1, int(rate_per_s * BURST_MS / 1000))
        self._spent_ns = -self._burst * self._interval_ns
        self.due_ms = 0
        self.timer = 0

    def available(self, now_ms: int) -> int:
        """How many tokens there are."""
        return min(self._burst, max(0, (now_ms * NS_PER_MS - self._spent_ns) // self._interval_ns))

    def is_full(self, now_ms: int) -> bool:
        """Whether as many are there as it holds."""
        return self.available(now_ms) == self._burst

    def take(self, count: int, now_ms: int) -> None:
        """Spends tokens, of which there are so many."""
        full_ns = now_ms * NS_PER_MS - self._burst * self._interval_ns
        self._spent_ns = max(self._spent_ns, full_ns) + count * self._interval_ns

    def next_ms(self) -> int:
        """When there is a token, at the latest."""
        return -(-(self._spent_ns + self._interval_ns) // NS_PER_MS)
