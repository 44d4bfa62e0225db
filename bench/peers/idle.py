"""What does a connection cost a server that nobody uses? 10,000 of them, each through its protocol's greeting.

    idle.py [--connections N] [--only TEXT]

Prints the bytes of memory of each; ends with 1 when wherry needs more than it may, which is 20 kB.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).resolve().parents[1]))

from catalogue import PEERS, Peer
from measuring import Failed
from servers import Missing

from crowd import ANSWER_BYTES, Crowd, Greeting, affordable, greet_with

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

CONNECTIONS = 10_000
LIMIT_BYTES = 20_000
SETTLE_S = 1.0
WARM = 10
"""How many connections come first: what a server makes with the first of them, it has for all."""
FEWER = {"RabbitMQ": 10}
"""Peers whose greeting takes long get as many times fewer: it is the cost of one that is told."""


def in_turns(*says: tuple[bytes, bytes]) -> Callable[[socket.socket], None]:
    """A greeting of several turns: what is said, and what the answer contains."""

    def greet(sock: socket.socket) -> None:
        for said, answered in says:
            sock.sendall(said)
            got = sock.recv(ANSWER_BYTES)
            if not got or answered not in got:
                raise Failed(f"a connection was answered {got[:80]!r}")

    return greet


def greet_rabbitmq(sock: socket.socket) -> None:
    """Says who it is, agrees to the server's limits without heartbeats, and opens a virtual host."""
    import pika  # noqa: PLC0415 (who asks for other peers need not have it)

    spec = pika.spec.Connection
    login = spec.StartOk({}, "PLAIN", b"\0guest\0guest", "en_US")
    start, tune, open_ = (
        pika.frame.Method(0, method).marshal() for method in (login, spec.TuneOk(2047, 131_072, 0), spec.Open("/"))
    )
    in_turns((b"AMQP\x00\x00\x09\x01", b"PLAIN"), (start, b"\x00\x0a\x00\x1e"), (tune + open_, b"\x00\x0a\x00\x29"))(
        sock
    )


GREETINGS = {
    "wherry": Greeting(),
    "Valkey streams": greet_with(b"PING\r\n"),
    "Redis streams": greet_with(b"PING\r\n"),
    "RabbitMQ": greet_rabbitmq,
    "NATS JetStream": in_turns((b"", b"INFO"), (b'CONNECT {"verbose":false}\r\nPING\r\n', b"PONG")),
    "beanstalkd": greet_with(b"use bench\r\n"),
}
"""How a client of each peer begins."""


def connection_bytes(name: str, peer: Peer, folder: str, count: int = CONNECTIONS) -> float:
    """How much memory each of so many connections takes that says nothing.

    Raises:
        Failed: there cannot be so many.
    """
    count //= FEWER.get(name, 1)
    if affordable(count) < count:
        raise Failed(f"a process may open {affordable(count):,} connections only")
    with peer.server_at("memory", folder) as server:
        with Crowd(server.address, WARM, GREETINGS[name]):
            time.sleep(SETTLE_S)
            empty_mb: float = server.rss_mb()
        with Crowd(server.address, count, GREETINGS[name]):
            time.sleep(SETTLE_S)
            full_mb: float = server.rss_mb()
    return (full_mb - empty_mb) * 1e6 / (count - WARM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--only", default="", help="only the peers whose name contains this")
    given = parser.parse_args()
    ours = 0.0
    for name in GREETINGS:
        if given.only not in name:
            continue
        folder = tempfile.mkdtemp(prefix=".peers-")
        try:
            found = connection_bytes(name, PEERS[name], folder, given.connections)
            ours = found if name == "wherry" else ours
            print(f"{name:16} {found:10,.0f} B a connection")
        except (Missing, Failed, RuntimeError, OSError) as error:
            print(f"{name:16} could not be measured: {error}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if ours > LIMIT_BYTES:
        sys.exit(f"wherry needs {ours:,.0f} B a connection, and may need {LIMIT_BYTES:,}")


if __name__ == "__main__":
    main()
