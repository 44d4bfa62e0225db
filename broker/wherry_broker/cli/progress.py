"""A line on standard error that says how far a long work is; only on a terminal, and only after a second."""

from __future__ import annotations

import sys
import time

from wherry_broker.cli.output import counted

QUIET_S = 1.0
EVERY_S = 0.2
BAR = 30
"""How long the bar of a copy is, in characters."""
MIB = 1_048_576


class Line:
    """One line on a terminal that is written again as the work goes on; nothing anywhere else.

    Attributes:
        count: how much is done.
    """

    def __init__(self) -> None:
        self.count = 0
        self._terminal = sys.stderr.isatty()
        self._started = time.monotonic()
        self._due = self._started + QUIET_S
        self._shown = False

    def add(self, count: int) -> None:
        """So much more is done."""
        self.count += count
        if self._terminal and time.monotonic() >= self._due:
            self._show("")

    def end(self) -> None:
        """All is done, or the work ends: leaves the last line standing, if there was any."""
        if self._shown:
            self._show("\n")

    def _show(self, end: str) -> None:
        now = time.monotonic()
        self._due = now + EVERY_S
        self._shown = True
        sys.stderr.write(f"\r\x1b[K{self._text(self.count / (now - self._started))}{end}")
        sys.stderr.flush()

    def _text(self, rate: float) -> str:
        """What the line says, at so much a second."""
        return f"{self.count:,}, {rate:,.0f} a second"


class Progress(Line):
    """Counts messages and shows them.

    Args:
        verb: what is done to them, such as "published".
    """

    def __init__(self, verb: str) -> None:
        super().__init__()
        self._verb = verb

    def _text(self, rate: float) -> str:
        return f"{self._verb} {counted(self.count, 'message')}, {rate:,.0f} a second"


class Copying(Line):
    """Shows how much of a known number of bytes is copied.

    Args:
        total: how many there are.
    """

    def __init__(self, total: int) -> None:
        super().__init__()
        self._total = total

    def _text(self, rate: float) -> str:
        share = self.count / self._total if self._total else 1.0
        bar = ("#" * round(BAR * share)).ljust(BAR, ".")
        return f"[{bar}] {share:4.0%} of {self._total / MIB:,.0f} MiB, {rate / MIB:,.0f} MiB a second"
