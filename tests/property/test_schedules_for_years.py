"""Two years of schedules through changes of the clock, while brokers come and go, against minutes that are walked.

What has to be published follows from the moments, which `walked` finds with no cron library, and from when there was
no broker. WHERRY_TEST_SEED is another draw of that.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from scheduled import DAY, HOUR, MINUTE, Life
from walked import END, START, oracle
from wherry.model import commands
from wherry_broker.core.records import Preamble, Published

if TYPE_CHECKING:
    from collections.abc import Iterable

SEED = int(os.environ.get("WHERRY_TEST_SEED", "0"))
BEGIN_MS, END_MS = (round(moment.timestamp() * 1000) for moment in (START, END))
MISSED = ("skip", "once", "all")
LATE_MS = 10 * MINUTE
OUTAGES = 50
EVERY_MS = 26 * HOUR + 7


class Years(Life):
    """A life whose log is forgotten up to the last start, and whose messages are taken at once.

    Attributes:
        told: the moments that each schedule has published for.
    """

    def __init__(self) -> None:
        self.told: dict[str, list[int]] = defaultdict(list)
        self._seen = 0
        super().__init__(BEGIN_MS)

    def commit(self, *, roll: bool = False) -> None:
        super().commit(roll=roll)
        for record, _ in self.log[self._seen :]:
            if isinstance(record, Published):
                self.told[record.envelope.key].append(int.from_bytes(record.block.data[4:12], "big"))
        self._seen = len(self.log)

    def restart(self, until_ms: int) -> None:
        """The broker ends, in order or not, and another one starts then."""
        self.ask(commands.Purge, "q", commit=False)
        self.roll()
        opened = max(number for number, (record, _) in enumerate(self.log) if isinstance(record, Preamble))
        self.log = self.log[opened:]
        self._seen = len(self.log)
        self.crash(until_ms - self.now)
        self.wait(0)


def outages(rng: random.Random, changes: Iterable[int]) -> list[tuple[int, int]]:
    """When there is no broker, from the first moment until the second one: at changes of the clock, and elsewhere."""
    found: list[tuple[int, int]] = []
    for change in changes:
        start = change - rng.choice([MINUTE, 50 * MINUTE, 3 * HOUR, DAY])
        found.append((start, change + rng.choice([-30_000, MINUTE, 40 * MINUTE, 2 * HOUR, DAY])))
    for _ in range(OUTAGES):
        start = rng.randrange(BEGIN_MS + DAY, END_MS - 5 * DAY)
        end = start + rng.choice([0, MINUTE, 20 * MINUTE, 3 * HOUR, DAY, 3 * DAY])
        if all(end + HOUR < down or up + HOUR < start for down, up in found):
            found.append((start, end))
    return sorted(found)


def changes_of(zone: str) -> list[int]:
    """When the clocks of a zone are changed: the moment after that its minutes are walked one by one for."""
    return [round(at.timestamp() * 1000) for at, _, is_plain in oracle(zone).quarters if not is_plain]


def expected(moments: Iterable[int], missed: str, away: list[tuple[int, int]]) -> list[int]:
    """The moments that are worth a message under a policy."""
    moments = list(moments)
    lost: set[int] = set()
    for down, up in away:
        gone = moments[bisect_right(moments, down) : bisect_right(moments, up)]
        if missed == "once":
            lost |= set(gone[:-1])
        elif missed == "skip" and gone:
            lost |= set(gone if up - gone[-1] > LATE_MS else gone[:-1])
    return [moment for moment in moments if moment not in lost]


@pytest.mark.parametrize(
    ("zone", "cron"),
    [
        ("Europe/Paris", "30 2 * * *"),
        pytest.param("Europe/Paris", "*/20 1-3 * * 0", marks=pytest.mark.slow),
        ("America/Santiago", "30 0,23 * * *"),  # the clocks are changed at midnight, and the seasons are the other ones
        pytest.param("America/Santiago", "*/30 23,0 * * 6,0", marks=pytest.mark.slow),
        pytest.param("Pacific/Chatham", "10,50 2,3 * * *", marks=pytest.mark.slow),  # at a quarter to three
        ("Australia/Lord_Howe", "*/15 1-2 * * 0"),
        ("America/New_York", "0 1,2,3 * * 6,0"),
        ("Asia/Kolkata", "59 23 28-31 * *"),
    ],
)
def test_two_years_of_brokers_that_come_and_go(zone, cron):
    rng = random.Random(f"{SEED}:{zone}:{cron}")
    changes = changes_of(zone)
    away, life = outages(rng, changes), Years()
    assert (len(changes) == 4) == (zone != "Asia/Kolkata"), changes  # there and back, twice
    for missed in MISSED:
        plan = {"missed": missed, "late_ms": LATE_MS}
        life.schedule(f"cron.{missed}", cron=cron, zone=zone, key=f"cron.{missed}", **plan)
        life.schedule(f"every.{missed}", every_ms=EVERY_MS, key=f"every.{missed}", **plan)
    for down, up in away:
        life.wait(down - life.now)
        life.restart(up)
    life.wait(END_MS - 1 - life.now)
    walked = [round(each.timestamp() * 1000) for each in oracle(zone).due(cron, START)]
    for missed in MISSED:
        assert life.told[f"cron.{missed}"] == expected(walked, missed, away), missed
        regular = range(BEGIN_MS + EVERY_MS, END_MS, EVERY_MS)
        assert life.told[f"every.{missed}"] == expected(regular, missed, away), missed
