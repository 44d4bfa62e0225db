"""What a damaged log tells of schedules: records may be missing, and a preamble knows better."""

from __future__ import annotations

from log_files import NOW_MS, PLAN, preamble
from wherry_broker.core.records import Fired, Kept, Scheduled, Unscheduled
from wherry_broker.log.rebuild import Rebuild

KEPT = Kept("kept", PLAN, NOW_MS, False, NOW_MS + 9, NOW_MS, 0, 0, 0, 0, 5, 1, 0, "")
MADE = Scheduled("made", PLAN, NOW_MS, False, NOW_MS + 5, NOW_MS)


def rebuilt(*taken) -> dict[str, Kept]:
    rebuild = Rebuild({})
    for record in taken:
        rebuild.take(record, 1)
    return {each.name: each.kept() for each in rebuild.state.schedules}


def fired(name: str) -> Fired:
    return Fired(name, NOW_MS + 5, NOW_MS + 7, NOW_MS + 6, 1, 1, 0, False, "")


def test_what_is_told_of_a_schedule_whose_beginning_is_lost_is_passed_over():
    assert rebuilt(preamble(), fired("lost"), Unscheduled("lost")) == {}


def test_a_schedule_goes_on_from_what_is_left():
    found = rebuilt(preamble(), MADE, fired("made"))
    assert (found["made"].next_ms, found["made"].fired) == (NOW_MS + 7, 1)
    assert rebuilt(preamble(), MADE, Unscheduled("made")) == {}


def test_a_preamble_tells_of_all_schedules_and_what_became_of_them():
    later = preamble()._replace(schedules=(KEPT,))
    assert rebuilt(preamble(), MADE, later) == {"kept": KEPT}
    older = Scheduled("kept", PLAN, NOW_MS, False, NOW_MS + 5, NOW_MS)
    assert rebuilt(preamble(), older, later) == {"kept": KEPT}
