"""Each planted bug is found, or the simulation proves nothing."""

from __future__ import annotations

import pytest

from simulation.mutants import MUTANTS
from simulation.run import Failed, run_seed
from simulation.verb_mutants import ENUMERATED

SEEDS_MAX = 200
STEPS = 2_000


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in ENUMERATED])
def test_a_planted_bug_is_found(name, monkeypatch):
    MUTANTS[name](monkeypatch)
    for seed in range(SEEDS_MAX):
        try:
            run_seed(seed, STEPS)
        except Failed as failure:
            told = str(failure).partition("\n")[0]
            assert "TypeError" not in told, "the bug is badly planted"
            print(f"\n{name}: {told:.180}")  # noqa: T201 (which seed found it is for people to read)
            return
    pytest.fail(f"{SEEDS_MAX} seeds did not find it")
