"""The loads of loopback.py."""

from __future__ import annotations

from dataclasses import dataclass

DONE_BYTES = 8
"""The length of the file that the workers of a case share."""


@dataclass(frozen=True)
class Case:
    """One load.

    Attributes:
        size: the bytes of a body; its first eight are the time of its publish.
        per_call: how many messages a `publish_many` has; 0 for `publish`.
        flight: how many messages are published and not confirmed.
        count: how many messages there are.
        rate_per_s: how many messages are published a second; 0 for as many as go.
        shared: a file in which the consumer counts what it got; "" when nothing consumes.
    """

    size: int
    per_call: int
    flight: int
    count: int
    rate_per_s: int = 0
    shared: str = ""


FLIGHT = 1_000
MEMORY_MESSAGES = 1_000_000
BIG = "1 KiB x 100"

LOADS = {
    "100 B x 100": Case(100, 100, FLIGHT, 2_000_000),
    BIG: Case(1024, 100, FLIGHT, 600_000),
    "100 B x 1": Case(100, 1, FLIGHT, 150_000),
    "1 KiB x 1": Case(1024, 1, FLIGHT, 100_000),
    "100 B single": Case(100, 0, FLIGHT, 200_000),
    "100 B at 1,000/s": Case(100, 0, 1, 5_000, rate_per_s=1_000),
}
HOARDS = {
    "1 M queued x 100": Case(100, 100, FLIGHT, MEMORY_MESSAGES),
    "1 M queued single": Case(100, 0, FLIGHT, MEMORY_MESSAGES),
    "1 M queued x 1": Case(100, 1, FLIGHT, MEMORY_MESSAGES),
}
