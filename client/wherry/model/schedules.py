"""What users say of schedules, and get to know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from wherry.model.names import message_id
from wherry.model.times import from_moment_ms

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, tzinfo
    from typing import Any

    from wherry.model.fields import ScheduleRow
    from wherry.model.times import Duration


class ScheduleOptions(TypedDict, total=False):
    """When a schedule publishes, and what; exactly one of `cron`, `every` and `at` is given. Durations are seconds.

    Attributes:
        cron: a cron expression: minute, hour, day of the month, month, day of the week.
        zone: the time zone of the expression, by its IANA name or as a `ZoneInfo`; UTC when not given.
        every: the interval, at least 0.1.
        anchor: a moment that the interval counts from, back and forth; when it was scheduled, if not given.
        at: the only moment; at once if it has passed.
        start: no moment is before it.
        end: no moment is after it.
        missed: what becomes of moments that passed while there was no broker, or no room in the queue: `skip` leaves
            them out, `once` (if not given) publishes for the latest, `all` for each, up to a hundred.
        late: how late is still in time, for `missed="skip"`; 60 when not given.
        overlap: `skip` publishes nothing while the message before is still in its queue; `allow` when not given.
        headers: of its messages, beside `schedule` (the name) and `due_ms` (the moment, in ms since 1970).
        priority: of its messages, as for `publish`.
        key: of its messages, as for `publish`.
        ttl: of its messages, as for `publish`.
        track: whether it is remembered how its messages end, as for `publish`; `ScheduleInfo.last_id` is the newest.
    """

    cron: str | None
    zone: str | tzinfo | None
    every: Duration | None
    anchor: datetime | None
    at: datetime | None
    start: datetime | None
    end: datetime | None
    missed: str
    late: Duration
    overlap: str
    headers: Mapping[str, Any] | None
    priority: int
    key: str
    ttl: Duration | None
    track: bool


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """A schedule of the broker, and what has become of it. Durations are seconds, moments are in UTC.

    Attributes:
        name: its name.
        queue: the name of the queue that its messages go to.
        cron: its cron expression; "" for none.
        zone: the time zone of that.
        every: its interval; None for none.
        anchor: what the interval counts from; None for since.
        at: its only moment; None for none.
        start: no moment is before it.
        end: no moment is after it.
        priority: of its messages.
        key: of its messages.
        ttl: of its messages; None for the queue's own.
        missed: what becomes of missed moments: `skip`, `once` or `all`.
        overlap: `skip` or `allow`.
        late: how late is still in time, for `missed` = `skip`.
        size: the bytes of its message, headers included.
        paused: whether it publishes nothing for now.
        since: when it came to be, or came to do what it does.
        next_due: its next moment, which may have passed when it waits to be tried again; None when there is none.
        last_due: the moment that its newest message is for; None when there was none yet.
        last_at: when that was published.
        last_id: the id of that message.
        fired: how many messages it has published.
        missed_count: how many moments went by without one.
        skipped: how many were left out because the message before was still in its queue.
        error: why nothing could be published for its newest moment; "" when something was.
        change: what `schedule` has done: `created`, `changed` or `same`; else "".
        track: whether it is remembered how its messages end.
    """

    name: str
    queue: str
    cron: str
    zone: str
    every: float | None
    anchor: datetime | None
    at: datetime | None
    start: datetime | None
    end: datetime | None
    priority: int
    key: str
    ttl: float | None
    missed: str
    overlap: str
    late: float
    size: int
    paused: bool
    since: datetime
    next_due: datetime | None
    last_due: datetime | None
    last_at: datetime | None
    last_id: str
    fired: int
    missed_count: int
    skipped: int
    error: str
    change: str = ""
    track: bool = False

    @classmethod
    def from_row(cls, row: ScheduleRow, change: str = "") -> ScheduleInfo:
        """What a row of SCHEDULES tells."""
        name, queue, cron, zone, every_ms, anchor_ms, at_ms, start_ms, end_ms, priority, key, ttl_ms = row[:12]
        missed, overlap, late_ms, size, paused, since_ms, next_ms, last_due_ms, last_at_ms = row[12:21]
        last_queue, last_offset, fired, missed_count, skipped, error, track = row[21:28]
        return cls(
            name=name,
            queue=queue,
            cron=cron,
            zone=zone,
            every=every_ms / 1000 or None,
            anchor=_moment(anchor_ms),
            at=_moment(at_ms),
            start=_moment(start_ms),
            end=_moment(end_ms),
            priority=priority,
            key=key,
            ttl=ttl_ms / 1000 or None,
            missed=missed,
            overlap=overlap,
            late=late_ms / 1000,
            size=size,
            paused=paused,
            since=from_moment_ms(since_ms),
            next_due=_moment(next_ms),
            last_due=_moment(last_due_ms),
            last_at=_moment(last_at_ms),
            last_id=message_id(last_queue, last_offset) if last_queue else "",
            fired=fired,
            missed_count=missed_count,
            skipped=skipped,
            error=error,
            change=change,
            track=track,
        )


def _moment(moment_ms: int) -> datetime | None:
    return from_moment_ms(moment_ms) if moment_ms else None
