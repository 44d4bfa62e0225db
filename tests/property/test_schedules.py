"""Schedules against a naive model: random plans, waits, crashes, clocks that were set, full queues, edits.

The model keeps lists and looks through all of them; it knows no timers, no records and no calendar. What it says was
published, for which moment and when, is what the log has to hold; and after a crash both are back at the last commit.

WHERRY_TEST_SCHEDULES is the number of lives that are tried. A failure prints the shortest list of steps found
that fails, and a `@reproduce_failure` line that replays it.
"""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scheduled import DAY, HOUR, MINUTE, NOW_MS, SECOND, Life
from wherry.model import commands, replies
from wherry_broker.core import planning, scheduling
from wherry_broker.core.options import QueueOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = int(os.environ.get("WHERRY_TEST_SCHEDULES", "60"))
STEPS = 40
MADE_UP_MAX = 3
ROOM = 3
NAMES = st.sampled_from(["a", "b"])
WHEN = st.one_of(
    st.fixed_dictionaries(
        {"every_ms": st.sampled_from([7 * SECOND, MINUTE, HOUR + 1])},
        optional={"anchor_ms": st.sampled_from([1, NOW_MS - 3, NOW_MS + DAY])},
    ),
    st.fixed_dictionaries({"cron": st.sampled_from(["*/7 * * * *", "15 3 * * *", "0,59 */2 * * *"])}),
    st.fixed_dictionaries({"after_ms": st.sampled_from([-DAY, 0, 1, 5 * SECOND, HOUR, DAY])}),
)
HOW = st.fixed_dictionaries(
    {},
    optional={
        "missed": st.sampled_from(["skip", "once", "all"]),
        "overlap": st.sampled_from(["allow", "skip"]),
        "late_ms": st.sampled_from([0, SECOND, HOUR]),
        "track": st.booleans(),
        "start_after_ms": st.sampled_from([-HOUR, MINUTE]),
        "end_after_ms": st.sampled_from([MINUTE, 2 * HOUR]),
    },
)
WAITS = st.sampled_from([1, 99, 100, SECOND, 7 * SECOND, MINUTE, 7 * MINUTE, HOUR, 5 * HOUR])


class Told(NamedTuple):
    """A message that was published."""

    name: str
    due_ms: int
    at_ms: int


class Naive:
    """One schedule, as it is promised to behave."""

    def __init__(self, name: str, plan: dict[str, Any], now: int) -> None:
        self.name, self.plan, self.since, self.told = name, plan, now, now
        self.paused = False
        self.next = plan["at_ms"] or self.following(now)
        self.fired = self.missed = self.skipped = 0
        self.last: Told | None = None

    def is_moment(self, moment: int) -> bool:
        plan = self.plan
        if moment < plan["start_ms"] or (plan["end_ms"] and moment > plan["end_ms"]):
            return False
        if plan["every_ms"]:
            return (moment - (plan["anchor_ms"] or self.since)) % plan["every_ms"] == 0
        if plan["at_ms"]:
            return moment == plan["at_ms"]
        minute, hour = moment // MINUTE % 60, moment // HOUR % 24
        return (
            moment % MINUTE == 0
            and {
                "*/7 * * * *": minute % 7 == 0,
                "15 3 * * *": (hour, minute) == (3, 15),
                "0,59 */2 * * *": minute in (0, 59) and hour % 2 == 0,
            }[plan["cron"]]
        )

    def moments(self, low: int, high: int) -> Iterator[int]:
        """All moments from `low` to `high`, by looking at every one that could be."""
        plan = self.plan
        if plan["at_ms"]:
            return iter([plan["at_ms"]] if low <= plan["at_ms"] <= high else [])
        step = plan["every_ms"] or MINUTE
        first = low + ((plan["anchor_ms"] or self.since) - low) % step if plan["every_ms"] else low + -low % MINUTE
        return (moment for moment in range(first, high + 1, step) if self.is_moment(moment))

    def following(self, after: int) -> int:
        low = max(after + 1, self.plan["start_ms"])
        return next(self.moments(low, low + DAY + HOUR + MINUTE), 0)


