"""The checker: whether a history is one that a broker may have, by the promises of README.md.

K1 nothing confirmed is lost, K2 nothing is invented or damaged, K3 what was settled stays settled, K4 first in first
out, K5 refused means not stored, K6 the broker's own counts are exact, K7 a message has one holder at a time, K8
delays are kept, K9 what is ready is delivered.

It knows what may happen: redeliveries of what was not settled, both ends of an unknown outcome, and what a fault may
take at the level of the queue. The queues of a history begin at offset 1, have no time to live and no limit on
attempts, and drop nothing; publishes to them are not tried again while others of the same connection are under way.

`PYTHONPATH=tests python -m crash.checker FILE...` checks a history that was written to files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crash import counts, kept, order, timing
from crash.history import ERROR, KILL, OK, POWER, STOP, UNKNOWN, read
from crash.story import Story
from crash.verdict import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crash.history import Event

WINDOW_S = 1.1
"""What a power cut may take at the level `written`: the default of sync_interval_s, and a second for a slow disk."""


class Figures(NamedTuple):
    """How much happened in a history."""

    published: int
    confirmed: int
    refused: int
    unknown: int
    recovered: int
    delivered: int
    redelivered: int
    settled: int
    settles_unknown: int
    kills: int
    power_cuts: int
    stops: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:,}" for name, value in self._asdict().items())


class Report(NamedTuple):
    """What was found, and in how much."""

    violations: list[Violation]
    figures: Figures

    @property
    def text(self) -> str:
        """All of it, a line each."""
        return "\n".join([str(self.figures), *map(str, self.violations)])


def check(events: Sequence[Event], *, window_s: float = WINDOW_S, idle: bool = False) -> Report:
    """Checks a history.

    Args:
        events: the history, by time.
        window_s: how much before a power cut what is confirmed at the level `written` may be lost, in seconds.
        idle: whether the broker had nothing else to do, so that messages that come late count too.
    """
    story = Story(list(events), window_s)
    violations = sorted(_all(story, idle=idle), key=lambda violation: violation.t)
    return Report(violations, _figures(story))


def _all(story: Story, *, idle: bool) -> Iterator[Violation]:
    yield from kept.nothing_lost(story)
    yield from kept.nothing_invented(story)
    yield from kept.settled_stays_settled(story)
    yield from order.first_in_first_out(story)
    yield from kept.refused_is_not_stored(story)
    yield from counts.exactly_counted(story)
    yield from order.one_holder(story)
    yield from timing.delays_are_kept(story, idle=idle)
    yield from timing.what_is_ready_is_delivered(story)


def _figures(story: Story) -> Figures:
    tries = [each for life in story.told for each in life.tries]
    settles = [each for life in story.told for each in life.settles.values()]
    delivered = [life for life in story.told if life.deliveries]
    faults = [fault.kind for fault in story.faults]
    return Figures(
        published=len(tries),
        confirmed=sum(each.outcome == OK for each in tries),
        refused=sum(each.outcome == ERROR for each in tries),
        unknown=sum(each.outcome == UNKNOWN for each in tries),
        recovered=sum(life.confirmed is None for life in delivered),
        delivered=len(delivered),
        redelivered=sum(len(life.deliveries) - 1 for life in delivered),
        settled=sum(each.outcome == OK for each in settles),
        settles_unknown=sum(each.outcome == UNKNOWN for each in settles),
        kills=faults.count(KILL),
        power_cuts=faults.count(POWER),
        stops=faults.count(STOP),
    )


def main() -> int:
    """Checks the files that the command line names; exits with 1 when a promise is broken."""
    parser = argparse.ArgumentParser(prog="crash.checker", description="Checks a history of a broker.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the parts of one history")
    parser.add_argument("--window", type=float, default=WINDOW_S, metavar="S", help="what a cut takes of `written`")
    parser.add_argument("--idle", action="store_true", help="the broker had nothing else to do: late counts too")
    given = parser.parse_args()
    report = check(read(given.files), window_s=given.window, idle=given.idle)
    sys.stdout.write(report.text + "\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
