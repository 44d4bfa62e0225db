"""A clock that is moved by hand, and as much of an event loop as a broker and a client ask for, by that clock."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET_TURNS = 16
"""After how many turns of the event loop in which nothing came or went all have done what they can do now."""


class Timer:
    """A call at a moment.

    Attributes:
        cancelled: whether it is not to be made.
    """

    __slots__ = ("_call", "_given", "cancelled")

    def __init__(self, call: Callable[..., object], given: tuple[Any, ...]) -> None:
        self.cancelled = False
        self._call = call
        self._given = given

    def cancel(self) -> None:
        """Makes no call."""
        self.cancelled = True

    def fire(self) -> None:
        """Makes the call, unless it was cancelled."""
        if not self.cancelled:
            self._call(*self._given)


class VirtualLoop:
    """The running event loop, but for time: that stands still until `advance` moves it.

    It is the broker's clock as well.

    Args:
        start_ms: what time it is at first, in milliseconds since 1970.
    """

    def __init__(self, start_ms: int) -> None:
        self._start_ms = start_ms
        self._now_s = 0.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_number = 0
        self._calls = 0

    # What a clock has.

    def now_ms(self) -> int:
        """The time of day, in milliseconds since 1970."""
        return self._start_ms + round(self._now_s * 1000)

    # What an event loop has.

    def time(self) -> float:
        """The time, in seconds since this was made."""
        return self._now_s

    def create_future(self) -> asyncio.Future[Any]:
        """One of the running event loop."""
        return asyncio.get_running_loop().create_future()

    def call_soon(self, call: Callable[..., object], *given: Any) -> asyncio.Handle:
        """Has the running event loop make a call in its next turn."""
        self._calls += 1
        return asyncio.get_running_loop().call_soon(call, *given)

    def call_later(self, delay: float, call: Callable[..., object], *given: Any) -> Timer:
        """Makes a call after so many seconds."""
        return self.call_at(self._now_s + delay, call, *given)

    def call_at(self, at: float, call: Callable[..., object], *given: Any) -> Timer:
        """Makes a call at a moment."""
        timer = Timer(call, given)
        self._timer_number += 1
        heappush(self._timers, (at, self._timer_number, timer))
        return timer

    # What moves it.

    async def advance(self, seconds: float) -> None:
        """Lets time pass: from one timer to the next, and each time all do what they can do then."""
        end = self._now_s + seconds
        await self.settle()
        while self._timers and self._timers[0][0] <= end:
            at, _, timer = heappop(self._timers)
            if not timer.cancelled:
                self._now_s = max(self._now_s, at)
                timer.fire()
                await self.settle()
        self._now_s = end
        await self.settle()

    async def settle(self) -> None:
        """Turns the event loop until nothing has come or gone for some turns."""
        quiet = 0
        while quiet < QUIET_TURNS:
            before = self._calls
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._calls == before else 0