class Model:
    """All schedules, what they have published, and what of that is still in the queue."""

    def __init__(self) -> None:
        self.schedules: dict[str, Naive] = {}
        self.told: list[Told] = []
        self.held: list[Told] = []

    def fire(self, each: Naive, due: int, now: int) -> bool:
        if len(self.held) == ROOM:
            return False
        message = Told(each.name, due, now)
        self.told.append(message)
        self.held.append(message)
        each.fired += 1
        each.last, each.told = message, now
        return True

    def look(self, each: Naive, now: int) -> None:
        """What has to become of a schedule that the broker looks at."""
        plan = each.plan
        if each.paused or not each.next or each.next > now:
            return
        passed = list(each.moments(each.next, now))
        worth = passed[-MADE_UP_MAX:] if plan["missed"] == "all" else passed[-1:]
        if plan["missed"] == "skip" and now - worth[-1] > plan["late_ms"]:
            worth = []
        missed = len(passed) - len(worth)
        ahead = [*worth, each.following(passed[-1])]
        if missed:
            each.missed += missed
            each.next, each.told = ahead[0], now
        for due, then in zip(worth, ahead[1:], strict=True):
            if plan["overlap"] == "skip" and each.last in self.held:
                each.skipped += 1
                each.told = now
            elif not self.fire(each, due, now):
                return
            each.next = then


