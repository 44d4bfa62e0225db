"""Tasks that take long, each in a way of its own; the first thing that an attempt does is to leave a line."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from wherry.tasks import Tasks, current

LEASE_S = 2.0
SHORT_S = 0.2

tasks = Tasks(prefix="held", timeout=60)


def _begin(told: str, name: str) -> int:
    attempt = current().attempt
    with Path(told).open("a", encoding="utf-8") as file:
        file.write(f"{name} {attempt}\n")
    return attempt


def _hold(seconds: float) -> None:
    """Keeps the interpreter for itself, as a long call into C does that does not let go of it."""
    ctypes.PyDLL(None).usleep(round(seconds * 1e6))


@tasks.task(lease=LEASE_S)
def waits(seconds: float, told: str) -> int:
    """Blocks its thread."""
    attempt = _begin(told, "waits")
    time.sleep(seconds)
    return attempt


@tasks.task(lease=LEASE_S)
def computes(seconds: float, told: str) -> int:
    """Computes in Python, which lets go of the interpreter only when it is asked to."""
    attempt, until, n = _begin(told, "computes"), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        n += 1
    return attempt


@tasks.task(lease=LEASE_S, process=True)
def holds_apart(seconds: float, told: str) -> int:
    """Holds the interpreter of a process of its own."""
    attempt = _begin(told, "holds_apart")
    _hold(seconds)
    return attempt


@tasks.task(lease=SHORT_S)
def holds(seconds: float, told: str) -> int:
    """Holds the interpreter of the worker, at its first attempt."""
    attempt = _begin(told, "holds")
    if attempt == 1:
        _hold(seconds)
    return attempt
