"""The floor: what the machine does for the same bytes with no broker between.

As `floor.py sink|source PORT COUNT RATE` it is the processes of `relay_latency`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import relay
from measure import Child, percentiles_ms
from worker_parts import STAMP

SMALL = 140
"""As long as the frame of one message of 100 B."""
BATCH_BYTES = 102_400
SCRIPT = str(Path(__file__).resolve())


def relayed_mb_per_s(megabytes: int) -> float:
    """How many megabytes a second a byte relay passes on, in frames as long as those of the loads."""
    measured: dict[str, float] = relay.measure(megabytes)
    return measured["MB/s"]


def relay_latency(count: int, rate_per_s: int) -> dict[str, float]:
    """How long a lone small frame takes through a byte relay, from the write of one process to the read of another."""
    with (
        Child(str(Path(relay.__file__)), "serve") as server,
        Child(SCRIPT, "sink", port := server.line(), str(count), "0") as sink,
    ):
        assert sink.line() == "ready"
        with Child(SCRIPT, "source", port, str(count), str(rate_per_s)) as source:
            assert source.line() == "ready"
            source.go()
            figures: dict[str, float] = percentiles_ms(sink.result()["samples"])
            return figures


def synced_per_s(folder: str, seconds: float) -> float:
    """How many batches of 100 KiB a second a loop of write and fdatasync stores."""
    data, count = os.urandom(BATCH_BYTES), 0
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            os.write(file.fileno(), data)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.monotonic() - begin)


# In a child process.


def sink(port: int, count: int) -> None:
    """Reads frames and tells how old they were."""
    samples: list[int] = []
    waiting = bytearray()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        print("ready", flush=True)
        while len(samples) < count:
            waiting += sock.recv(65_536)
            now = time.monotonic_ns()
            while len(waiting) >= SMALL:
                samples.append(now - STAMP.unpack_from(waiting)[0])
                del waiting[:SMALL]
    print(json.dumps({"samples": samples}), flush=True)
    sys.stdin.readline()


def source(port: int, count: int, rate_per_s: int) -> None:
    """Writes frames at fixed moments."""
    filler = bytes(SMALL - STAMP.size)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        sys.stdin.readline()
        begin = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begin + number / rate_per_s - time.monotonic()))
            sock.sendall(STAMP.pack(time.monotonic_ns()) + filler)
        sys.stdin.readline()


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        sink(int(sys.argv[2]), int(sys.argv[3]))
    else:
        source(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
