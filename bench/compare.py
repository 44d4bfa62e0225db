"""What did a change do to the speed? Two commits in turns, in one run, and the ratios of neighbours.

    compare.py REV [--bench NAME ...] [--only TEXT] [--rounds N] [--full]

The benchmarks of the working tree run with the sources of REV, and with those of the working tree as they are, changes
included: both are asked the same. A ratio over 1 is more than before. `better` and `worse` are said where the true
ratio is with 95% on that side of 1, which takes six rounds at least. `--bench instructions` counts, and once is enough.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pairs
from hotpath import LOADS
from instructions import count
from measure import HERE, ROOT, SOURCES, environment, table

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHES = {
    "loopback": ["--only"],
    "client": ["--only"],
    "log": [],
    "semantics": [],
    "instructions": [],
}
"""Those whose figures can be compared, and which of our options they know."""
GIT = ["git", "-C", str(ROOT)]
MARKS = {1: "better", -1: "worse", 0: ""}


def is_commit(revision: str) -> bool:
    """Whether git knows a commit by that name."""
    verify = [*GIT, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    return subprocess.run(verify, stdout=subprocess.DEVNULL, check=False).returncode == 0


@contextmanager
def sources_of(revision: str) -> Iterator[Path]:
    """The sources of a commit, gone at the end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "before"
        subprocess.run([*GIT, "worktree", "add", "--quiet", "--detach", str(path), revision], check=True)
        try:
            yield path
        finally:
            subprocess.run([*GIT, "worktree", "remove", "--force", str(path)], check=True)


def run(bench: str, sources: Path, options: list[str]) -> pairs.Rows:
    """What a benchmark prints with these sources.

    Raises:
        subprocess.CalledProcessError: it failed; it has said why.
    """
    environ = environment(sources)
    command = [sys.executable, str(HERE / f"{bench}.py"), *options]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    rows: pairs.Rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    return rows


def compare(bench: str, sources: dict[str, Path], rounds: int, options: list[str]) -> dict[str, pairs.Ratio]:
    """Runs a benchmark with both sources in turns."""
    runs = []
    for number, side in enumerate(pairs.order(rounds), 1):
        runs.append((side, run(bench, sources[side], options)))
        print(f"{bench}: {number} of {2 * rounds} runs are done", file=sys.stderr)
    return pairs.compare(runs)


def count_both(sources: dict[str, Path]) -> pairs.Rows:
    """The instructions a message of each load with both sources, and their ratio."""
    before, after = count(sources["before"]), count(sources["after"])
    return {
        name: {
            "before": before[name] / load.count,
            "after": after[name] / load.count,
            "ratio": after[name] / before[name],
        }
        for name, load in LOADS.items()
    }


def shown(ratios: dict[str, pairs.Ratio]) -> str:
    """The ratios as aligned text."""
    lines = [("", "before", "after", "ratio", "95% between", "")]
    lines += [
        (name, f"{r.before:,.4g}", f"{r.after:,.4g}", f"{r.ratio:.3f}", f"{r.low:.3f} {r.high:.3f}", MARKS[r.better])
        for name, r in ratios.items()
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        for name, *cells in lines
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", metavar="REV", help="what to compare with, as git names it")
    parser.add_argument("--bench", action="append", choices=BENCHES, help="which; loopback when not given")
    parser.add_argument("--only", default="", help="only the cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=8, help="how many pairs of runs")
    parser.add_argument("--full", action="store_true", help="whole runs; they are short ones otherwise")
    given = parser.parse_args()
    if not is_commit(given.revision):
        parser.error(f"git knows no commit {given.revision!r}")
    return given


def main() -> None:
    given = options()
    with sources_of(given.revision) as before:
        sources = {"before": before, "after": SOURCES}
        for bench in given.bench or ["loopback"]:
            if bench == "instructions":
                print(f"instructions a message, {given.revision} before and the working tree after")
                print(table(count_both(sources)))
                continue
            more = ["--rounds", "1"] if given.full else ["--quick"]
            more += ["--only", given.only] if given.only and "--only" in BENCHES[bench] else []
            ratios = compare(bench, sources, given.rounds, more)
            chosen = {name: ratio for name, ratio in ratios.items() if given.only in name}
            print(f"{bench}, {given.revision} before and the working tree after, {given.rounds} pairs of runs")
            print(shown(chosen))


if __name__ == "__main__":
    main()
