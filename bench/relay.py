"""How fast can a Python process pass bytes on at all? A raw relay: socket in, one copy, socket out, nothing read.

This is the broker's data path with the broker taken out: the same event loop, the same receive buffer, the same
limits of what may wait to be written. What it reaches is the limit for the broker; loopback.py prints the ratio.

    relay.py                    measures, with a source and a sink in processes of their own
    relay.py serve|sink|source  what those processes run
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from typing import TYPE_CHECKING, cast

import uvloop

from measure import HERE, Child, finish, medians

if TYPE_CHECKING:
    from collections.abc import Callable

SCRATCH_BYTES = 1_048_576
WRITE_HIGH_BYTES = 262_144
WRITE_LOW_BYTES = 65_536
MEGABYTES = 800
FRAME = bytes(100 * (1024 + 1 + 4) + 40)
"""As long as a PUBLISH of 100 messages of 1 KiB: bodies, empty headers, lengths, and the frame's own head."""


class Relay(asyncio.BufferedProtocol):
    """One of two connections; what comes is written to the other one.

    Args:
        opened: called with this connection when its socket is there.
        scratch: the receive buffer of both.
    """

    def __init__(self, opened: Callable[[Relay], None], scratch: memoryview) -> None:
        self._opened = opened
        self._scratch = scratch
        self.peer: Relay | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)
        self._opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (as the broker does)
        """Where the event loop puts the next bytes."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come: one copy, as the broker makes one of each block, and out."""
        assert self.peer is not None
        assert self.peer.transport is not None
        self.peer.transport.write(bytes(self._scratch[:nbytes]))

    def pause_writing(self) -> None:
        """The peer's bytes wait here: it reads no more of them."""
        assert self.peer is not None
        assert self.peer.transport is not None
        self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """There is room again."""
        assert self.peer is not None
        assert self.peer.transport is not None
        self.peer.transport.resume_reading()


async def serve() -> None:
    """Joins the first two connections, the sink's and then the source's."""
    connections: list[Relay] = []
    scratch = memoryview(bytearray(SCRATCH_BYTES))

    def opened(relay: Relay) -> None:
        connections.append(relay)
        if len(connections) == 2:
            connections[0].peer, connections[1].peer = connections[1], connections[0]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Relay(opened, scratch), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def sink(port: int, total: int) -> None:
    """Reads `total` bytes; blocking, since it is not what is measured."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        print("ready", flush=True)
        buffer = bytearray(1 << 20)
        while total > 0:
            total -= sock.recv_into(buffer)
        print(json.dumps({"end": time.monotonic()}), flush=True)
        sys.stdin.readline()


def source(port: int, total: int) -> None:
    """Writes `total` bytes in frames."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        print("ready", flush=True)
        sys.stdin.readline()
        begin = time.monotonic()
        for _ in range(total // len(FRAME)):
            sock.sendall(FRAME)
        print(json.dumps({"begin": begin}), flush=True)
        sys.stdin.readline()


def measure(megabytes: int) -> dict[str, float]:
    """Relays about so many megabytes."""
    total = megabytes * 1_000_000 // len(FRAME) * len(FRAME)
    script = str(HERE / "relay.py")
    with Child(script, "serve") as server:
        port = server.line()
        with Child(script, "sink", port, str(total)) as reader:
            assert reader.line() == "ready"
            with Child(script, "source", port, str(total)) as writer:
                assert writer.line() == "ready"
                cpu = server.cpu_s()
                writer.go()
                wall = reader.result()["end"] - writer.result()["begin"]
                cpu = server.cpu_s() - cpu
    return {"MB/s": total / wall / 1e6, "relay us/KiB": cpu * 1e6 / (total / 1024)}


def main() -> None:
    if sys.argv[1:] and sys.argv[1] == "serve":
        uvloop.run(serve())
    elif sys.argv[1:] and sys.argv[1] in {"sink", "source"}:
        {"sink": sink, "source": source}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
    else:
        rows = {"relay": medians([measure(MEGABYTES) for _ in range(3)])}
        finish("relay", rows, record="--record" in sys.argv)


if __name__ == "__main__":
    main()
