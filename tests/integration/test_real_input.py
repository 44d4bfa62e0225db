"""A real file through the command line: published by lines, and taken by two consumers that compete."""

from __future__ import annotations

import subprocess
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from serving import DEADLINE_S, Served

LINES_MIN = 200_000


@pytest.fixture(scope="module")
def real_file(tmp_path_factory) -> Path:
    """The sources of the standard library, one after the other, until there are lines enough."""
    path = tmp_path_factory.mktemp("real") / "input"
    lines = 0
    with path.open("wb") as file:
        for source in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
            text = source.read_bytes()
            whole = text if text.endswith(b"\n") else text + b"\n"
            file.write(whole)
            lines += whole.count(b"\n")
            if lines >= LINES_MIN:
                break
    return path


def test_two_consumers_share_a_real_file(tmp_path, real_file):
    """What both wrote, taken together, is the file, each line as often as it stands there."""
    sent = Counter(real_file.read_bytes().split(b"\n")[:-1])
    assert sent.total() >= LINES_MIN
    outputs = [tmp_path / name for name in ("first", "second")]
    with Served(tmp_path) as served:
        consumers = []
        for path in outputs:
            with path.open("wb") as out:
                consumers.append(served.start("consume", "lines", stdin=subprocess.DEVNULL, stdout=out))
        served.sh("until wherry queue list | grep -qP '\\t2$'; do :; done")  # both wait
        served.sh(f"wherry publish lines --lines < {real_file}")
        served.sh("until wherry queue list | grep -qP '^lines(\\t0){5}\\t2$'; do :; done")  # nothing is left
        for process in consumers:
            process.terminate()
            assert process.communicate(timeout=DEADLINE_S) == (None, b"")
            assert process.returncode == 0
    got = [Counter(path.read_bytes().split(b"\n")[:-1]) for path in outputs]
    assert all(each.total() > 0 for each in got), "one of them got nothing"
    assert got[0] + got[1] == sent
