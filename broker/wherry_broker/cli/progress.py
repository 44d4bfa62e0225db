"""A line on standard error that says how far a long work is; only on a terminal, and only after a second."""

from __future__ import annotations

import shutil
import sys
import time

from wherry_broker.cli.output import counted, printable

QUIET_S = 1.0
EVERY_S = 0.2
BAR = 30
"""How long the bar of a copy is, in characters."""
MIB = 1_048_576
CLEAR = "\r\x1b[K"
"""Takes away what stands in the line."""


def bar(share: float) -> str:
    """How far something is, from 0 to 1, as a bar and in per cent."""
    return f"[{('#' * round(BAR * share)).ljust(BAR, '.')}] {share:4.0%}"


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
        sys.stderr.write(f"{CLEAR}{self._text(self.count / (now - self._started))}{end}")
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
        return f"{bar(share)} of {self._total / MIB:,.0f} MiB, {rate / MIB:,.0f} MiB a second"


class Standing:
    """One line on a terminal that says how something stands, until it is over; nothing anywhere else.

    Attributes:
        is_seen: whether there is a terminal.
    """

    def __init__(self) -> None:
        self.is_seen = sys.stderr.isatty()
        self._shown = False

    def tell(self, text: str) -> None:
        """Says how it stands now, as much of it as fits into one line."""
        if self.is_seen:
            self._shown = True
            sys.stderr.write(f"{CLEAR}{printable(text)[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()

    def clear(self) -> None:
        """It is over: takes the line away, if there was any."""
        if self._shown:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()
