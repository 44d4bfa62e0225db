"""What does a log on the disk cost, and how fast is it read again?

The broker's own figures stand beside what the disk itself does for the same bytes, measured in the same run. All
brokers, producers and consumers are processes of their own on loopback.

    rates         1 KiB x 100, 1,000 in flight, confirmed and settled: `memory`, `synced`, and a bare write + fdatasync
    latency       one publisher that waits for each confirm, and a bare write + fdatasync of as many bytes
    recovery      how long a broker takes until it is ready, after a crash with 1,000,000 messages of 100 B
    history       the same after a history that is settled to the last message
    amplification bytes written to the log for a byte published, with cleaning on
    backlog       messages that do not fit into memory: memory, and how fast they are drained
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

import wherry
from loads import BIG, DONE_BYTES, LOADS, Case
from loopback import move, worker
from measure import Broker, finish, medians, parser, percentiles_ms

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

MB = 1_000_000
ENTRY_BYTES = 1_200
"""About how long the entry of a lone message of 1 KiB is in the log."""
UNBOUNDED = {"WHERRY_QUEUE_MAX_MESSAGES": "1000000000", "WHERRY_QUEUE_MAX_BYTES": "1000GiB"}
KEPT_EVERY = 1_000
"""In `amplification`, one message in so many is never settled."""


@contextmanager
def directory() -> Iterator[str]:
    """An empty directory on the disk of the working directory, gone at the end: /tmp may be memory."""
    path = tempfile.mkdtemp(prefix=".bench-", dir=Path.cwd())
    try:
        yield path
    finally:
        shutil.rmtree(path)


def run(role: str, broker: Broker, case: Case) -> dict[str, float]:
    """Has one worker do all of a case; returns its rate."""
    with worker(role, broker, case) as child:
        child.go()
        got = child.result()
    return {"msg/s": case.count / (got["end"] - got["begin"])}


def disk_rate(size: int, total: int) -> dict[str, float]:
    """What the disk does when `size` bytes at a time are appended and synced."""
    data = os.urandom(size)
    with directory() as path:
        descriptor = os.open(Path(path) / "bare", os.O_WRONLY | os.O_CREAT)
        begin = time.monotonic()
        for _ in range(total // size):
            os.write(descriptor, data)
            os.fdatasync(descriptor)
        wall = time.monotonic() - begin
        os.close(descriptor)
    return {"MB/s": total // size * size / wall / MB}


def disk_latencies_ns(size: int, count: int) -> list[int]:
    """How long each of many appends with a sync takes."""
    data, samples = os.urandom(size), []
    with directory() as path:
        descriptor = os.open(Path(path) / "bare", os.O_WRONLY | os.O_CREAT)
        for _ in range(count):
            begin = time.monotonic_ns()
            os.write(descriptor, data)
            os.fdatasync(descriptor)
            samples.append(time.monotonic_ns() - begin)
        os.close(descriptor)
    return samples


def rates(count: int) -> dict[str, dict[str, float]]:
    """The row of each level, and that of the disk."""
    case = replace(LOADS[BIG], count=count)
    rows = {"memory": move(case)}
    with directory() as data:
        rows["synced"] = move(case, data)
    # As much at a time as group commit has when all that is in flight waits for the commit before.
    rows["disk, 1 MB at a time"] = disk_rate(case.flight * case.size, count * case.size)
    return rows


async def confirm_latencies_ns(address: str, size: int, count: int) -> list[int]:
    """How long each of many publishes takes, one after the other."""
    samples = []
    body = os.urandom(size)
    async with wherry.connect(f"wherry://{address}") as client:
        queue = client.queue("latency")
        await queue.publish(body)
        for _ in range(count):
            begin = time.monotonic_ns()
            await queue.publish(body)
            samples.append(time.monotonic_ns() - begin)
    return samples


def latency(count: int) -> dict[str, dict[str, float]]:
    """One publisher that waits, a few hundred at a time in turn with the bare disk."""
    ours: list[int] = []
    bare: list[int] = []
    with directory() as data, Broker(data) as broker:
        for _ in range(5):
            ours += uvloop.run(confirm_latencies_ns(broker.address, 1024, count // 5))
            bare += disk_latencies_ns(ENTRY_BYTES, count // 5)
    return {"one at a time, synced": percentiles_ms(ours), "write + fdatasync": percentiles_ms(bare)}


def restarted(data: str) -> dict[str, float]:
    """How long a broker takes until it is ready, beside one that has nothing to read."""
    with directory() as empty, Broker(empty) as broker:
        plain_s = broker.ready_s
    with Broker(data) as broker:
        read = broker.event("log_read")
        return {
            "ready s": broker.ready_s,
            "empty ready s": plain_s,
            "read s": read["took_s"],
            "log MB": read["size_bytes"] / MB,
            "RSS MB": broker.rss_mb(),
        }


def recovery(count: int) -> dict[str, float]:
    """Crashes with `count` messages of 100 B in the log."""
    with directory() as data:
        with Broker(data, **UNBOUNDED) as broker:
            run("producer", broker, Case(100, 100, 1_000, count))
            broker.kill()
        return restarted(data)


def history(megabytes: int) -> dict[str, float]:
    """Crashes after so much has been published, and all of it settled."""
    with directory() as data:
        with Broker(data) as broker, tempfile.NamedTemporaryFile() as shared:
            shared.write(bytes(DONE_BYTES))
            shared.flush()
            case = replace(LOADS[BIG], count=megabytes * MB // 1024 // 100 * 100, shared=shared.name)
            with worker("consumer", broker, case) as consumer, worker("producer", broker, case) as producer:
                consumer.go()
                producer.go()
                producer.result()
                consumer.result()
            broker.kill()
        return restarted(data)


async def leave_some(address: str, count: int) -> None:
    """Publishes in batches of 100 and settles all but one message in KEPT_EVERY."""
    body = os.urandom(1024)
    async with wherry.connect(f"wherry://{address}") as client:
        queue = await client.declare("left", lease=600, max_messages=count)
        taken = 0
        async with queue.consume(credit=50_000) as consumer:
            publishing = asyncio.create_task(_publish_all(queue, body, count))
            async for messages in consumer.batches(500):
                await queue.ack_many([each for each in messages if each.offset % KEPT_EVERY])
                taken += len(messages)
                if taken >= count:
                    break
            await publishing


async def _publish_all(queue: wherry.Queue, body: bytes, count: int) -> None:
    for _ in range(count // 100):
        await queue.publish_many([body] * 100)


def amplification(megabytes: int) -> dict[str, float]:
    """Bytes written for a byte published, when a few messages of every segment stay for ever."""
    count = megabytes * MB // 1024 // 100 * 100
    with directory() as data, Broker(data, **UNBOUNDED) as broker:
        begin = time.monotonic()
        uvloop.run(leave_some(broker.address, count))
        wall = time.monotonic() - begin
        broker.end()
        closed = broker.event("log_closed")
    return {
        "msg/s": count / wall,
        "written / published": closed["written_bytes"] / (count * 1024),
        "log MB": closed["size_bytes"] / MB,
        "left MB": count / KEPT_EVERY * 1024 / MB,
    }


def backlog(count: int) -> dict[str, dict[str, float]]:
    """Publishes `count` messages of 1 KiB, then drains them; beside it a tenth of that, which memory holds."""
    case = replace(LOADS[BIG], count=count)
    small = replace(case, count=min(count // 10, 400_000))
    rows = {}
    for name, mine, memory in (("in memory", small, "8GiB"), ("paged", case, "256MiB")):
        with directory() as data, Broker(data, **UNBOUNDED, WHERRY_RESIDENT_BYTES_MAX=memory) as broker:
            filled = run("producer", broker, mine)
            drained = run("consumer", broker, mine)
            rows[name] = {
                "messages": mine.count,
                "fill msg/s": filled["msg/s"],
                "drain msg/s": drained["msg/s"],
                "most RSS MB": broker.rss_mb("VmHWM"),
            }
    return rows


def options() -> argparse.Namespace:
    made = parser(
        __doc__,
        rounds="`rates` and `latency` run",
        quick="a tenth of everything, once",
        only="the parts whose name contains this",
    )
    made.add_argument("--full", action="store_true", help="10 GB of history, a backlog of 10,000,000 messages")
    return made.parse_args()


def repeated(rounds: int, measure: Callable[[], dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The medians of several rounds."""
    found = [measure() for _ in range(rounds)]
    return {name: medians([each[name] for each in found]) for name in found[0]}


