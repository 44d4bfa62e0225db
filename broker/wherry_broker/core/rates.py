"""How fast something happens: an average that forgets."""

from __future__ import annotations

from math import exp

TAU_MS = 5_000


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
