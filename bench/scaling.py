"""What bends the cost of a message? One thing grows at a time, over as many powers of ten as there are.

A broker without a log, and one process (crew.py) that publishes and consumes through bare frames, so that the broker is
what has to work. Told are the broker's CPU time a message and the throughput, in a table and in six plots; and what
connections and queues cost that nobody uses. What bends each curve is written in README.md beside this file.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crew import Crew
from crowd import Crowd, Greeting, affordable
from measure import HERE, ROOT, Broker, Child, finish, medians, parser

if TYPE_CHECKING:
    import argparse

UNBOUNDED = {
    "WHERRY_QUEUE_MAX_MESSAGES": "1000000000",
    "WHERRY_QUEUE_MAX_BYTES": "1000GiB",
    "WHERRY_CONNECTIONS_MAX": "15000",
}
MANY = 10_000
BATCH_BYTES_MAX = 1_000_000
"""Longer bodies come in shorter batches, so that a batch has at most so many bytes, or one body."""
FLIGHT_BYTES_MAX = 20_000_000
HEARTBEAT_MS = 30_000


@dataclass(frozen=True)
class Sheet:
    """One thing that grows.

    Attributes:
        name: what it is.
        lines: the crews of each line by how much there is of it. Idle connections are counted apart from the crew.
    """

    name: str
    lines: dict[str, dict[int, tuple[Crew, int]]]


def powers(last: int) -> list[int]:
    """1, 10, 100 ... up to `last`."""
    return [10**digits for digits in range(len(str(last)))]


def of_size(size: int) -> Crew:
    """Bodies of a size, by 100 as long as that is sensible."""
    batch = max(1, min(100, BATCH_BYTES_MAX // size))
    return Crew(size=size, batch=batch, flight=max(2 * batch, min(2_000, FLIGHT_BYTES_MAX // size)))


def sheets(*, quick: bool) -> list[Sheet]:
    """The six of them; quick ones leave out what takes long to build."""
    depths = [count for count in powers(1_000_000 if quick else 10_000_000) if count >= 1_000]
    hands = [1, 4, 16, 64] if quick else [1, 2, 4, 8, 16, 32, 64]
    return [
        Sheet("messages queued", {"batches of 100": {count: (Crew(queued=count), 0) for count in depths}}),
        Sheet("bytes of a body", {"at most 1 MB a batch": {10 * x: (of_size(10 * x), 0) for x in powers(100_000)}}),
        Sheet(
            "queues",
            {
                "all used": {count: (Crew(queues=count), 0) for count in powers(MANY)},
                "one used": {count: (Crew(declared=count - 1), 0) for count in powers(MANY)},
            },
        ),
        Sheet(
            "connections",
            {
                "all publish": {count: (Crew(producers=count), 0) for count in powers(MANY)},
                "idle but two": {count: (Crew(), count) for count in powers(MANY)},
            },
        ),
        Sheet(
            "producers and consumers",
            {"as many of each": {count: (Crew(producers=count, consumers=count), 0) for count in hands}},
        ),
        Sheet("messages a batch", {"100 B each": {count: (Crew(batch=count), 0) for count in powers(MANY)}}),
    ]


def measure(crew: Crew, idle: int) -> dict[str, float]:
    """One point of a line."""
    with Broker(**UNBOUNDED) as broker, Crowd(broker.address, affordable(idle)):
        empty_mb = broker.rss_mb()
        with Child(str(HERE / "crew.py"), broker.address, json.dumps(asdict(crew))) as child:
            assert child.line() == "ready"
            ready_mb = broker.rss_mb()
            cpu = broker.cpu_s()
            child.go()
            got = child.result()
            cpu = broker.cpu_s() - cpu
    row = {
        "server us/msg": cpu * 1e6 / got["count"],
        "server us/KiB": cpu * 1e6 / (got["count"] * crew.size / 1024),
        "msg/s": got["count"] / got["wall_s"],
        "server busy": cpu / got["wall_s"],
    }
    if crew.queued:
        row["RSS B/queued"] = (ready_mb - empty_mb) * 1e6 / crew.queued
    return row


def idle_costs() -> dict[str, dict[str, float]]:
    """What those cost that are there and do nothing, in KB of the broker's memory each."""
    count = affordable(MANY)
    rows = {}
    for name, heartbeat_ms, producer in (
        (f"{count:,} idle connections", 0, ""),
        (f"{count:,} idle connections of clients that come back", HEARTBEAT_MS, "idle"),
    ):
        with Broker(**UNBOUNDED) as broker:
            before = broker.rss_mb()
            with Crowd(broker.address, count, Greeting(heartbeat_ms, producer)):
                rows[name] = {"RSS KB each": (broker.rss_mb() - before) * 1e3 / count}
    with Broker(**UNBOUNDED) as broker:
        before = broker.rss_mb()
        with Child(str(HERE / "crew.py"), broker.address, json.dumps(asdict(Crew(declared=MANY)))) as child:
            assert child.line() == "ready"
            rows[f"{MANY:,} unused queues"] = {"RSS KB each": (broker.rss_mb() - before) * 1e3 / MANY}
    return rows


def options() -> argparse.Namespace:
    made = parser(
        __doc__,
        rounds="each point is measured",
        quick="one round, half a second each, up to 1,000,000 queued",
        only="the sheets whose name contains this",
    )
    made.add_argument("--seconds", type=float, default=2.0, help="for how long")
    made.add_argument("--picture", default=str(ROOT / "build" / "scaling.svg"), metavar="FILE", help="the plots")
    return made.parse_args()


def main() -> None:
    given = options()
    seconds = 0.5 if given.quick else given.seconds
    chosen = [sheet for sheet in sheets(quick=given.quick) if given.only in sheet.name]
    rounds: dict[tuple[str, str, int], list[dict[str, float]]] = defaultdict(list)
    for number in range(1 if given.quick else given.rounds):
        for sheet in chosen:
            for line, points in sheet.lines.items():
                for many, (crew, idle) in points.items():
                    rounds[sheet.name, line, many].append(measure(replace(crew, seconds=seconds), idle))
            print(f"round {number + 1}: {sheet.name} are done", file=sys.stderr)
    points = {key: medians(each) for key, each in rounds.items()}
    rows = {f"{many:,} {name}, {line}": row for (name, line, many), row in points.items()}
    idle = {} if given.only else idle_costs()
    finish("scaling", rows | idle, record=given.record, seconds=seconds)
    if points:
        from plots import draw  # noqa: PLC0415 (matplotlib takes a second to import)

        path = Path(given.picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(points, path)
        print(f"the plots are in {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
