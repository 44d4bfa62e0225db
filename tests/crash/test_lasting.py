"""Clients under load whose connections are cut, and whose broker is killed, over real sockets: nothing needs a restart.

The checker looks at all: what was confirmed is there, once; nothing hangs; and consumers end as they began.
"""

from __future__ import annotations

import os

import pytest

from crash.cycles import STRONG, run_round
from crash.lasting import CutRound, LastingRound

CUTS = int(os.environ.get("WHERRY_TEST_CUTS", "1000"))
KILLS = int(os.environ.get("WHERRY_TEST_KILLS", "20"))


@pytest.mark.parametrize("cuts", [60, pytest.param(CUTS, marks=pytest.mark.slow)])
def test_connections_that_are_cut_at_random_moments(tmp_path, cuts):
    figures = run_round(tmp_path / "cuts", tmp_path / "data", STRONG, f"cuts-{cuts}", cuts, kind=CutRound)
    assert figures.unknown == figures.settles_unknown == 0


@pytest.mark.parametrize("kills", [2, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_a_broker_that_is_killed_and_comes_back(tmp_path, kills):
    figures = run_round(tmp_path / "kills", tmp_path / "data", STRONG, f"lasting-{kills}", kills, kind=LastingRound)
    assert figures.unknown == 0
