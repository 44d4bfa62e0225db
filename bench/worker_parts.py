"""What the workers of several benchmarks share: a count in shared memory, and how they begin together."""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from loads import DONE_BYTES

if TYPE_CHECKING:
    from loads import Case

STAMP = struct.Struct(">Q")
BACKLOG_MAX = 20_000
"""How far the producer may be ahead of the consumer, so that the queue stays short whichever of them is slower."""


def counter(case: Case) -> memoryview:
    """The consumer's count, as both processes see it."""
    if not case.shared:
        return memoryview(bytearray(DONE_BYTES)).cast("Q")
    with Path(case.shared).open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), DONE_BYTES)).cast("Q")


def rendezvous() -> tuple[float, float]:
    """Says that all is ready, and waits for the word; returns the time and the CPU time then, in seconds."""
    print("ready", flush=True)
    sys.stdin.readline()
    return time.monotonic(), time.process_time()
