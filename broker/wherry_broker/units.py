"""Durations and sizes as people write them: `30`, `250ms`, `5m`, `1d`; `1000`, `64KiB`, `256MiB`."""

from __future__ import annotations

import math
import re

DURATION_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SIZE_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_NUMBER = re.compile(r"([0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)", re.ASCII)


def duration_ms(text: str) -> int:
    """A duration in milliseconds; a number without a unit is seconds.

    Raises:
        ValueError: the text is no duration; what it says follows "is".
    """
    match = _NUMBER.fullmatch(text.strip())
    unit_ms = DURATION_MS.get((match[2] or "s").lower()) if match else None
    if match is None or unit_ms is None:
        raise ValueError(f"not a duration: write seconds, or a number with one of {', '.join(DURATION_MS)}")
    return math.ceil(float(match[1]) * unit_ms)


def size_bytes(text: str) -> int:
    """A size in bytes, or a plain count.

    Raises:
        ValueError: the text is no size; what it says follows "is".
    """
    match = _NUMBER.fullmatch(text.strip())
    unit_bytes = SIZE_BYTES.get(match[2].upper()) if match else None
    if match is None or unit_bytes is None:
        raise ValueError("not a size: write a number of bytes, or one with B, KB, MB, GB, KiB, MiB or GiB")
    whole = match[1].replace("_", "")
    return int(whole) * unit_bytes if whole.isdigit() else round(float(whole) * unit_bytes)
