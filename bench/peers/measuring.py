"""What is measured of one peer at one durability level: moving messages, and a backlog and its recovery."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from timed import WORDS_BYTES, Load, flood, paced

from loads import MEMORY_MESSAGES
from measure import Child, percentiles_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalogue import Peer
    from servers import Server

HERE = Path(__file__).resolve().parent
PATIENCE_S = 60
"""How long the loads of a worker may take, which ought to take ten seconds."""
SETTLE_S = 0.5
HOARD_MIN = 10_000
"""A backlog of fewer messages says nothing about memory."""
BIG, BIGGER, SINGLE, STEADY = "1 KiB x 100", "4 KiB x 25", "100 B single", "100 B at 1,000/s"
STEADY_PER_S = 1_000


class Failed(Exception):
    """A figure could not be had; the text says why."""


@dataclass(frozen=True)
class Sizes:
    """How long each load takes, in seconds, and how many messages a backlog has."""

    flood_s: float = 1.2
    paced_s: float = 2.0
    hoard_s: float = 3.0
    hoard: int = MEMORY_MESSAGES

    def loads(self) -> dict[str, Load]:
        """The loads that every peer gets."""
        return {
            BIG: flood(1024, 100, self.flood_s),
            SINGLE: flood(100, 0, self.flood_s),
            STEADY: paced(100, STEADY_PER_S, self.paced_s),
        }


class Worker:
    """One end of a queue, in a process of its own.

    Args:
        client: the module of the peer's client, with its variant.
        role: producer or consumer.
        server: where the queue is.
        loads: what is to be done, one after the other.
    """

    def __init__(self, client: str, role: str, server: Server, loads: list[Load]) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it is read after the process has failed)
        told = json.dumps([asdict(load) for load in loads])
        self._child = Child(str(HERE / "worker.py"), client, role, server.address, told, stderr=self._said)
        self._clock = threading.Timer(PATIENCE_S, self._child.kill)
        self._clock.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.cancel()
        self._child.end()
        self._said.close()

    def line(self) -> str:
        """The next line that it prints.

        Raises:
            Failed: it ended, or was ended after PATIENCE_S.
        """
        try:
            return self._child.line()
        except RuntimeError:
            self._said.seek(0)
            lines = [line.strip() for line in self._said if line.strip(" |+-\n") and not line.startswith(" ")]
            raise Failed(lines[-1][:160] if lines else f"its client did not end in {PATIENCE_S} s") from None

    def ready(self) -> None:
        """Waits until it could begin."""
        if (line := self.line()) != "ready":
            raise Failed(f"its client said {line[:80]!r}")

    def go(self) -> None:
        """Tells it to begin."""
        self._child.go()

    def result(self) -> dict[str, Any]:
        """What it measured."""
        result: dict[str, Any] = json.loads(self.line())
        return result


@contextmanager
def workers(client: str, server: Server, loads: list[Load], *roles: str) -> Iterator[list[Worker]]:
    """Several workers, started at the same time."""
    with ExitStack() as stack:
        yield [stack.enter_context(Worker(client, role, server, loads)) for role in roles]


def moves(client: str, server: Server, loads: dict[str, Load]) -> Iterator[tuple[str, dict[str, float]]]:
    """Moves the messages of one load after the other from a producer to a consumer."""
    with ExitStack() as stack:
        shared = [replace(load, shared=stack.enter_context(shared_words())) for load in loads.values()]
        consumer, producer = stack.enter_context(workers(client, server, shared, "consumer", "producer"))
        for name in loads:
            yield name, move(server, consumer, producer)


@contextmanager
def shared_words() -> Iterator[str]:
    """The name of a file that two workers share."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(WORDS_BYTES))
        file.flush()
        yield file.name


def move(server: Server, consumer: Worker, producer: Worker) -> dict[str, float]:
    """Has two workers do their next load."""
    for each in (consumer, producer):
        each.ready()
    cpu = server.cpu_s()
    consumer.go()
    producer.go()
    sent, got = producer.result(), consumer.result()
    cpu = server.cpu_s() - cpu
    if sent["count"] != got["count"]:
        raise Failed(f"{sent['count']:,.0f} messages were sent and {got['count']:,.0f} came")
    micro = 1e6 / got["count"]
    return {
        "msg/s": got["count"] / (got["end"] - sent["begin"]),
        "server us": cpu * micro,
        "client us": (sent["cpu_s"] + got["cpu_s"]) * micro,
        **percentiles_ms(got["samples"]),
    }


def hoard(peer: Peer, level: str, folder: str, sizes: Sizes) -> dict[str, float]:
    """Fills a new server with a backlog; kills it with -9 and starts it again when it keeps anything.

    What could not be filled in its time is scaled to the whole backlog, but for the start of a server that has nothing
    to read; `hoarded` says how many there were.
    """
    server = peer.server_at(level, folder)
    with server:
        begin = time.monotonic()
        empty_mb = server.rss_mb()
        client = peer.client_at(level)
        load = flood(100, 100, sizes.hoard_s * peer.hoard_times, sizes.hoard)
        with workers(client, server, [load], "producer") as (producer,):
            producer.ready()
            producer.go()
            count = producer.result()["count"]
        if count < HOARD_MIN:
            raise Failed(f"only {count:,.0f} messages were published in {time.monotonic() - begin:.0f} s")
        time.sleep(SETTLE_S)
        figures = {"hoarded": count, "RSS B": (server.rss_mb() - empty_mb) * 1e6 / count}
        if level == "memory":
            return figures
        figures |= {f"{name} B": found * 1e6 / count for name, found in server.disk_mb().items()}
        server.kill()
        taken_s, empty_s = recovered(client, server), server.started_s
        figures["recovery s"] = min(taken_s, empty_s) + max(0.0, taken_s - empty_s) * sizes.hoard / count
    return figures


def recovered(client: str, server: Server) -> float:
    """How long a server takes from its start until a consumer has the first message, without the consumer's start."""
    ready_s = server.start()
    with workers(client, server, [Load(100, 100, 1, 1)], "consumer") as (consumer,):
        consumer.ready()
        begin = time.monotonic()
        consumer.go()
        consumer.result()
        return ready_s + time.monotonic() - begin
