"""Rounds of cycles: clients that never rest, a broker that is hurt again and again, and the checker over all of it.

A round has one data directory and one set of client processes; it ends with the queues drained and the whole history
checked. A cycle lets the broker run for a while, hurts it, and starts it again. The seed of a round decides everything
that is drawn, though not what the machine makes of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

from crash import history
from crash.broker import Broker
from crash.checker import Figures, check
from crash.history import Recorder
from installing import ROOT
from serving import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from crash.checker import Report

SEED = int(os.environ.get("WHERRY_TEST_SEED", "0"))
ROUND_CYCLES = 30
RUN_S = (0.05, 1.5)
PRODUCERS = ("p1", "p2", "p3", "p4")
CONSUMERS = {"c1": ("a",), "c2": ("b",), "c3": ("a", "b")}
STRONG = {"a": "synced", "b": "synced"}
WEAK = {"a": "written", "b": "memory"}
"""The two queues, and their levels."""
OPTIONS = ("--segment-bytes", "65536")
RECOVERY_S = 0.02
"""About how long the broker of such a small log takes from opening it to serving."""
COUNT_EVERY = 7
"""After how many cycles the broker is asked what it counts."""


class Round:
    """One round.

    Args:
        folder: for the history, and what the broker logs.
        data: the data directory.
        levels: the queues a and b, and their levels.
        seed: of all that is drawn.
        hurt: hurts the broker, so that it is no more.

    Attributes:
        url: where clients find the broker.
    """

    roles = ("produce", "consume")

    def __init__(
        self, folder: Path, data: Path, levels: dict[str, str], seed: str, hurt: Callable[[Round], None] | None = None
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.draw = random.Random(seed)
        self.seed = seed
        self.levels = levels
        self.killed_while_starting = 0
        self._record = Recorder(folder / "broker.jsonl")
        self.broker = Broker(folder, data, self._record, *OPTIONS)
        self.url = self.broker.url
        self._hurt = hurt or Round.kill
        self._clients: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        asyncio.run(self.broker.declare(self.levels))
        for name in PRODUCERS:
            self._clients[name] = self._client(name, self.roles[0], tuple(self.levels))
        for name, queues in CONSUMERS.items():
            self._clients[name] = self._client(name, self.roles[1], queues)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._clients.values():
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self.broker.end()
        self._record.close()

    def start(self) -> None:
        """Starts the broker, and waits until it serves."""
        self.broker.begin()
        self.broker.wait_ready()

    def cycle(self, number: int) -> None:
        """Lets the broker run for a while, hurts it, and starts it again."""
        time.sleep(self.draw.uniform(*RUN_S))
        if number % COUNT_EVERY == COUNT_EVERY - 1:
            self.count()
        self._hurt(self)
        if self.draw.random() < 0.5:
            self.broker.begin()
            self.broker.wait_recovering()
            time.sleep(self.draw.uniform(0, RECOVERY_S))
            self._hurt(self)
            self.killed_while_starting += 1
        self.start()

    def kill(self) -> None:
        """SIGKILL."""
        self.broker.kill()

    def count(self) -> None:
        """Asks the broker what it counts."""
        for name in self.levels:
            self.broker.count(name)

    def finish(self) -> Report:
        """Drains the queues, hurts the broker once more, and checks the whole history."""
        self._stop(PRODUCERS)
        asyncio.run(self.broker.empty())
        self._stop(tuple(CONSUMERS))
        self._record.add(history.Drained)
        self.count()
        self._hurt(self)
        self.start()
        self.count()
        self.broker.stop()
        assert self.broker.wait() == 0, self.broker.said()
        self._record.close()
        return check(history.read(sorted(self.folder.glob("*.jsonl"))))

    def _client(self, name: str, role: str, queues: tuple[str, ...]) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(str(ROOT / part) for part in ("client", "tests"))
        out = self.folder / f"{name}.jsonl"
        arguments = (name, role, self.url, str(out), self.seed, *queues)
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "crash.clients", *arguments],
                env=self.broker.environ | {"PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stderr=log,
            )

    def _stop(self, names: tuple[str, ...]) -> None:
        """Tells clients to end, and waits for it."""
        for name in names:
            stdin = self._clients[name].stdin
            assert stdin is not None
            stdin.close()
        for name in names:
            code = self._clients[name].wait(DEADLINE_S)
            assert code == 0, f"{name} ended with {code}: {(self.folder / f'{name}.log').read_text('utf-8')}"


def rounds(cycles: int, what: str) -> Iterator[tuple[str, int]]:
    """The seeds of as many rounds as these cycles take, each with its number of cycles."""
    for number, first in enumerate(range(0, cycles, ROUND_CYCLES)):
        yield f"{what}-{SEED}-{number}", min(ROUND_CYCLES, cycles - first)


def run_round(
    folder: Path,
    data: Path,
    levels: dict[str, str],
    seed: str,
    cycles: int,
    hurt: Callable[[Round], None] | None = None,
    kind: type[Round] | None = None,
) -> Figures:
    """Runs one round; what it leaves is removed when all is well.

    Returns:
        How much happened.

    Raises:
        AssertionError: a promise was broken; the text says where the history is.
    """
    started = time.monotonic()
    with (kind or Round)(folder, data, levels, seed, hurt) as here:
        for number in range(cycles):
            here.cycle(number)
        report = here.finish()
    took_s = time.monotonic() - started
    print(  # noqa: T201 (what a test measured is for people to read)
        f"{seed}: {cycles} cycles in {took_s:.1f} s, {report.figures}, {here.killed_while_starting} while it started"
    )
    assert not report.violations, f"WHERRY_TEST_SEED={SEED}, seed {seed}: history in {folder}\n{report.text[:4000]}"
    assert report.figures.confirmed
    shutil.rmtree(folder)
    return report.figures
