"""A fault at every call that a broker makes for its log: whatever fails, nothing confirmed is lost or comes back.

The broker is a real process, and strace makes up the kernel's answer: an error, a full disk, or the end of the process
at that call. In every second case what was not synced is cut off as well, as a power cut would do.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from functools import partial
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, NamedTuple

import pytest

from faults import tracing, workload
from faults.tracing import Broker, Fault, attached, counts, note, read_trace
from faults.workload import OPTIONS, Account, check_restart, lose_unsynced
from wherry_broker.app import EXIT_LOG_FAILED
from wherry_broker.log.journal import segment_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FEW = 4
MANY = int(os.environ.get("WHERRY_TEST_FAULTS", "100"))
"""How many faults the long test makes while a broker runs, and a third of it while one starts; or all there are."""
WHATS = ("KILL", "EIO", "ENOSPC")
TORN = b"\xf5WE\n half of an entry"

MISSED, WENT_ON, ENDED, KILLED = "missed", "went on", "ended", "killed"
MISSED_SHARE_MAX = 0.1
"""Commits are joined as they come, so the last calls of a piece of work are not there each time."""


@pytest.fixture(autouse=True)
def strace() -> None:
    tracing.need_strace()


class Case(NamedTuple):
    """A broker that was faulted, what came of it, and what its clients know."""

    broker: Broker
    outcome: str
    account: Account


def chosen(calls: Counter[str], count: int) -> list[Fault]:
    """`count` of all faults at these calls: first one of each kind, and then more of those that there are many of."""
    seed = random.Random(count)
    groups = [
        [Fault(name, what, when) for when in range(1, calls[name] + 1)] for name in sorted(calls) for what in WHATS
    ]
    for group in groups:
        seed.shuffle(group)
    seed.shuffle(groups)
    return [fault for fault in chain(*zip_longest(*groups)) if fault is not None][:count]


def sweep(folder: Path, count: int, case: Callable[[Path, Fault | None], Case]) -> None:
    """One case without a fault, to learn what calls there are, and then one for each of `count` faults."""
    outcomes: Counter[str] = Counter()
    plain = one(folder / "plain", None, case)
    assert plain.outcome == MISSED
    calls = counts(read_trace(plain.broker.trace))
    faults = chosen(calls, count)
    for number, fault in enumerate(faults):
        made = one(folder / str(number), fault, case, power_cut=number % 2 == 1)
        outcomes[f"{fault.what} {made.outcome}"] += 1
        outcomes[MISSED] += made.outcome == MISSED
        shutil.rmtree(folder / str(number))
    note(f"{len(faults)} faults at {sum(calls.values())} calls {dict(calls)}: {dict(outcomes)}")
    assert outcomes[MISSED] <= 1 + MISSED_SHARE_MAX * len(faults)


def one(
    folder: Path, fault: Fault | None, case: Callable[[Path, Fault | None], Case], *, power_cut: bool = False
) -> Case:
    """One case, and the start after it."""
    folder.mkdir()
    made = case(folder, fault)
    if power_cut:
        lose_unsynced(made.broker)
    check_restart(folder, made.broker.data, made.account, f"{fault} {made.outcome}")
    return made


def how_it_ended(fault: Fault | None, broker: Broker, *, by_itself: bool) -> str:
    """Checks the end of a broker: it went on until it was told to end, was killed, or said why it ended."""
    code = broker.wait() if by_itself else broker.stop()
    said = f"{fault}: {code} {broker.said()}"
    if not by_itself and code == 0:
        return WENT_ON if any(call.faulted for call in read_trace(broker.trace)) else MISSED
    assert fault is not None, said
    assert "Traceback" not in said
    if fault.what == "KILL":
        assert code == -signal.SIGKILL, said
        return KILLED
    assert code == EXIT_LOG_FAILED, said
    assert os.strerror(tracing.number_of(fault.what)) in said
    return ENDED


# While it runs.


def work_under(folder: Path, fault: Fault | None) -> Case:
    """A broker works until it is told to end, or the fault ends it."""
    account = Account()
    with Broker(folder, folder / "data", *OPTIONS) as broker:
        assert broker.port, broker.said()
        with attached(broker, fault):
            workload.run(broker.url, account)
            outcome = how_it_ended(fault, broker, by_itself=account.cut_off)
    assert broker.events()["log_failed"] == (outcome == ENDED), broker.said()
    return Case(broker, outcome, account)


def test_a_fault_while_it_runs(tmp_path):
    sweep(tmp_path, FEW, work_under)


@pytest.mark.slow
def test_many_faults_while_it_runs(tmp_path):
    sweep(tmp_path, MANY, work_under)


# While it starts.


@pytest.fixture(scope="module")
def old_log(tmp_path_factory) -> tuple[Path, Account]:
    """A log of several segments with a torn tail, an unfinished segment, and a segment that was forgotten before."""
    folder, account = tmp_path_factory.mktemp("old"), Account()
    with Broker(folder, folder / "data", *OPTIONS) as broker:
        first = broker.data / segment_name(1)
        old = first.read_bytes()
        workload.run(broker.url, account)
    assert not account.cut_off
    assert not first.exists(), "nothing was cleaned"
    first.write_bytes(old)
    last = max(broker.data.glob("*.log"))
    with last.open("ab") as file:
        file.write(TORN)
    (broker.data / (segment_name(int(last.stem) + 1) + ".tmp")).write_bytes(old[:40])
    return broker.data, account


def start_under(old: tuple[Path, Account], folder: Path, fault: Fault | None) -> Case:
    """A broker starts with that log, or is hindered by the fault."""
    log, account = old
    shutil.copytree(log, folder / "data")
    with Broker(folder, folder / "data", *OPTIONS, fault=fault, traced=True) as broker:
        outcome = how_it_ended(fault, broker, by_itself=not broker.port)
    return Case(broker, outcome, account)


def test_a_fault_while_it_starts(tmp_path, old_log):
    sweep(tmp_path, FEW, partial(start_under, old_log))


@pytest.mark.slow
def test_many_faults_while_it_starts(tmp_path, old_log):
    sweep(tmp_path, MANY // 3, partial(start_under, old_log))
