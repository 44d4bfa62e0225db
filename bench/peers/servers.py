"""Server processes, each on a free port of this machine and in a directory of its own, and what they use."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Self

READY_S = 60
POLL_S = 0.002
BLOCK_BYTES = 512
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """A server is not installed; the text says how to get it."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server(ABC):
    """One server process (with its children).

    Args:
        durability: memory, written or synced.
        folder: where it keeps its files; it outlives the process.

    Attributes:
        greeting: what a client says first, and how the server's answer begins once it is ready.
        started_s: how long its first start took.
    """

    greeting = (b"", b"")

    def __init__(self, durability: str, folder: Path) -> None:
        self.durability = durability
        self.folder = folder
        self.port = free_port()
        self.started_s = 0.0
        self._log: IO[bytes] = (folder / "server.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    def environment(self) -> dict[str, str]:
        """Its environment."""
        return dict(os.environ)

    def is_ready(self) -> bool:
        """Whether it answers as it does once it has read its files."""
        said, answered = self.greeting
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.sendall(said)
            probe.settimeout(1)
            return not answered or probe.recv(len(answered)) == answered
        return False

    def start(self) -> float:
        """Starts it; returns after how many seconds it answered."""
        begin = time.monotonic()
        self._process = subprocess.Popen(
            self.command(),
            cwd=self.folder,
            env=self.environment(),
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() - begin > READY_S:
                said = (self.folder / "server.log").read_text(errors="replace")[-500:]
                raise RuntimeError(f"{Path(self.command()[0]).name} did not start: {said.strip()}")
            time.sleep(POLL_S)
        return time.monotonic() - begin

    def kill(self) -> None:
        """Kill -9, for it and its children."""
        if self._process is not None:
            for pid in self._family():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        try:
            self.started_s = self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._log.close()

    def cpu_s(self) -> float:
        """The CPU time that all its processes have used."""
        total = 0
        for pid in self._family():
            with contextlib.suppress(FileNotFoundError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / _TICKS_PER_S

    def rss_mb(self) -> float:
        """The memory that all its processes occupy, in megabytes of 1,000,000 bytes."""
        pages = 0
        for pid in self._family():
            with contextlib.suppress(FileNotFoundError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def disk_mb(self) -> dict[str, float]:
        """How much its files hold, and how much of the disk is allocated to them."""
        held = allocated = 0
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name != "server.log":
                found = path.stat()
                held += found.st_size
                allocated += found.st_blocks * BLOCK_BYTES
        return {"disk": held / 1e6, "allocated": allocated / 1e6}

    def _family(self) -> list[int]:
        assert self._process is not None
        known = [self._process.pid]
        for pid in known:
            with contextlib.suppress(FileNotFoundError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    known += map(int, (task / "children").read_text().split())
        return known


def found(program: str, how: str, folder: str = "") -> str:
    """Where a program is: beside this Python, or on PATH, or only in `folder`.

    Raises:
        Missing: it is not installed.
    """
    beside = Path(sys.executable).parent / program
    places = folder or f"{os.environ.get('PATH', '')}:/usr/sbin"
    path = str(beside) if beside.exists() else shutil.which(program, path=places)
    if path is None:
        raise Missing(how)
    return path
