"""An event loop and a transport that do nothing by themselves: the time and the other end are the test's."""

from __future__ import annotations

from typing import Any


class FakeTimer:
    """What `call_later` returns."""

    def __init__(self, at: float, call) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """An event loop whose time stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[FakeTimer] = []
        self._soon: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call, *arguments) -> FakeTimer:
        timer = FakeTimer(self.now + delay, lambda: call(*arguments))
        self._timers.append(timer)
        return timer

    def call_soon(self, call, *arguments) -> None:
        self._soon.append(lambda: call(*arguments))

    @property
    def timers(self) -> list[FakeTimer]:
        """Those that still run, the earliest first."""
        self._timers = sorted((each for each in self._timers if not each.cancelled), key=lambda each: each.at)
        return self._timers

    def turn(self) -> None:
        """Runs what was asked for with `call_soon`, and what that asks for."""
        while self._soon:
            soon, self._soon = self._soon, []
            for call in soon:
                call()

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.turn()
        end = self.now + seconds
        while (timers := self.timers) and timers[0].at <= end + 1e-9:
            timer = self._timers.pop(0)
            self.now = max(self.now, timer.at)
            timer.call()
            self.turn()
        self.now = end


class FakeTransport:
    """The broker's end of a socket; `reads` is whether the client takes what is written to it."""

    def __init__(self, loop: FakeLoop) -> None:
        self._loop = loop
        self.protocol: Any = None
        self.written = bytearray()
        self.waiting = 0
        self.reads = True
        self.paused = self.closing = self.reading_paused = self.aborted = False
        self.high = self.low = 0

    def get_extra_info(self, name: str):
        return ("192.0.2.7", 4711) if name == "peername" else None

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self.high, self.low = high, low

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return not self.reading_paused

    def pause_reading(self) -> None:
        assert not self.closing
        self.reading_paused = True

    def resume_reading(self) -> None:
        assert not self.closing
        self.reading_paused = False

    def write(self, data: bytes) -> None:
        if self.closing:
            raise RuntimeError("uvloop raises it for a handler that is closed")
        self.written += data
        if self.reads:
            return
        self.waiting += len(data)
        if self.waiting > self.high and not self.paused:
            self.paused = True
            self.protocol.pause_writing()

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def take(self, size: int) -> None:
        """The client takes some of what waits."""
        self.waiting -= min(size, self.waiting)
        if self.paused and self.waiting <= self.low:
            self.paused = False
            self.protocol.resume_writing()
        if self.closing and not self.waiting:
            self._lose()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.waiting:
                self._lose()

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.waiting = 0
        self._lose()

    def _lose(self) -> None:
        self._loop.call_soon(self.protocol.connection_lost, None)
