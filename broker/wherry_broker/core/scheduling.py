"""Scheduling: what becomes of schedules when their time comes, and what clients ask of them.

A moment is dealt with by one `Fired`, which names the next moment and stands in the same commit as the message that is
published for it: after a crash there are both or neither, and so each moment has one message, however often a broker
starts. What cannot be published (the queue is full or gone, the disk is full) is tried again until it can be, or its
policy gives the moment up; meanwhile the log hears nothing of it, and a start tries at once.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wherry.model import commands, replies
from wherry_broker.core import bounds, decide
from wherry_broker.core.batch import DEAD
from wherry_broker.core.lookups import LOOK_BYTES
from wherry_broker.core.planning import SKIP, following, message_for, passed, plan_of
from wherry_broker.core.records import Fired, Plan, Published, Scheduled, Unscheduled
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.schedules import ERROR_CHARACTERS_MAX, kept_bytes
from wherry_broker.core.view import schedule_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wherry_broker.core.answers import Answers
    from wherry_broker.core.catalogue import Catalogue
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.lookups import Lookups
    from wherry_broker.core.planning import Calendar
    from wherry_broker.core.schedules import Schedule

SCHEDULES_MAX = 10_000
SCHEDULES_BYTES_MAX = 8_388_608
"""The most bytes that the messages of all schedules have: each segment of the log begins with them."""
PAGE_SCHEDULES_MAX = 20
"""How many schedules fit into a header, however long their texts are."""
RETRY_MS = 30_000
"""When a moment is looked at again whose message was refused, and not because the queue is full."""
SET_BACK_MS = 10_800_000
"""A clock that was set back by more than three hours was wrong before; cron draws the line there too."""
CREATED, CHANGED, SAME = "created", "changed", "same"


class Scheduling:
    """Carries out what is asked of schedules, and what they ask for.

    Args:
        ledger: the durable state.
        answers: where answers go.
        catalogue: declares queues that are named and not there.
        lookups: counts answers to requests that only look.
        calendar: knows cron expressions.

    Attributes:
        commands: what it carries out.
        stopped: whether nothing is published any more, since the broker shuts down; the next start makes up for it.
    """

    def __init__(
        self, ledger: Ledger, answers: Answers, catalogue: Catalogue, lookups: Lookups, calendar: Calendar
    ) -> None:
        self.stopped = False
        self._ledger = ledger
        self._state = ledger.state
        self._schedules = ledger.state.schedules
        self._answers = answers
        self._catalogue = catalogue
        self._lookups = lookups
        self._zoned = calendar
        self._apply = ledger.apply_scheduled
        self.commands: dict[type, Callable[[Session, Any, int], None]] = {
            commands.Schedule: self.schedule,
            commands.Unschedule: self.unschedule,
            commands.ListSchedules: self.list_schedules,
            commands.RunSchedule: self.run,
            commands.PauseSchedule: self.pause,
        }

    # Time.

    def restored(self, now_ms: int) -> None:
        """The log is read to its end: from now on, schedules are looked at when they are due."""
        for schedule in self._schedules:
            is_set_back = now_ms + SET_BACK_MS < schedule.told_ms
            self._arm(schedule, now_ms if is_set_back else schedule.next_ms)

    def due(self, schedule: Schedule, now_ms: int) -> None:
        """Deals with the moments of a schedule that have come."""
        if self.stopped or not self._is_active(schedule):
            return
        try:
            if schedule.next_ms > now_ms:
                self._replan(schedule, now_ms)
            else:
                self._deal(schedule, now_ms)
        except Refusal as refusal:
            schedule.error = _cut(refusal.text)  # not durable: it is found out again
            self._arm(schedule, now_ms + (refusal.retry_after_ms or RETRY_MS))
        else:
            self._arm(schedule, schedule.next_ms)

    def _replan(self, schedule: Schedule, now_ms: int) -> None:
        """The clock was set back far: the moments from now on count again."""
        next_ms = following(schedule.plan, schedule.since_ms, now_ms, self._calendar)
        self._apply(Fired(schedule.name, 0, next_ms, now_ms, 0, 0, 0, False, schedule.error))

    def _deal(self, schedule: Schedule, now_ms: int) -> None:
        name, plan, error = schedule.name, schedule.plan, schedule.error
        moments, missed, after_ms = passed(schedule, now_ms, self._calendar)
        ahead = [*moments, after_ms]
        if missed:
            self._apply(Fired(name, 0, ahead[0], now_ms, 0, 0, missed, False, error))
        for due_ms, next_ms in pairwise(ahead):
            if plan.overlap == SKIP and self._is_under_way(schedule):
                self._apply(Fired(name, due_ms, next_ms, now_ms, 0, 0, 0, True, ""))
            else:
                self._fire(schedule, due_ms, next_ms, now_ms)

    def _is_under_way(self, schedule: Schedule) -> bool:
        """Whether the newest message is in its queue still, and not dead."""
        queue = self._state.queues.get(schedule.last_queue)
        span = queue.span_at(schedule.last_first) if queue is not None else None
        return span is not None and span.state != DEAD

    def _fire(self, schedule: Schedule, due_ms: int, next_ms: int, now_ms: int) -> None:
        """Publishes the message of a moment.

        Raises:
            Refusal: the queue does not take it, is not there, or the disk is full.
        """
        plan = schedule.plan
        queue = self._catalogue.opened(plan.queue)
        command = _publish_of(plan, due_ms)
        envelope, _ = decide.envelope_of(queue, command, now_ms)
        if plan.track:
            envelope = decide.tracked(envelope, f"schedule {schedule.name}")
        block = decide.block_of(command)
        cost = bounds.log_cost(block, tracked=plan.track) + bounds.LOG_BYTES_A_RECORD
        bounds.check_room(self._state, queue.name, cost)
        self._ledger.apply(bounds.drop_oldest(queue, block.count, block.size, now_ms))
        busy = bounds.room(queue, block, now_ms, divisible=False).busy
        if busy is not None:
            raise busy
        first = queue.next_offset
        self._ledger.apply((Published(queue.number, first, envelope, 0, "", block),))
        self._apply(Fired(schedule.name, due_ms, next_ms, now_ms, queue.number, first, 0, False, ""))

    def _is_active(self, schedule: Schedule) -> bool:
        return bool(schedule.next_ms) and not schedule.paused

    def _arm(self, schedule: Schedule, at_ms: int) -> None:
        self._state.timers.disarm(schedule)
        if self._is_active(schedule):
            self._state.timers.arm(schedule, at_ms)

    def _calendar(self, cron: str, zone: str, after_ms: int) -> Iterator[int]:
        try:
            return self._zoned(cron, zone, after_ms)
        except ValueError as error:
            raise Refusal("invalid", str(error)) from error

    # Commands.

    def schedule(self, session: Session, command: commands.Schedule, now_ms: int) -> None:
        """Makes a schedule, has one do something else, or sees that it is as asked."""
        plan = plan_of(command)
        known = self._schedules.get(command.name)
        if known is not None and known.plan == plan:
            self._show(session, command.request, known, SAME)
            return
        # The only moment of a schedule is due even if it has passed, like a publish that is ready at such a one.
        next_ms = following(plan, now_ms, 0 if plan.at_ms else now_ms, self._calendar)
        if not next_ms:
            raise Refusal("invalid", f"schedule {command.name!r} would never be due")
        self._check_target(plan, now_ms)
        self._check_limits(command.name, plan, known)
        paused = known is not None and known.paused
        self._apply(Scheduled(command.name, plan, now_ms, paused, next_ms, now_ms))
        schedule = self._named(command.name)
        self._arm(schedule, next_ms)
        self._show(session, command.request, schedule, CREATED if known is None else CHANGED)

    def _check_target(self, plan: Plan, now_ms: int) -> None:
        """Refuses a schedule whose messages its queue would never take."""
        queue = self._catalogue.opened(plan.queue)
        command = _publish_of(plan, now_ms)
        decide.envelope_of(queue, command, now_ms)
        bounds.room(queue, decide.block_of(command), now_ms, divisible=False)

    def _check_limits(self, name: str, plan: Plan, known: Schedule | None) -> None:
        held = self._schedules.bytes_held + len(plan.message) - (len(known.plan.message) if known else 0)
        if known is None and len(self._schedules) >= SCHEDULES_MAX:
            text = f"there are {len(self._schedules)} schedules, and {SCHEDULES_MAX} is the limit"
            raise Refusal("unavailable", text, retryable=True)
        if held > SCHEDULES_BYTES_MAX:
            text = f"the messages of all schedules would have {held} bytes, and {SCHEDULES_BYTES_MAX} is the limit"
            raise Refusal("unavailable", text, retryable=True)
        bounds.check_room(self._state, plan.queue, kept_bytes(name, plan))

    def unschedule(self, session: Session, command: commands.Unschedule, _now_ms: int) -> None:
        """Removes a schedule; what it has published stays."""
        schedule = self._named(command.name)
        self._state.timers.disarm(schedule)
        self._apply(Unscheduled(command.name))
        self._answers.say(session, replies.Done(command.request), self._ledger.newest_mark)

    def pause(self, session: Session, command: commands.PauseSchedule, now_ms: int) -> None:
        """Stops a schedule, or lets it go on with the first moment from now on: none between counts as missed."""
        schedule = self._named(command.name)
        if schedule.paused != command.paused:
            name, plan, since_ms = schedule.name, schedule.plan, schedule.since_ms
            next_ms = schedule.next_ms
            if next_ms and not command.paused and not plan.at_ms:
                next_ms = following(plan, since_ms, now_ms, self._calendar)
            self._apply(Scheduled(name, plan, since_ms, command.paused, next_ms, now_ms))
            self._arm(schedule, next_ms)
        self._show(session, command.request, schedule)

    def run(self, session: Session, command: commands.RunSchedule, now_ms: int) -> None:
        """Publishes the message of a schedule now, whatever else it does and when."""
        if self.stopped:
            raise Refusal("draining", "the broker is shutting down", retryable=True)
        schedule = self._named(command.name)
        self._fire(schedule, now_ms, schedule.next_ms, now_ms)
        self._show(session, command.request, schedule)

    def list_schedules(self, session: Session, command: commands.ListSchedules, _now_ms: int) -> None:
        """A page of schedules."""
        found, more = self._schedules.page(command.prefix, command.after, PAGE_SCHEDULES_MAX)
        self._lookups.count(session, LOOK_BYTES * (1 + len(found)))
        rows = tuple(schedule_row(self._state, schedule) for schedule in found)
        self._answers.say(session, replies.Schedules(command.request, rows, more), self._ledger.newest_mark)

    def _named(self, name: str) -> Schedule:
        schedule = self._schedules.get(name)
        if schedule is None:
            raise Refusal("not_found", f"there is no schedule {name!r}")
        return schedule

    def _show(self, session: Session, request: int, schedule: Schedule, change: str = "") -> None:
        rows = (schedule_row(self._state, schedule),)
        self._answers.say(session, replies.Schedules(request, rows, change=change), self._ledger.newest_mark)


def _publish_of(plan: Plan, due_ms: int) -> commands.Publish:
    """The publish that a plan asks for."""
    message = message_for(plan, due_ms)
    lengths = len(message).to_bytes(4, "big")
    return commands.Publish(0, plan.queue, lengths, plan.priority, plan.key, ttl_ms=plan.ttl_ms, block=message)


def _cut(text: str) -> str:
    return text if len(text) <= ERROR_CHARACTERS_MAX else text[: ERROR_CHARACTERS_MAX - 1] + "…"
