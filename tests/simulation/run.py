"""Runs seeds: what the tests, `make sim` and you call. A failing seed is told with all that replays it."""

from __future__ import annotations

import random
import shutil
import subprocess
from contextlib import contextmanager

import pytest

from simulation.world import World
from wherry_broker.core import dispatch, housekeeping, index, lane, pager, residence, timers
from wherry_broker.log import journal
from wherry_broker.server import session

SMALL = (
    (index, "HOLES_MIN", 2),
    (lane, "GARBAGE_MIN", 2),
    (timers, "GARBAGE_MIN", 2),
    (dispatch, "SPAN_BYTES_MAX", 120),
    (housekeeping, "REHOME_BYTES", 300),
    (housekeeping, "LOOK_BATCHES", 4),
    (pager, "AHEAD_BATCHES", 4),
    (session, "DELIVER_MESSAGES_MAX", 12),
    (session, "DELIVER_BYTES_MAX", 1_500),
    (session, "CONFIRMS_MAX", 4),
    (residence, "COMPACT_BYTES_MIN", 200),
)
"""Limits that nothing would ever meet in so small a world."""


class Failed(AssertionError):
    """A seed has failed."""


def revision():
    """What the sources are, for whoever wants to see a failure again."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    told = subprocess.run([git, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


@contextmanager
def small_limits(settings):
    """Makes the limits small for a run."""
    marks = random.Random(0)
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in SMALL:
            patch.setattr(module, name, value)
        patch.setattr(journal.Journal.__init__, "__defaults__", (None, lambda: 1 + marks.getrandbits(60)))
        patch.setattr(pager, "AHEAD_BYTES", settings.ahead_bytes)
        yield


def run_seed(seed, steps):
    """Runs one seed; returns the world that it made.

    Raises:
        Failed: a promise was broken; the text says how to see it again.
    """
    world = World(seed)
    try:
        with small_limits(world.settings):
            world.run(steps)
    except Exception as error:
        raise Failed(
            f"seed {seed} of revision {revision()}, at step {world.steps} of {steps}: {type(error).__name__}: {error}\n"
            f"options: {world.settings}\n"
            f"replay: PYTHONPATH=tests python -m simulation {seed} {steps}"
        ) from error
    return world
