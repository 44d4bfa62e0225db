"""The power is cut under a broker at work, half of the times again while it recovers. Needs root."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from crash.cycles import STRONG, WEAK, rounds, run_round
from crash.disk import Disk
from wherry_broker.app import EXIT_LOG_FAILED

if TYPE_CHECKING:
    from crash.cycles import Round

CYCLES = int(os.environ.get("WHERRY_TEST_CYCLES", "20"))
"""How many cuts of ext4 with queues at the level `synced`; a fifth of it on XFS, and of `written` and `memory`."""
FEW = max(5, CYCLES // 5)
BLIND_S = 0.1
"""For how long the broker may go on without its disk, at most: it must confirm nothing then."""


def cut(disk: Disk, here: Round) -> None:
    """Cuts the power of the disk, and of the broker at once or a little later; then the disk has power again."""
    code = here.broker.lose_power(disk.cut, here.draw.choice((0, here.draw.uniform(0, BLIND_S))))
    assert code in {None, EXIT_LOG_FAILED}, here.broker.said()
    disk.come_back()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "what", "levels", "cycles"),
    [
        ("ext4", "synced", STRONG, CYCLES),
        ("ext4", "written-memory", WEAK, FEW),
        ("xfs", "synced", STRONG, FEW),
    ],
)
def test_a_power_cut_takes_no_more_than_the_level_allows(tmp_path, kind, what, levels, cycles):
    for seed, count in rounds(cycles, f"power-{kind}-{what}"):
        with Disk(tmp_path, kind) as disk:
            run_round(tmp_path / seed, disk.path / "data", levels, seed, count, partial(cut, disk))
