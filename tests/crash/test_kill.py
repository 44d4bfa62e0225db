"""`kill -9` of a broker under load over real sockets, half of the times again while it recovers."""

from __future__ import annotations

import os

import pytest

from crash.cycles import STRONG, WEAK, rounds, run_round

CYCLES = int(os.environ.get("WHERRY_TEST_CYCLES", "30"))
"""How many cycles of queues at the level `synced`; a fifth of it of `written` and `memory`."""


@pytest.mark.parametrize(
    ("what", "levels", "cycles"), [("synced", STRONG, CYCLES), ("written-memory", WEAK, max(5, CYCLES // 5))]
)
def test_a_broker_that_is_killed_keeps_its_promises(tmp_path, what, levels, cycles):
    for seed, count in rounds(cycles, f"kill-{what}"):
        run_round(tmp_path / seed, tmp_path / f"{seed}.data", levels, seed, count)
