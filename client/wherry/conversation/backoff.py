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
RECONNECT_BASE_S = 0.1
RECONNECT_CAP_S = 5.0


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


def reconnect_pause_s(tries: int, jitter: float) -> float:
    """How long to wait before the next attempt to connect: exponential, with full jitter.

    Args:
        tries: how many attempts have failed, from 0; the first one comes nearly at once.
        jitter: a random number from 0 to 1.
    """
    grown = RECONNECT_BASE_S * BACK_OFF_FACTOR ** min(tries, BACK_OFF_DOUBLINGS_MAX)
    return jitter * min(RECONNECT_CAP_S, grown)
