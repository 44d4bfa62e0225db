"""How many instructions does a message cost the broker? Counted by callgrind, so that it matters not what else runs.

The loads of hotpath.py are counted and compared with instructions.json. One that costs more than the tolerance allows
fails the run. What Python does with the same source depends on how it was built. The same build is compared as it is;
another build of the same minor version by way of a calibrating loop, with a greater tolerance; others not at all.

    instructions.py             compares; exits with 1 when something costs more, and says so loudly when it cannot tell
    instructions.py --update    writes what it finds to instructions.json, for a change that is meant to cost that
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hotpath import LOADS
from measure import HERE, SOURCES, environment, table

EXPECTED = HERE / "instructions.json"
CALIBRATION = "calibration"
TOLERANCE = 0.03
TOLERANCE_ELSEWHERE = 0.10
"""Of another build of Python: the loop has the same mixture of work only by and large."""
UPDATE = "make bench-instructions ARGS=--update"


def count(sources: Path = SOURCES) -> dict[str, int]:
    """The instructions of the calibrating loop and of each load, with these sources.

    Raises:
        subprocess.CalledProcessError: the loads did not run through.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/callgrind.out"
        tool = ["valgrind", "--quiet", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}"]
        fixed = {**environment(sources), "PYTHONHASHSEED": "0"}
        script = [sys.executable, str(HERE / "hotpath.py")]
        subprocess.run(script, env=fixed, check=True)  # what has to be compiled is compiled here, and not counted
        subprocess.run([*tool, *script], env=fixed, check=True, stderr=subprocess.DEVNULL)
        names = (CALIBRATION, *LOADS)
        # Each mark ends a part. The odd ones are what happens between the loads.
        return {name: total_of(Path(f"{out}.{2 * number}").read_text()) for number, name in enumerate(names, 1)}


def total_of(text: str) -> int:
    """The instructions that a file of callgrind tells of."""
    found = re.search(r"^(?:totals|summary): (\d+)$", text, re.MULTILINE)
    assert found is not None, "callgrind wrote no total"
    return int(found[1])


def found() -> dict[str, Any]:
    """What instructions.json holds, as it is here and now."""
    counted = count()
    return {
        "build": sys.version,
        "machine": platform.machine(),
        "msgpack": version("msgpack"),
        CALIBRATION: counted.pop(CALIBRATION),
        "instructions a message": {name: round(total / LOADS[name].count) for name, total in counted.items()},
    }


def why_not(expected: dict[str, Any], here: dict[str, Any]) -> str:
    """Why two counts cannot be compared; "" when they can."""
    for name, of in (("machine", str), ("build", minor), ("msgpack", minor)):
        if of(expected[name]) != of(here[name]):
            return f"the expectation is for {name} {of(expected[name])}, and this is {of(here[name])}"
    return ""


def minor(text: str) -> str:
    """The first two numbers of a version."""
    return ".".join(text.split(".")[:2])


def compared(expected: dict[str, Any], here: dict[str, Any]) -> tuple[dict[str, dict[str, float]], float]:
    """Each load's row, and how much more than 1 a ratio may be."""
    same = expected["build"] == here["build"] and expected["msgpack"] == here["msgpack"]
    scale = 1.0 if same else here[CALIBRATION] / expected[CALIBRATION]
    rows = {}
    for name, cost in here["instructions a message"].items():
        was = expected["instructions a message"][name] * scale
        rows[name] = {"expected": round(was), "found": cost, "ratio": round(cost / was, 4)}
    return rows, TOLERANCE if same else TOLERANCE_ELSEWHERE


def verdict(rows: dict[str, dict[str, float]], tolerance: float) -> tuple[str, bool]:
    """What to say, and whether it fails."""
    worse = [name for name, row in rows.items() if row["ratio"] > 1 + tolerance]
    better = [name for name, row in rows.items() if row["ratio"] < 1 - tolerance]
    if worse:
        text = (
            f"FAILED: over {tolerance:.0%} more instructions a message: {', '.join(worse)}.\n"
            "Find out what costs that: `python -m cProfile -s tottime bench/hotpath.py` before and after.\n"
            f"If it is worth that, say so in the commit, which brings the new expectation along: {UPDATE}"
        )
        return text, True
    if better:
        return f"Cheaper than expected: {', '.join(better)}. Keep it so: {UPDATE}", False
    return f"All within {tolerance:.0%} of what is expected.", False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the expectation")
    given = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("SKIPPED: instructions were NOT counted: valgrind is not installed (Debian's package valgrind)")
        return 0
    here = found()
    if given.update:
        EXPECTED.write_text(json.dumps(here, indent=2) + os.linesep)
        print(f"{EXPECTED} says now: {here['instructions a message']}")
        return 0
    expected = json.loads(EXPECTED.read_text())
    reason = why_not(expected, here)
    if reason:
        print(f"SKIPPED: instructions were counted, but NOT compared: {reason}: {here['instructions a message']}")
        return 0
    rows, tolerance = compared(expected, here)
    print(table(rows))
    text, failed = verdict(rows, tolerance)
    print(text)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
