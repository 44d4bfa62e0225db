"""The checker catches what it is made for, and lets pass what may happen."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from crash import history
from crash.bad_histories import BAD
from crash.checker import check
from crash.good_histories import GOOD
from crash.history import (
    ERROR,
    POWER,
    STOP,
    UNKNOWN,
    Pub,
    PubEnd,
)
from crash.tale import Tale
from installing import ROOT, plain_environ


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_caught_by_its_own_check(name):
    assert BAD[name]().verdict() == [name[:2]]


def test_every_check_has_bad_histories():
    counts = {f"K{n}": sum(name.startswith(f"K{n} ") for name in BAD) for n in range(1, 10)}
    assert min(counts.values()) >= 2, counts
    assert len(BAD) >= 30


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name):
    assert GOOD[name]().verdict() == []


def test_a_violation_names_ids_and_times():
    tale = Tale().pub("p:1", 1).drained()
    (violation,) = check(tale.events).violations
    assert str(violation) == (
        "K1 at 100.300000: p:1 of q was confirmed at 100.300000, delivered never, and finished by nobody"
    )


def test_the_figures_are_counted():
    tale = Tale().pub("p:1", 1).done("p:1", 1).crash().crash(POWER).crash(STOP).add(Pub, "p/2", "p:2", "q")
    tale.done("p:2", 2, token=(2, 1)).take("p:2", 2, token=(2, 2)).settle("p:2", outcome=UNKNOWN, token=(2, 2))
    tale.add(Pub, "p/2", "p:3", "q").add(PubEnd, "p/2", "p:3", ERROR)
    assert check(tale.events).figures._asdict() == {
        "published": 3,
        "confirmed": 1,
        "refused": 1,
        "unknown": 1,
        "recovered": 1,
        "delivered": 2,
        "redelivered": 1,
        "settled": 2,
        "settles_unknown": 1,
        "kills": 1,
        "power_cuts": 1,
        "stops": 1,
    }


def test_it_reads_files_and_says_by_its_exit_code_what_it_found(tmp_path):
    parts: dict[str, list[Any]] = {"clients": [], "broker": []}
    for event in Tale().pub("p:1", 1).crash().drained().count(1, 0, ready=1).events:
        parts["clients" if isinstance(event, Pub | PubEnd) else "broker"].append(event)
    for name, events in parts.items():
        (tmp_path / name).write_text("".join(map(history.line, events)), "utf-8")
    command = [sys.executable, "-m", "crash.checker", str(tmp_path / "broker"), str(tmp_path / "clients")]
    environ = plain_environ() | {"PYTHONPATH": str(ROOT / "tests")}
    bad = subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=60)
    assert (bad.returncode, bad.stderr) == (1, "")
    figures, *violations = bad.stdout.splitlines()
    assert "published 1, confirmed 1" in figures
    assert [violation[:2] for violation in violations] == ["K1", "K6", "K6"]
    good = subprocess.run(command[:-1], check=False, env=environ, capture_output=True, text=True, timeout=60)
    assert good.returncode == 1, "what the broker counts is not in half of a history"


def test_a_history_survives_its_file(tmp_path):
    events = Tale().pub("p:1", 1, priority=3).done("p:1", 1).crash().drained().count(1, 1).events
    (tmp_path / "all").write_text("".join(map(history.line, events)), "utf-8")
    assert history.read([tmp_path / "all"]) == events
