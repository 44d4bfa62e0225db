"""Runs seeds by hand: python -m simulation SEED STEPS, or FIRST-LAST STEPS."""

from __future__ import annotations

import sys
import time
from collections import Counter

from simulation.run import Failed, run_seed


def main():
    seeds, steps = sys.argv[1], int(sys.argv[2])
    first, _, last = seeds.partition("-")
    total, began, failed = Counter(), time.monotonic(), 0
    for seed in range(int(first), int(last or first) + 1):
        try:
            world = run_seed(seed, steps)
        except Failed as failure:
            failed += 1
            if not last:
                raise
            print(str(failure), flush=True)  # noqa: T201 (what a run measured is for people to read)
        else:
            total.update(world.happened)
            total.update(world.audit.counts)
    took = time.monotonic() - began
    print(f"{failed} seeds failed; {took:.1f} s; {dict(total)}")  # noqa: T201 (what a run measured is for people to read)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
