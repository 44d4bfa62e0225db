"""Durations and moments, from what users write to the wire's milliseconds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from wherry.model.fields import DURATION_MAX_MS

Duration = float | timedelta
"""Seconds, or a timedelta."""


def to_ms(duration: Duration) -> int:
    """A duration in whole milliseconds.

    Args:
        duration: seconds as int or float, or a timedelta; 0 or more.

    Raises:
        ValueError: it is negative, not a number, or over a hundred years.
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not 0 <= seconds * 1000 <= DURATION_MAX_MS:
        raise ValueError(f"a duration is 0 seconds to 100 years, not {duration!r}")
    return round(seconds * 1000)


def moment_ms(moment: datetime) -> int:
    """A moment in milliseconds since 1970.

    Raises:
        ValueError: it does not know its time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"a moment needs a time zone: {moment!r} has none")
    return round(moment.timestamp() * 1000)


def from_moment_ms(moment: int) -> datetime:
    """The moment of so many milliseconds since 1970, in UTC."""
    return datetime.fromtimestamp(moment / 1000, timezone.utc)  # noqa: UP017 (the name says it on every version)
