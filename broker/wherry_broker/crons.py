"""When a cron expression is due, in the wall time of a zone. cronsim knows cron; what zones do to it is decided here.

Everything is a calculation, but that zoneinfo reads a zone's data from the disk when it is first asked for. So the
core does not import this: it is handed `moments`, and what came of it is in the log.

The rules are cron's own (Debian's cron(8), "daylight saving time"; protocol.md, section 6). An expression whose minute
and hour both do not begin with a star names fixed times: one that a day leaves out is due right after the gap, and one
that a day has twice is due the first time. All other expressions follow the wall clock: what a day leaves out is not
due, and what it has twice is due twice.

cronsim is only asked for wall times, without a zone: with one, it loses what is due in the first half hour after a
change of thirty minutes (Lord Howe Island).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_STRETCH_MIN = timedelta(days=7)
"""No zone changes its clocks there and back in less."""


def moments(cron: str, zone: str, after_ms: int) -> Iterator[int]:
    """The moments at which a cron expression is due.

    Args:
        cron: minute, hour, day of month, month, day of week; with lists, ranges, steps, names, L, LW and #.
        zone: the IANA name of a time zone, such as `Europe/Paris`.
        after_ms: a moment; those after it are wanted.

    Returns:
        Milliseconds since 1970, ascending. They end where nothing is due for fifty years.

    Raises:
        ValueError: there is no such zone, or it is no cron expression; the text names it.
    """
    info = zone_of(zone)
    check(cron)
    after = _EPOCH + timedelta(seconds=after_ms // 1000)
    found = _fixed(cron, info, after) if _is_fixed(cron) else _running(cron, info, after)
    return _milliseconds(found)


@lru_cache(maxsize=1024)
def check(cron: str) -> None:
    """Sees that an expression can be read.

    Raises:
        ValueError: it cannot.
    """
    fields = len(cron.split())
    if fields != FIELDS:
        raise ValueError(f"cron expression {cron[:80]!r} has {fields} fields, not the {FIELDS} that it should have")
    try:
        CronSim(cron, datetime(2000, 1, 1))  # noqa: DTZ001 (a wall time)
    except CronSimError as error:
        text = str(error)
        raise ValueError(f"cron expression {cron[:80]!r} cannot be read: {text[:1].lower()}{text[1:]}") from error


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """A time zone.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # not known; no possible name; the name of a folder
        raise ValueError(f"there is no time zone {name[:80]!r}; write an IANA name, such as Europe/Paris") from error


def _is_fixed(cron: str) -> bool:
    minute, hour = cron.split()[:2]
    return not minute.startswith("*") and not hour.startswith("*")


def _milliseconds(found: Iterator[datetime]) -> Iterator[int]:
    try:
        for moment in found:
            yield int((moment - _EPOCH).total_seconds()) * 1000
    except OverflowError:  # the year 10000
        return


def _walls(cron: str, after: datetime) -> Iterator[datetime]:
    """The wall times at which an expression is due, as if no clock were ever changed."""
    return CronSim(cron, after.replace(tzinfo=None))


def _fixed(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Each wall time once: the first time that a clock shows it, or as soon as a clock shows a later one."""
    last = after
    for wall in _walls(cron, after.astimezone(zone)):
        moment = wall.replace(tzinfo=zone).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) != wall:
            moment = _change(wall.replace(tzinfo=zone, fold=1).astimezone(UTC), moment, zone)
        if moment > last:  # the second one that a gap has put off is the same as the first
            last = moment
            yield moment


def _running(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Each wall time as often as a clock shows it: the time is taken in stretches in which no clock is changed."""
    within, offset = after, _offset(after, zone)
    walls = _walls(cron, after + offset)
    wall = next(walls, None)
    while wall is not None:
        moment = wall.replace(tzinfo=UTC) - offset
        seen = moment if moment - within <= _STRETCH_MIN else within + _STRETCH_MIN
        if _offset(seen, zone) != offset:
            within = _change(within, seen, zone)
            offset = _offset(within, zone)
            walls = _walls(cron, within - _SECOND + offset)
            wall = next(walls, None)
            continue
        within = seen
        if seen == moment:
            yield moment
            wall = next(walls, None)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None, zone
    return offset


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first moment of another offset, after `low` and not after `high`, which has another one."""
    offset = _offset(low, zone)
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        if _offset(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return high
