"""The minutes of time zones, walked one by one: what cron expressions mean, worked out with no cron library."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE, QUARTER, DAY = timedelta(minutes=1), timedelta(minutes=15), timedelta(days=1)
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
ZONES = [
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/Havana",  # changes at midnight
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kolkata",  # never, and is half an hour beside the others
    "Africa/Casablanca",  # goes back for Ramadan, in spring
    "Pacific/Chatham",  # at 2:45 and 3:45
]
BOUNDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]


class Oracle:
    """The minutes of a zone, a quarter of an hour at a time: no zone here is beside the others by less.

    Attributes:
        quarters: its moment, its wall time, and whether no clock is changed in it or as it begins.
    """

    def __init__(self, zone: str, start: datetime = START, end: datetime = END) -> None:
        self.zone = ZoneInfo(zone)
        self.quarters = []
        at, before = start, (start - QUARTER).astimezone(self.zone)
        while at < end:
            local = at.astimezone(self.zone)
            self.quarters.append((at, local, before.utcoffset() == local.utcoffset()))
            at, before = at + QUARTER, local

    def due(self, cron: str, after: datetime = START - MINUTE) -> Iterator[datetime]:
        texts = cron.split()
        wanted = [values(text, *bounds) for text, bounds in zip(texts, BOUNDS, strict=True)]
        fixed = not texts[0].startswith("*") and not texts[1].startswith("*")
        both = texts[2].startswith("*") or texts[4].startswith("*")
        for at, local, is_plain in self.quarters[max(0, (after - self.quarters[0][0]) // QUARTER) :]:
            if not is_plain:
                due = [n for n in range(15) if self.is_due(at + n * MINUTE, wanted, fixed, both)]
            elif not (fixed and local.fold) and is_wanted(local, wanted, both, with_minute=False):
                due = [n for n in range(15) if local.minute + n in wanted[0]]
            else:
                continue
            yield from (at + n * MINUTE for n in due if at + n * MINUTE > after)

    def is_due(self, at: datetime, wanted, fixed, both) -> bool:
        local, before = at.astimezone(self.zone), (at - MINUTE).astimezone(self.zone)
        if is_wanted(local, wanted, both) and not (fixed and local.fold):
            return True
        wall, end = before.replace(tzinfo=None) + MINUTE, local.replace(tzinfo=None)
        while fixed and wall < end:
            if is_wanted(wall, wanted, both):
                return True
            wall += MINUTE
        return False


def is_wanted(wall: datetime, wanted, both, *, with_minute: bool = True) -> bool:
    minutes, hours, days, months, weekdays = wanted
    if wall.hour not in hours or wall.month not in months or (with_minute and wall.minute not in minutes):
        return False
    by_day, by_weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
    return by_day and by_weekday if both else by_day or by_weekday


def values(text: str, low: int, high: int) -> set[int]:
    """What one field of an expression takes, of those that the tests use."""
    result: set[int] = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        end = int(last) if last else high if step else int(first)
        result |= set(range(int(first), end + 1, int(step or 1)))
    return result


oracle = cache(Oracle)
