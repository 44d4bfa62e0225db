"""The clock: wall time in milliseconds that never goes back while the process lives."""

from __future__ import annotations

import time


class Clock:
    """Wall time at the start, and monotonic time from there on, so that a jump of the wall clock moves no timer."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        """The time, in milliseconds since 1970."""
        return (self._offset_ns + time.monotonic_ns()) // 1_000_000
