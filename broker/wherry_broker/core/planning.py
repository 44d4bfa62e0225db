"""When schedules are due: their plans are checked here, and their moments worked out. Pure.

What a cron expression means in a time zone is worked out by a `Calendar` that is handed in, since the data of zones
comes from a disk. All else is here: intervals, single moments, the first and the last one, and which of the moments
that have come are still worth a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, takewhile
from typing import TYPE_CHECKING, NamedTuple

from wherry.model.names import queue_name_problem
from wherry_broker.core.records import Plan
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from wherry.model import commands
    from wherry_broker.core.schedules import Schedule

Calendar = Callable[[str, str, int], Iterator[int]]
"""The moments of a cron expression in a zone after a moment, ascending; raises ValueError when it cannot read one."""

SKIP, ONCE, ALL, ALLOW = "skip", "once", "all", "allow"
MISSED, OVERLAPS = (SKIP, ONCE, ALL), (ALLOW, SKIP)
EVERY_MIN_MS = 100
MESSAGE_BYTES_MAX = 65_536
"""The longest message of a schedule: all schedules are written again with every segment of the log."""
MADE_UP_MAX = 100
"""How many messages `missed: all` makes up for: those of the latest moments."""
COUNTED_MAX = 100
"""How many moments of a cron expression are counted as missed at a time: many schedules may have missed many each, and
all of them are looked at when a broker starts."""
STAMP_BYTES = 8
_WINDOW_MS = 60_000


def no_calendar(_cron: str, _zone: str, _after_ms: int) -> Iterator[int]:
    """The calendar of a broker that has none.

    Raises:
        ValueError: always.
    """
    raise ValueError("this broker has no calendar, and takes no cron expressions")


def plan_of(command: commands.Schedule) -> Plan:
    """The plan that a command asks for.

    Raises:
        Refusal: invalid, its fields do not go together, or one is out of range.
    """
    name, block = command.name, command.block
    _check(not queue_name_problem(name), f"{name[:40]!a} cannot name a schedule; the rules are those of a queue's name")
    kinds = bool(command.cron) + bool(command.every_ms) + bool(command.at_ms)
    _check(kinds == 1, f"schedule {name!r} needs one of cron, every_ms and at_ms, and has {kinds}")
    _check(bool(command.cron) or not command.zone, f"zone {command.zone[:80]!r} is of use with a cron expression only")
    _check(bool(command.every_ms) or not command.anchor_ms, "anchor_ms is of use with every_ms only")
    _check(not 0 < command.every_ms < EVERY_MIN_MS, f"every_ms {command.every_ms} is less than {EVERY_MIN_MS}")
    ends = not command.end_ms or command.start_ms <= command.end_ms
    _check(ends, f"end_ms {command.end_ms} is before start_ms {command.start_ms}")
    _check(command.missed in MISSED, f"missed {command.missed[:40]!r} is not one of {', '.join(MISSED)}")
    _check(command.overlap in OVERLAPS, f"overlap {command.overlap[:40]!r} is not one of {', '.join(OVERLAPS)}")
    _check(
        len(block) <= MESSAGE_BYTES_MAX,
        f"a message of {len(block)} bytes is over the limit of a schedule, which is {MESSAGE_BYTES_MAX}",
    )
    fits = not command.stamp or command.stamp + STAMP_BYTES <= len(block)
    _check(fits, f"stamp {command.stamp} is not {STAMP_BYTES} bytes before the end of a message of {len(block)} bytes")
    zone = (command.zone or "UTC") if command.cron else ""
    asked = {name: getattr(command, name) for name in Plan._fields if name != "message"}
    return Plan(**{**asked, "zone": zone, "message": block})


def _check(right: bool, text: str) -> None:  # noqa: FBT001 (a condition)
    if not right:
        raise Refusal("invalid", text)


def message_for(plan: Plan, due_ms: int) -> bytes:
    """The message of a moment, which is written into it where the plan says."""
    if not plan.stamp:
        return plan.message
    end = plan.stamp + STAMP_BYTES
    return plan.message[: plan.stamp] + due_ms.to_bytes(STAMP_BYTES, "big") + plan.message[end:]


def following(plan: Plan, since_ms: int, after_ms: int, calendar: Calendar) -> int:
    """The first moment of a plan after `after_ms`; 0 when there is none.

    Args:
        plan: the plan.
        since_ms: when its schedule came to be.
        after_ms: a moment.
        calendar: knows cron expressions.

    Raises:
        ValueError: the calendar cannot read the expression, or does not know the zone.
    """
    return next(_moments(plan, since_ms, after_ms, calendar), 0)


def _moments(plan: Plan, since_ms: int, after_ms: int, calendar: Calendar) -> Iterator[int]:
    after_ms = max(after_ms, plan.start_ms - 1)
    if plan.at_ms:
        found: Iterator[int] = iter((plan.at_ms,) if plan.at_ms > after_ms else ())
    elif plan.every_ms:
        anchor_ms = plan.anchor_ms or since_ms
        found = count(anchor_ms + ((after_ms - anchor_ms) // plan.every_ms + 1) * plan.every_ms, plan.every_ms)
    else:
        found = calendar(plan.cron, plan.zone, after_ms)
    return takewhile(lambda moment: not plan.end_ms or moment <= plan.end_ms, found)


class Passed(NamedTuple):
    """The moments of a schedule that have come.

    Attributes:
        moments: those that are worth a message, ascending.
        missed: how many others there were, or at least were.
        next_ms: the first moment that has not come; 0 when there is none.
    """

    moments: list[int]
    missed: int
    next_ms: int


def passed(schedule: Schedule, now_ms: int, calendar: Calendar) -> Passed:
    """What has come of a schedule at `now_ms`: its next moment, and perhaps others after it.

    Raises:
        ValueError: the calendar cannot read the expression, or does not know the zone.
    """
    plan = schedule.plan
    keep = MADE_UP_MAX if plan.missed == ALL else 1
    latest, earlier, next_ms = (_regular if plan.every_ms else _listed)(schedule, now_ms, keep, calendar)
    if plan.missed == SKIP and now_ms - latest[-1] > plan.late_ms:
        return Passed([], earlier + len(latest), next_ms)
    return Passed(latest, earlier, next_ms)


def _regular(schedule: Schedule, now_ms: int, keep: int, calendar: Calendar) -> Passed:
    """The latest moments of an interval up to `now_ms`, at most `keep`, and how many there were before them."""
    plan = schedule.plan
    all_of_them = range(schedule.next_ms, min(now_ms, plan.end_ms or now_ms) + 1, plan.every_ms)
    next_ms = following(plan, schedule.since_ms, all_of_them[-1], calendar)
    return Passed(list(all_of_them[-keep:]), len(all_of_them[:-keep]), next_ms)


def _listed(schedule: Schedule, now_ms: int, keep: int, calendar: Calendar) -> Passed:
    """Likewise for what has to be listed to be counted."""
    plan, first_ms, since_ms = schedule.plan, schedule.next_ms, schedule.since_ms
    # The next moment is a fact; those after it are worked out, which may give others than when it was written.
    found, ahead = [first_ms], _moments(plan, since_ms, first_ms, calendar)
    while (next_ms := next(ahead, 0)) and next_ms <= now_ms and len(found) <= COUNTED_MAX:
        found.append(next_ms)
    if len(found) <= COUNTED_MAX:
        return Passed(found[-keep:], len(found[:-keep]), next_ms)
    window_ms, found = _WINDOW_MS * keep, []
    while len(found) < keep:
        ahead = _moments(plan, since_ms, max(first_ms, now_ms - window_ms), calendar)
        found = list(takewhile(lambda moment: moment <= now_ms, ahead))
        window_ms *= 2
    return Passed(found[-keep:], COUNTED_MAX, following(plan, since_ms, now_ms, calendar))
