"""What tests share that install packages: virtual environments, and whether there is a package index at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 300


def plain_environ() -> dict[str, str]:
    """The environment without what points at this checkout, an active virtual environment, or a broker."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith("WHERRY_")}


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command outside of this checkout."""
    return subprocess.run(
        [*map(str, command)],
        check=False,
        cwd=cwd,
        env=plain_environ(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def need_index(folder: Path) -> None:
    """Skips the test, loudly, when no package index can be reached.

    Args:
        folder: an empty one that is the test's own; afterwards it has a bare virtual environment in `venv`.
    """
    made = run(sys.executable, "-m", "venv", folder / "venv")
    assert made.returncode == 0, made.stdout + made.stderr
    options = ("--quiet", "--no-deps", "--no-cache-dir", "--retries", "1", "--timeout", "20")
    pip = folder / "venv" / "bin" / "pip"
    done = run(pip, "download", *options, "--dest", folder / "downloads", "hatchling", "msgpack")
    if done.returncode:
        skip_loudly(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")


def skip_loudly(reason: str) -> NoReturn:
    """Skips the test; `-ra`, which pyproject.toml asks for, shows the reason at the end of every run."""
    pytest.skip(f"NOT TESTED: {reason}")
