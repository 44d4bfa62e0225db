"""Workflows while workers are killed and frozen, and the broker too: all effects are there, and each chord fires once.

WHERRY_TEST_TASKS is how many jobs the slow run has, WHERRY_TEST_TASK_KILLS how often its broker is killed; a worker is
killed, and another one frozen, at each hundredth job. WHERRY_TEST_SEED makes other draws.
"""

from __future__ import annotations

import os
import time

import pytest

from chaos.audit import audit
from chaos.flows import BROKER, FREEZE, WORKER
from chaos.ordeal import Ordeal

TASKS = int(os.environ.get("WHERRY_TEST_TASKS", "2000"))
KILLS = int(os.environ.get("WHERRY_TEST_TASK_KILLS", "8"))
SEED = int(os.environ.get("WHERRY_TEST_SEED", "0"))


@pytest.mark.parametrize(("total", "kills"), [(200, 2), pytest.param(TASKS, KILLS, marks=pytest.mark.slow)])
def test_workflows_of_workers_that_are_killed_and_frozen_and_a_broker_that_is_killed(tmp_path, total, kills):
    seed, started = f"chaos-{SEED}-{total}", time.monotonic()
    faults = {BROKER: kills, WORKER: max(2, total // 100), FREEZE: max(2, total // 100)}
    ordeal = Ordeal(tmp_path, seed, total, faults)
    ordeal.run()
    figures, wrong = audit(ordeal.ended, ordeal.ledger.read())
    ordeal.ledger.close()
    took_s = time.monotonic() - started
    print(f"{seed}: {ordeal.total} jobs in {took_s:.1f} s, {ordeal.hurt}, {figures}")  # noqa: T201 (for people)
    assert not wrong, f"WHERRY_TEST_SEED={SEED}, {len(wrong)} wrong, see {tmp_path}:\n" + "\n".join(wrong[:20])
    assert (len(ordeal.ended), ordeal.hurt) == (len(ordeal.flows), faults)
    assert ordeal.left == {}
