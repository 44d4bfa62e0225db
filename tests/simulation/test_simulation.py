"""The whole broker in one thread, from a seed: see world.py for what happens, and audit.py for what must hold.

WHERRY_TEST_SEEDS seeds of WHERRY_TEST_STEPS steps each. A seed that fails is told with the line that replays it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from simulation.run import run_seed

SEEDS = int(os.environ.get("WHERRY_TEST_SEEDS", "30"))
STEPS = int(os.environ.get("WHERRY_TEST_STEPS", "2500"))
MANY_SEEDS, MANY_STEPS = 200, 5_000
TOOLS = Path(__file__).parents[1]


def run_seeds(first, seeds, steps):
    """Runs seeds; prints how much happened in them."""
    total = Counter()
    for seed in range(first, first + seeds):
        world = run_seed(seed, steps)
        total.update(world.happened)
        total.update(world.audit.counts)
    told = ", ".join(f"{count} {what}" for what, count in sorted(total.items()))
    print(f"\n{seeds} seeds of {steps} steps: {told}")  # noqa: T201 (what a run measured is for people to read)
    return total


def test_promises_hold_whatever_happens():
    total = run_seeds(0, SEEDS, STEPS)
    if SEEDS * STEPS >= 75_000:
        rare = ("power cut", "power cut in recovery", "killed", "log failure", "rehomed", "paged in", "duplicates")
        assert all(total[each] >= 10 for each in rare), "the seeds try too little"


@pytest.mark.slow
def test_promises_hold_in_many_worlds():
    run_seeds(10_000, MANY_SEEDS, MANY_STEPS)


@pytest.mark.parametrize("seed", [10_017, 40_099])
def test_a_delivery_may_be_said_after_the_answer_to_a_cancel_that_came_later(seed):
    """They went to two clients in one turn, and the audit took the delivery for one of a cancelled message.

    Of the second seed the message had died and been dropped by the time of the CANCEL, before its delivery was said.
    """
    run_seed(seed, 1500)


def test_a_queue_whose_deletion_was_lost_holds_what_it_held():
    """More than its new bound: it was altered, deleted, declared again and then back, as the deletion was lost."""
    run_seed(10_000, 5000)


def trace_of(seed, hash_seed):
    """What the run of a seed comes to in a process of its own."""
    script = f"from simulation.run import run_seed; print(run_seed({seed}, 1500).trace)"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(TOOLS), *sys.path])}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_a_seed_decides_everything():
    for seed in range(10):
        assert run_seed(seed, 1500).trace == run_seed(seed, 1500).trace


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_order_of_sets_decides_nothing(hash_seed):
    assert trace_of(3, hash_seed) == run_seed(3, 1500).trace
