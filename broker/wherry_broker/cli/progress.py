"""A line on standard error that says how far a long work is; only on a terminal, and only after a second."""

from __future__ import annotations

import sys
import time

QUIET_S = 1.0
EVERY_S = 0.2
BAR = 30
"""How long the bar of a copy is, in characters."""
MIB = 1_048_576


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


class Copying:
    """Shows how much of a known number of bytes is copied.

    Args:
        total: how many there are.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._copied = 0
        self._terminal = sys.stderr.isatty()
        self._started = time.monotonic()
        self._due = self._started + QUIET_S
        self._shown = False

    def add(self, size: int) -> None:
        """So many more bytes are copied."""
        self._copied += size
        if self._terminal and time.monotonic() >= self._due:
            self._show("")

    def end(self) -> None:
        """All are copied, or the work ends: leaves the last line standing, if there was any."""
        if self._shown:
            self._show("\n")

    def _show(self, end: str) -> None:
        now = time.monotonic()
        self._due = now + EVERY_S
        self._shown = True
        share = self._copied / self._total if self._total else 1.0
        bar = ("#" * round(BAR * share)).ljust(BAR, ".")
        rate = self._copied / (now - self._started)
        text = f"[{bar}] {share:4.0%} of {self._total / MIB:,.0f} MiB, {rate / MIB:,.0f} MiB a second"
        sys.stderr.write(f"\r\x1b[K{text}{end}")
        sys.stderr.flush()