class ScheduleMachine(RuleBasedStateMachine):
    """Drives a core and the model with the same commands and the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(planning, "MADE_UP_MAX", MADE_UP_MAX)
        self.patches.setattr(planning, "COUNTED_MAX", 1_000_000)
        self.life = Life(defaults=QueueOptions(durability="synced", max_messages=ROOM))
        self.life.ask(commands.Declare, "q", {})
        self.model = Model()
        self.durable = copy.deepcopy(self.model)

    @property
    def now(self) -> int:
        return self.life.now

    def tick(self) -> None:
        """The core and the model look at what the core says is due: that this is right is checked beside."""
        due = []
        for each in self.life.shard.state.schedules:
            if each.timer and each.due_ms <= self.now:
                due.append((each.due_ms, each.timer, each.name))
            elif each.timer:
                assert each.due_ms == each.next_ms or each.next_ms <= self.now < each.due_ms, each.name
                assert each.due_ms == each.next_ms or each.due_ms - self.now <= scheduling.RETRY_MS
        for _, _, name in sorted(due):
            self.model.look(self.model.schedules[name], self.now)
        self.life.look(commit=False)
        for each in self.life.shard.state.schedules:
            assert not each.timer or each.due_ms > self.now, "it is looked at once, and then later"

    def ask(self, kind: Any, *fields: Any, **more: Any) -> Any:
        """What is said to a command at once, whatever that has to wait for."""
        self.tick()
        life, said = self.life, []
        life._request += 1
        outbox = life.shard.ledger._outbox
        with pytest.MonkeyPatch.context() as patches:
            patches.setattr(outbox, "hold", lambda effect, _mark: said.append(effect.say))
            life.shard.submit(life.session, kind(life._request, *fields, **more), self.now)
        (reply,) = said
        return reply

    @initialize()
    def begin(self) -> None:
        self.commit()

    @rule(name=NAMES, when=WHEN, how=HOW)
    def schedule(self, name: str, when: dict[str, int], how: dict[str, Any]) -> None:
        now = self.now
        plan: dict[str, Any] = {"cron": "", "every_ms": 0, "anchor_ms": 0, "at_ms": 0, "start_ms": 0, "end_ms": 0}
        plan |= {"missed": "once", "overlap": "allow", "late_ms": MINUTE, "track": False}
        plan |= {key: value for key, value in {**when, **how}.items() if "after" not in key}
        if "after_ms" in when:
            plan["at_ms"] = now + when["after_ms"]
        for bound in ("start", "end"):
            if f"{bound}_after_ms" in how:
                plan[f"{bound}_ms"] = now + how[f"{bound}_after_ms"]
        reply = self.ask(commands.Schedule, name, "q", key=name, stamp=4, block=b"due:" + bytes(8), **plan)
        known, new = self.model.schedules.get(name), Naive(name, plan, now)
        if known is not None and known.plan == plan:
            assert reply.change == "same"
            return
        if not new.next or (plan["at_ms"] and not new.is_moment(plan["at_ms"])):
            assert isinstance(reply, replies.Error), reply
            assert "would never be due" in reply.text
            return
        assert isinstance(reply, replies.Schedules), reply
        assert reply.change == ("changed" if known else "created")
        if known is not None:
            new.paused, new.last = known.paused, known.last
            new.fired, new.missed, new.skipped = known.fired, known.missed, known.skipped
        self.model.schedules[name] = new

    again = schedule

    @rule(name=NAMES)
    def unschedule(self, name: str) -> None:
        reply = self.ask(commands.Unschedule, name)
        assert isinstance(reply, replies.Done if name in self.model.schedules else replies.Error)
        self.model.schedules.pop(name, None)

    @rule(name=NAMES, paused=st.booleans())
    def pause(self, name: str, paused: bool) -> None:  # noqa: FBT001 (hypothesis names it)
        reply = self.ask(commands.PauseSchedule, name, paused)
        known = self.model.schedules.get(name)
        if known is None:
            assert isinstance(reply, replies.Error)
        elif known.paused != paused:
            known.paused, known.told = paused, self.now
            if known.next and not paused and not known.plan["at_ms"]:
                known.next = known.following(self.now)

    @rule(name=NAMES)
    def run(self, name: str) -> None:
        reply = self.ask(commands.RunSchedule, name)
        known = self.model.schedules.get(name)
        if known is None or not self.model.fire(known, self.now, self.now):
            assert isinstance(reply, replies.Error)
            assert reply.code == ("busy" if known else "not_found")

    @rule()
    def purge(self) -> None:
        reply = self.ask(commands.Purge, "q")
        assert reply.total == len(self.model.held)
        self.model.held.clear()

    @rule(ms=WAITS)
    def wait(self, ms: int) -> None:
        """Time passes, and the broker wakes up for all that is due."""
        end = self.now + ms
        for _ in range(200):  # where the interval is short, it is late after that
            deadline = self.life.shard.next_deadline_ms()
            if deadline is None or deadline > end:
                break
            self.life.now = max(self.now, deadline)
            self.tick()
        self.life.now = end
        self.tick()

    @rule(ms=WAITS)
    def be_late(self, ms: int) -> None:
        """Time passes, and the broker sleeps through it."""
        self.life.now += ms
        self.tick()

    @rule(roll=st.booleans())
    def commit(self, *, roll: bool = False) -> None:
        self.tick()
        self.life.commit(roll=roll)
        self.life.shard.take_effects()
        self.durable = copy.deepcopy(self.model)
        assert self.model.told == [
            Told(record.envelope.key, int.from_bytes(record.block.data[4:12], "big"), record.envelope.published_at_ms)
            for record, _ in self.life.log
            if type(record).__name__ == "Published" and record.block.data.startswith(b"due:")
        ]

    @rule(away_ms=st.sampled_from([0, 1, SECOND, HOUR, 2 * DAY, -SECOND, -2 * HOUR, -2 * DAY]), forget=st.booleans())
    def crash(self, away_ms: int, forget: bool) -> None:  # noqa: FBT001 (hypothesis names it)
        """The process is killed, and another one starts with what was committed; its clock may have been set."""
        if forget:
            self.commit(roll=True)
        self.life.shard.take_effects()
        self.life.crash(away_ms)
        self.model = copy.deepcopy(self.durable)
        for each in self.model.schedules.values():
            if self.now + scheduling.SET_BACK_MS < each.told and each.next > self.now and not each.paused:
                each.next, each.told = each.plan["at_ms"] or each.following(self.now), self.now
        self.tick()

    @invariant()
    def rows_agree(self) -> None:
        core = {each.name: each for each in self.life.shard.state.schedules}
        assert core.keys() == self.model.schedules.keys()
        for name, each in self.model.schedules.items():
            mine = core[name]
            assert (mine.next_ms, mine.fired, mine.missed, mine.skipped, mine.paused) == (
                *(each.next, each.fired, each.missed, each.skipped, each.paused),
            ), name

    def teardown(self) -> None:
        self.patches.undo()


ScheduleMachine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestSchedules = ScheduleMachine.TestCase
