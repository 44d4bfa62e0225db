"""Schedules: what is published when its time comes. The durable half: what records have made of them.

A schedule knows its next moment as a fact, so that a log that is read again never works it out anew: other zone data,
or another program, change nothing of what was said. When a schedule is looked at, and what it does then, is in
`scheduling`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

from wherry_broker.core.records import Fired, Kept, Plan, Scheduled, ScheduleFact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry_broker.core.homes import Homes

KEPT_BYTES = 2_048
"""What a schedule takes of a preamble at most, but for its texts and its message; an error has 255 characters."""
ERROR_CHARACTERS_MAX = 255


class Schedule:
    """One schedule.

    Attributes:
        name: its name.
        plan: what it does.
        since_ms: when it came to be, or came to do what it does.
        paused: whether it does nothing for now.
        next_ms: its next moment, which may have come already; 0 when there is none.
        told_ms: when the newest record of it was written.
        last_due_ms: the moment that its newest message is for.
        last_at_ms: when that message was published.
        last_queue: the number of the queue that it went to.
        last_first: its offset there.
        fired: how many messages were published.
        missed: how many moments went by without one.
        skipped: how many were skipped because the message before was still in its queue.
        error: why nothing could be published for the newest moment; "" when it could.
        due_ms: when it is looked at.
        timer: the entry in `Timers` that stands for it; 0 when none does.
    """

    __slots__ = (
        "due_ms",
        "error",
        "fired",
        "last_at_ms",
        "last_due_ms",
        "last_first",
        "last_queue",
        "missed",
        "name",
        "next_ms",
        "paused",
        "plan",
        "since_ms",
        "skipped",
        "timer",
        "told_ms",
    )

    def __init__(self, kept: Kept) -> None:
        for name, value in zip(Kept._fields, kept, strict=True):
            setattr(self, name, value)
        self.due_ms = 0
        self.timer = 0

    name: str
    plan: Plan
    since_ms: int
    paused: bool
    next_ms: int
    told_ms: int
    last_due_ms: int
    last_at_ms: int
    last_queue: int
    last_first: int
    fired: int
    missed: int
    skipped: int
    error: str

    def kept(self) -> Kept:
        """Its standing facts."""
        return Kept(*[getattr(self, name) for name in Kept._fields])


class Schedules:
    """All schedules, by name.

    Args:
        homes: where it is told how much a log will need to write them again.

    Attributes:
        bytes_held: the bytes of all their messages.
    """

    def __init__(self, homes: Homes) -> None:
        self.bytes_held = 0
        self._homes = homes
        self._by_name: dict[str, Schedule] = {}
        self._sorted_names: list[str] = []

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Schedule | None:
        """The schedule of a name."""
        return self._by_name.get(name)

    def page(self, prefix: str, after: str, limit: int) -> tuple[list[Schedule], bool]:
        """At most `limit` schedules by name, after the name `after`, and whether more follow."""
        names = self._sorted_names
        start = max(bisect_left(names, prefix), bisect_right(names, after) if after else 0)
        found = [name for name in names[start : start + limit + 1] if name.startswith(prefix)]
        return [self._by_name[name] for name in found[:limit]], len(found) > limit

    def standing(self) -> Iterator[Kept]:
        """The standing facts of all, for a preamble."""
        return (schedule.kept() for schedule in self)

    # Called by `evolve` alone.

    def take(self, record: ScheduleFact) -> None:
        """Makes the change that a record states."""
        if isinstance(record, Fired):
            self._fired(self._by_name[record.name], record)
        elif isinstance(record, Scheduled):
            self._scheduled(record)
        else:
            self.discard(record.name)

    def restate(self, kept: Kept) -> None:
        """Takes the standing facts of a schedule that is not there yet."""
        if kept.name not in self._by_name:
            self._add(Schedule(kept))

    def discard(self, name: str) -> None:
        """Forgets a schedule."""
        schedule = self._by_name.pop(name)
        del self._sorted_names[bisect_left(self._sorted_names, name)]
        self._count(schedule, -1)

    def _scheduled(self, record: Scheduled) -> None:
        name, plan, since_ms, paused, next_ms, at_ms = record
        schedule = self._by_name.get(name)
        if schedule is None:
            self._add(Schedule(Kept(name, plan, since_ms, paused, next_ms, at_ms, 0, 0, 0, 0, 0, 0, 0, "")))
            return
        self._count(schedule, -1)
        schedule.plan, schedule.since_ms, schedule.paused = plan, since_ms, paused
        schedule.next_ms, schedule.told_ms, schedule.error = next_ms, at_ms, ""
        self._count(schedule, 1)

    def _fired(self, schedule: Schedule, record: Fired) -> None:
        schedule.next_ms, schedule.told_ms, schedule.error = record.next_ms, record.at_ms, record.error
        schedule.missed += record.missed
        schedule.skipped += record.skipped
        if record.first:
            schedule.fired += 1
            schedule.last_due_ms, schedule.last_at_ms = record.due_ms, record.at_ms
            schedule.last_queue, schedule.last_first = record.queue, record.first

    def _add(self, schedule: Schedule) -> None:
        self._by_name[schedule.name] = schedule
        insort(self._sorted_names, schedule.name)
        self._count(schedule, 1)

    def _count(self, schedule: Schedule, sign: int) -> None:
        self.bytes_held += sign * len(schedule.plan.message)
        self._homes.owed_bytes += sign * kept_bytes(schedule.name, schedule.plan)


def kept_bytes(name: str, plan: Plan) -> int:
    """How much of a log it takes at most to write a schedule."""
    texts = (name, plan.queue, plan.cron, plan.zone, plan.key)
    return KEPT_BYTES + len(plan.message) + 4 * sum(map(len, texts))
