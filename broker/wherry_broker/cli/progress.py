"""A line on standard error that says how far a long work is; only on a terminal, and only after a second."""

from __future__ import annotations

import sys
import time

QUIET_S = 1.0
EVERY_S = 0.2


class Progress:
    """Counts messages and shows them.

    Args:
        verb: what is done to them, such as "published".
    """

    def __init__(self, verb: str) -> None:
        self.count = 0
        self._verb = verb
        self._terminal = sys.stderr.isatty()
        self._started = time.monotonic()
        self._due = self._started + QUIET_S
        self._shown = False

    def add(self, count: int) -> None:
        """So many more are done."""
        self.count += count
        if self._terminal and time.monotonic() >= self._due:
            self._show("")

    def end(self) -> None:
        """All are done: leaves the last line standing, if there was any."""
        if self._shown:
            self._show("\n")

    def _show(self, end: str) -> None:
        now = time.monotonic()
        self._due = now + EVERY_S
        self._shown = True
        rate = self.count / (now - self._started)
        text = f"\r\x1b[K{self._verb} {self.count:,} messages, {rate:,.0f} a second{end}"
        sys.stderr.write(text)
        sys.stderr.flush()
