"""How did figures go over the runs that were recorded?

    history.py BENCH [--only TEXT] [--last N]

A line of results.jsonl is a run. Those of other machines, or of other versions of Python, are left out: their figures
say nothing beside these.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from measure import RESULTS, facts, table

SAME = ("cpu", "cores", "python")


def runs_of(lines: list[dict[str, Any]], bench: str, here: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of a benchmark on a machine like this one, the oldest first."""
    return [line for line in lines if line["bench"] == bench and all(line[name] == here[name] for name in SAME)]


def trend(runs: list[dict[str, Any]], only: str) -> dict[str, dict[str, float]]:
    """A row for each figure whose name contains `only`, with a column for each run, and newest by oldest."""
    columns = {f"{run['date'][:10]} {run['commit']} #{number}": run["rows"] for number, run in enumerate(runs, 1)}
    rows: dict[str, dict[str, float]] = {}
    for column, found in columns.items():
        for case, figures in found.items():
            for name, value in figures.items():
                if only in f"{case}, {name}":
                    rows.setdefault(f"{case}, {name}", {})[column] = value
    for row in rows.values():
        values = list(row.values())
        if len(values) > 1 and values[0] > 0:
            row["newest / oldest"] = values[-1] / values[0]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", help="loopback, log, client, semantics, peers, scaling")
    parser.add_argument("--only", default="", help="only the figures whose name contains this")
    parser.add_argument("--last", type=int, default=6, help="how many runs")
    given = parser.parse_args()
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    runs = runs_of(lines, given.bench, facts())[-given.last :]
    if not runs:
        print(f"{RESULTS} has no run of {given.bench} on a machine like this one: record one with ARGS=--record")
        return 1
    print(table(trend(runs, given.only)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