def main() -> None:
    given = options()
    part = 10 if given.quick else 1
    large = 10 if given.full else 1
    rounds = 1 if given.quick else given.rounds
    parts: dict[str, Callable[[], dict[str, dict[str, float]]]] = {
        "rates": lambda: repeated(rounds, lambda: rates(600_000 // part)),
        "latency": lambda: latency(5_000 // part),
        "recovery": lambda: {"recovery, 1 M x 100 B": recovery(1_000_000 // part)},
        "history": lambda: {f"history, {large} GB settled": history(1_000 * large // part)},
        "amplification": lambda: {"1 in 1,000 is left": amplification(2_000 // part)},
        "backlog": lambda: backlog(1_000_000 * large // part),
    }
    rows: dict[str, dict[str, float]] = {}
    for name, measure in parts.items():
        if given.only in name:
            rows |= measure()
            print(f"{name} is done", file=sys.stderr)
    finish("log", rows, record=given.record, rounds=rounds, **ratios(rows))


def ratios(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """What depends least on the machine."""
    found: dict[str, float] = {}
    if "synced" in rows:
        disk = next(row for name, row in rows.items() if name.startswith("disk"))
        found["synced_to_memory"] = rows["synced"]["msg/s"] / rows["memory"]["msg/s"]
        found["synced_to_disk"] = rows["synced"]["MB/s"] / disk["MB/s"]
    if "one at a time, synced" in rows:
        found["confirm_to_bare_sync"] = rows["one at a time, synced"]["p50_ms"] / rows["write + fdatasync"]["p50_ms"]
    if "paged" in rows:
        found["paged_drain_to_memory"] = rows["paged"]["drain msg/s"] / rows["in memory"]["drain msg/s"]
    found = {name: round(value, 3) for name, value in found.items()}
    for name, value in found.items():
        print(f"{name}: {value}")
    return found


if __name__ == "__main__":
    main()
