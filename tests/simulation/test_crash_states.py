"""Each state that a power cut may leave of a log is one between what was confirmed and what was issued.

WHERRY_TEST_SUBSETS is how many random sets of sectors are tried at each moment.
"""

from __future__ import annotations

import os
import random
import time

import pytest

import simulation.verb_mutants  # noqa: F401 (lists its own)
from simulation.crash_states import Workload, disk_of, disks, recovered
from simulation.mutants import MUTANTS
from simulation.restarts import differences
from wherry_broker.log.recovery import CorruptLog

DEFAULT_SUBSETS = 16
SUBSETS = int(os.environ.get("WHERRY_TEST_SUBSETS", str(DEFAULT_SUBSETS)))
LONG_WORKLOADS = 5

SHORT = [
    (),
    ("declare",),
    ("declare", "publish"),
    ("declare", "publish large"),
    ("declare", "publish batch", "publish"),
    ("declare", "publish large", "publish large"),
    ("declare", "publish delayed", "restart"),
    ("declare", "publish once", "publish once"),
    ("declare", "publish", "restart"),
    ("declare", "publish", "purge"),
    ("declare", "publish", "delete"),
    ("declare", "delete", "declare"),
    ("declare", "pause", "publish"),
    ("declare", "publish batch", "consume", "ack"),
    ("declare", "publish batch", "consume", "nack"),
    ("declare", "publish batch", "consume", "reject"),
    ("declare", "publish", "consume", "release"),
    ("declare", "publish batch", "consume", "commit"),
    ("declare", "commit"),
    ("declare written", "publish batch", "consume", "commit"),
    ("declare topics", "publish topic"),
    ("declare topics", "publish topic", "restart", "publish topic"),
    ("declare topics", "publish topic", "publish", "consume", "ack"),
    ("declare", "schedule"),
    ("declare written", "schedule", "restart"),
    ("schedule later", "run schedule", "pause schedule", "restart", "schedule"),
    ("declare", "schedule later", "run schedule", "consume", "ack", "unschedule"),
    ("declare written", "publish large", "publish"),
    ("declare written", "publish large", "restart"),
    ("declare written", "publish batch", "consume", "ack"),
]
LONG_OPERATIONS = (
    *["publish", "publish batch", "publish large", "publish delayed", "publish once"],
    *["ack"] * 4,
    *["commit", "nack", "reject", "release", "purge", "restart", "consume"],
)


class Failed(AssertionError):
    """A state of the disk was read as one that never was."""


def long_workload(seed):
    rng = random.Random(seed)
    return ("declare", "consume", *(rng.choice(LONG_OPERATIONS) for _ in range(20)))


def check(operations, segment_bytes, subsets):
    """Recovers from every disk that may be left of a workload; returns how many there are."""
    workload = Workload(operations, segment_bytes)
    rng, seen = random.Random(1), set()
    for moment in workload.disk.moments:
        allowed = workload.states[moment.confirmed : moment.issued + 1]
        for files in disks(moment, rng, subsets):
            key = (hash(tuple(sorted(files.items()))), moment.confirmed, moment.issued)
            if key in seen:
                continue
            seen.add(key)
            _, _, state = recovered(disk_of(files))
            if state not in allowed:
                sizes = {name: len(data) for name, data in files.items()}
                told = differences(state, allowed[-1])
                raise Failed(f"{operations}, segments of {segment_bytes}: {sizes} holds no state that it may: {told}")
    return len(seen)


def check_all(subsets):
    """Checks all workloads; returns how many states there are."""
    states = sum(check(operations, segment_bytes, subsets) for operations in SHORT for segment_bytes in (1 << 20, 300))
    return states + sum(check(long_workload(seed), 1_500, subsets) for seed in range(LONG_WORKLOADS))


def test_every_state_is_one_that_was_promised():
    began = time.monotonic()
    states = check_all(SUBSETS)
    took = time.monotonic() - began
    print(f"\n{states:,} states of the disk recovered in {took:.1f} s")  # noqa: T201 (a figure of the test plan)
    assert states >= 20_000 or SUBSETS < DEFAULT_SUBSETS


@pytest.mark.parametrize(
    "name",
    [
        "a commit is written as two entries",
        "a sync is skipped",
        "a torn tail is taken as whole",
        "more than the torn tail is cut",
        "segments are removed before that is on the disk",
        "segments that a power cut brings back are read",
        "the directory is not synced after a rename",
        "the tail is not written again at a start",
    ],
)
def test_a_planted_bug_is_found(name, monkeypatch):
    MUTANTS[name](monkeypatch)
    with pytest.raises((CorruptLog, OSError, Failed)):
        check_all(2)
