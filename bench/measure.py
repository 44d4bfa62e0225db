"""What all benchmarks share: child processes, their CPU time and memory, percentiles, tables, and the results file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SOURCES = Path(os.environ.get("WHERRY_BENCH_SOURCES", ROOT))
"""Whose sources are measured: those beside this folder, unless compare.py asks for others."""
RESULTS = HERE / "results.jsonl"
LIBRARIES = ("msgpack", "uvloop", "crc32c")
"""What the broker is made of, and not ours."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_TERM_S = 10
_QUIET = {"WHERRY_LOG_FORMAT": "json", "WHERRY_LOG_LEVEL": "info"}


def parser(description: str | None, *, rounds: str, quick: str, only: str = "") -> argparse.ArgumentParser:
    """What reads the options that benchmarks have in common; each may add its own.

    Args:
        description: what the benchmark asks.
        rounds: what runs in each round, such as "each case runs".
        quick: what `--quick` leaves of it.
        only: what `--only` chooses among, such as "the cases"; there is no such option when not given.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=3, help=f"how often {rounds}; medians are printed")
    made.add_argument("--quick", action="store_true", help=quick)
    if only:
        made.add_argument("--only", default="", help=f"only {only}")
    made.add_argument("--record", action="store_true", help="append the result to results.jsonl")
    return made


def environment(sources: Path = SOURCES) -> dict[str, str]:
    """The environment of child processes: they import these sources, whatever is installed.

    They keep their bytecode, as what was installed has it, whatever the environment says of that: the start of a broker
    that compiles itself takes 0.1 s more.
    """
    path = f"{sources / 'client'}:{sources / 'broker'}"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": path, "WHERRY_BENCH_SOURCES": str(sources)}


class Child:
    """A child process that talks in lines: one line out when it is ready, one line in to go, one line of JSON out.

    Args:
        arguments: what Python is called with.
        more: what else stands in its environment.
        stderr: where its standard error goes; None for where ours goes.
    """

    def __init__(self, *arguments: str, more: dict[str, str] | None = None, stderr: IO[str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**environment(), **(more or {})},
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Asks it to end, and sees to it that it does."""
        self._process.terminate()
        try:
            self._process.wait(_TERM_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def line(self) -> str:
        """The next line that it prints.

        Raises:
            RuntimeError: it has ended without one.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        return line.strip()

    def go(self, line: str = "go") -> None:
        """Tells it to begin."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """What it measured."""
        result: dict[str, Any] = json.loads(self.line())
        return result

    def cpu_s(self) -> float:
        """The CPU time that its threads have used, in user and in kernel mode."""
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        spent_ns = sum(int(each.read_text().split()[0]) for each in threads)
        if spent_ns:
            return spent_ns / 1e9
        # Not every kernel keeps that account. This one counts in ticks, so that a short run tells little.
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def rss_mb(self, line: str = "VmRSS") -> float:
        """The memory that it occupies, in megabytes of 1,000,000 bytes; `VmHWM` for the most that it ever did."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = next(each for each in status.splitlines() if each.startswith(line))
        return int(found.split()[1]) * 1024 / 1e6

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self._process.kill()
        self._process.wait()


class Broker(Child):
    """A broker on a free port of this machine.

    Args:
        data: the directory of its log; "" for a memory log.
        more: settings, as its environment names them.

    Attributes:
        address: HOST:PORT.
        ready_s: how long it took from its start until it was ready.
    """

    def __init__(self, data: str = "", **more: str) -> None:
        self._events = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it is read until the broker is gone)
        begin = time.monotonic()
        flags = ("--data", data) if data else ()
        super().__init__(
            "-m", "wherry_broker.cli", "serve", "--port", "0", *flags, more=more | _QUIET, stderr=self._events
        )
        self.address = self.line().rpartition(" ")[2]
        self.ready_s = time.monotonic() - begin

    def event(self, name: str) -> dict[str, Any]:
        """The newest line of its own log that tells of this event."""
        self._events.seek(0)
        lines = [json.loads(line) for line in self._events if f'"{name}"' in line]
        return dict(lines[-1])


def percentiles_ms(samples_ns: list[int]) -> dict[str, float]:
    """The p50, p99 and p99.9 of durations in nanoseconds, in milliseconds."""
    ordered = sorted(samples_ns)
    last = len(ordered) - 1
    return {
        name: round(ordered[min(last, int(part * len(ordered)))] / 1e6, 3)
        for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999))
    }


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over the rounds."""
    return {name: median(each[name] for each in rounds) for name in rounds[0]}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Rows of figures as aligned text; a figure that a row does not have is left blank."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [["", *names], *([case, *(_shown(row.get(name)) for name in names)] for case, row in rows.items())]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in cells
    )


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def facts() -> dict[str, Any]:
    """The commit, the day, and the machine."""
    git = ["git", "-C", str(SOURCES)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() + ("+changes" if changes.stdout.strip() else ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def finish(bench: str, rows: dict[str, dict[str, float]], *, record: bool, **more: Any) -> None:
    """Prints the table, and one line of JSON; appends that line to the results when asked to."""
    print(table(rows))
    line = json.dumps({"bench": bench, **facts(), **more, "rows": rows}, separators=(",", ":"))
    print(line)
    if record:
        with RESULTS.open("a") as file:
            file.write(line + "\n")
