"""What a check finds."""

from __future__ import annotations

from typing import NamedTuple


class Violation(NamedTuple):
    """A broken promise.

    Attributes:
        check: its number, K1 to K9.
        t: when it showed, in seconds of CLOCK_MONOTONIC.
        text: what happened, with ids and times.
    """

    check: str
    t: float
    text: str

    def __str__(self) -> str:
        return f"{self.check} at {self.t:.6f}: {self.text}"
