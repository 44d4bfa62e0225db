"""The benchmarks that no other test runs still run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "bench"
POINT = """
import json, scaling
from crew import Crew
print(json.dumps(scaling.measure(Crew(producers=2, consumers=3, queues=2, declared=4, seconds=0.05), 5)))
print(json.dumps(scaling.measure(Crew(queued=20_000, seconds=0.05), 0)))
"""


def test_a_point_of_a_scaling_sheet():
    done = subprocess.run(
        [sys.executable, "-c", POINT], cwd=BENCH, check=True, capture_output=True, text=True, timeout=60
    )
    spread, queued = map(json.loads, done.stdout.splitlines())
    assert spread.keys() | {"RSS B/queued"} == queued.keys()
    assert all(value > 0 for row in (spread, queued) for value in row.values())
