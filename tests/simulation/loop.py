"""An event loop without a world: callbacks, timers and virtual time, moved by hand."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush


class Timer:
    """What `call_later` returns."""

    __slots__ = ("callback", "cancelled")

    def __init__(self, callback):
        self.callback = callback
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


class VirtualClock:
    """The time of the simulated world.

    Attributes:
        steady_ms: what a monotonic clock shows.
        wall_ms: what is added to that for the time of day.
    """

    def __init__(self, wall_ms):
        self.steady_ms = 0
        self.wall_ms = wall_ms

    def now_ms(self):
        return self.steady_ms + self.wall_ms


class VirtualLoop:
    """As much of an event loop as a pump asks for.

    Attributes:
        ready: the callbacks that run next, in order.
    """

    def __init__(self, clock):
        self._clock = clock
        self.ready = deque()
        self._timers = []
        self._number = 0

    def call_soon(self, callback, *args):
        self.ready.append((callback, args))

    def call_later(self, delay_s, callback):
        self._number += 1
        timer = Timer(callback)
        heappush(self._timers, (self._clock.steady_ms + delay_s * 1000, self._number, timer))
        return timer

    def time(self):
        return self._clock.steady_ms / 1000

    def run_one(self):
        """Runs the next callback."""
        callback, args = self.ready.popleft()
        callback(*args)

    def next_ms(self):
        """When the next timer runs; None when there is none."""
        while self._timers and self._timers[0][2].cancelled:
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def pass_time(self):
        """Makes ready what is due."""
        now = self._clock.steady_ms
        while self._timers and self._timers[0][0] <= now:
            timer = heappop(self._timers)[2]
            if not timer.cancelled:
                self.ready.append((timer.callback, ()))
