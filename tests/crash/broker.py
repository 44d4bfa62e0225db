"""A broker that is hurt: `wherry serve` on one port and one data directory, started again and again."""

from __future__ import annotations

import asyncio
import json
import random
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wherry
from crash import history
from crash.history import KILL, POWER, STOP
from serving import DEADLINE_S, CommandLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from crash.history import Recorder

PORTS = (20_000, 32_000)
"""Below those that the system gives to outgoing connections: a client that tries while nobody listens on such a port
may be connected to itself."""
POLL_S = 0.001
LOOK_S = 0.05
RUNS_NOTHING = "TZX"
"""The states of threads that are stopped, or have ended (proc(5))."""
RUNS_NO_CODE = RUNS_NOTHING + "D"
"""Those, and threads that wait for a disk inside the kernel: they stop as soon as they would leave it."""


class Broker(CommandLine):
    """One broker, over all its starts.

    Args:
        folder: where its standard error goes, as `broker.log`.
        data: its data directory.
        record: the part of the history that tells when it was hurt.
        options: of `wherry serve`.
    """

    def __init__(self, folder: Path, data: Path, record: Recorder, *options: str) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.url = f"wherry://127.0.0.1:{self.port}"
        self.environ["WHERRY_URL"] = self.url
        self.data = data
        self.log = folder / "broker.log"
        self._record = record
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that runs."""
        assert self._process is not None
        return self._process

    def begin(self) -> None:
        """Starts it, and does not wait."""
        self._record.add(history.Restart)
        options = ("--port", str(self.port), "--data", str(self.data), *self._options)
        with self.log.open("ab") as log:
            self._process = self.start("serve", *options, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)

    def wait_ready(self) -> None:
        """Returns when it serves."""
        out = self.process.stdout
        assert out is not None
        ready = out.readline().decode() if select.select([out], [], [], DEADLINE_S)[0] else "nothing"
        if not ready.startswith("wherry ready on "):
            code = self._reap()
            raise AssertionError(f"the broker does not start: {ready!r}, exit code {code}: {self.said()}")

    def wait_recovering(self) -> None:
        """Returns when it has opened its data directory, and is about to read its log."""
        pid = str(self.process.pid)
        lock = self.data / "lock"
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if lock.exists() and lock.read_text("ascii").split() == [pid]:
                return
            time.sleep(POLL_S)
        raise AssertionError(f"the broker does not come to its log: {self.said()}")

    def kill(self) -> None:
        """Kills it at once."""
        self._record.add(history.Crash, KILL)
        self.process.kill()
        self._reap()

    def lose_power(self, cut: Callable[[], None], blind_s: float) -> int | None:
        """Cuts its disk off, and kills it at once or a little later.

        It stands still meanwhile: an fdatasync that is under way when a file system is shut down may return as if all
        were well, and what it wrote is gone (in one of ten cuts on Linux 6). Real power leaves nobody to believe that.

        Args:
            cut: cuts the disk off.
            blind_s: how long it goes on without its disk, in seconds; 0 for not at all, and perhaps in a sync.

        Returns:
            The exit code, if it has ended by itself.
        """
        self._record.add(history.Crash, POWER)
        self._halt(RUNS_NOTHING if blind_s else RUNS_NO_CODE)
        cut()
        code = None
        if blind_s:
            self.process.send_signal(signal.SIGCONT)
            time.sleep(blind_s)
            code = self.process.poll()
        self._reap()
        return code

    def _halt(self, states: str) -> None:
        """Stops the process, and returns when all its threads are in one of these states."""
        self.process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + DEADLINE_S
        while not {thread_state(path) for path in Path(f"/proc/{self.process.pid}/task").iterdir()} <= {*states}:
            assert time.monotonic() < deadline, self.said()
            time.sleep(POLL_S)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Asks it to end, and does not wait."""
        self._record.add(history.Crash, STOP)
        self.process.send_signal(number)

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """Waits for its end; returns its exit code."""
        try:
            return self.process.wait(timeout_s)
        finally:
            self._reap()

    def end(self) -> None:
        """Leaves nothing running."""
        if self._process is not None:
            self._reap()

    def said(self) -> str:
        """The last of what it has logged."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-20:])

    def count(self, queue: str) -> history.Counters:
        """What it counts of a queue, as `wherry queue info --json` tells; part of the history."""
        asked = time.monotonic()
        info: dict[str, Any] = json.loads(self.out("--json", "queue", "info", queue))
        names = ("ready", "delayed", "leased", "dead", "published", "next_offset", "removed")
        fields = [info[name] for name in names]
        return history.Counters(self._record.add(history.Counters, asked, queue, *fields), asked, queue, *fields)

    async def declare(self, levels: dict[str, str]) -> None:
        """Declares queues, at their levels, in which no message ever dies of its attempts."""
        async with wherry.connect(self.url, timeout=DEADLINE_S) as client:
            for name, level in levels.items():
                self._record.add(history.Queue, name, level)
                await client.declare(name, durability=level, max_attempts=1_000_000)

    async def empty(self) -> None:
        """Returns when no queue has anything left that could be delivered."""
        deadline = time.monotonic() + DEADLINE_S
        async with wherry.connect(self.url, timeout=DEADLINE_S) as client:
            while True:
                rows = await client.queues()
                if not any(row.ready + row.delayed + row.leased for row in rows):
                    return
                assert time.monotonic() < deadline, f"consumers do not drain the queues: {rows}"
                await asyncio.sleep(LOOK_S)

    def _reap(self) -> int:
        process = self.process
        process.kill()
        code = process.wait(DEADLINE_S)
        if process.stdout is not None:
            process.stdout.close()
        return code


def thread_state(path: Path) -> str:
    """The letter for a thread's state, as proc(5) has it; that of a stopped one when it is gone meanwhile."""
    try:
        return path.joinpath("stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "T"


def free_port() -> int:
    """A port that nobody listens on."""
    draw = random.Random()
    while True:
        port = draw.randrange(*PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
