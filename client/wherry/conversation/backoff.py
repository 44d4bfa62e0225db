"""How long to wait before the next try. Pure: the jitter is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry import errors

JITTER_PART = 0.5
"""How much of the hint the first pause may be longer by. The broker tells those who wait different moments already."""
BACK_OFF_FACTOR = 2.0
BACK_OFF_CAP_S = 30.0
BACK_OFF_DOUBLINGS_MAX = 32


def busy_pause_s(busy: errors.Busy, tries: int, left_s: float, jitter: float) -> float:
    """How long to wait after a refusal: the broker's hint, and full jitter on top, which grows from try to try.

    The last try comes when the caller's time is over.

    Args:
        busy: the refusal.
        tries: how many tries were made, from 1.
        left_s: how much time the caller has left, in seconds.
        jitter: a random number from 0 to 1.

    Returns:
        Seconds; 0 when the queue is not full, and a neighbour in the same frame was refused.

    Raises:
        Busy: the caller's time is over.
    """
    if not busy.retry_after:
        return 0.0
    if left_s <= 0:
        raise busy
    growth = JITTER_PART * BACK_OFF_FACTOR ** min(tries - 1, BACK_OFF_DOUBLINGS_MAX)
    grown = min(BACK_OFF_CAP_S, busy.retry_after * growth)
    return min(busy.retry_after + jitter * grown, left_s)
