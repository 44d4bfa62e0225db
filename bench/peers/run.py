"""How fast are the peers, each at each durability level that it can give, on this machine and with the same work?

One server, one producer, one consumer: processes on loopback. Every publish is confirmed and every message settled, as
far as the peer knows either. Rounds are interleaved, so that what else the machine does falls on all alike; medians are
printed, with the spread of the throughput. See servers.py and clients/ for the settings and for what argues for them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from servers import PEERS, Missing, Server, client_of, server_of, versions

import relay
from loads import BIG, DONE_BYTES, FLIGHT, Case
from measure import Child, finish, percentiles_ms

LOADS = {
    BIG: Case(1024, 100, FLIGHT, 200_000),
    "100 B single": Case(100, 0, FLIGHT, 50_000),
    "100 B at 1,000/s": Case(100, 0, 1, 5_000, rate_per_s=1_000),
}
BACKLOG = Case(100, 100, FLIGHT, 1_000_000)
SLOW = {"beanstalkd": 5, "RabbitMQ": 4}
"""Peers that would take minutes for what takes others seconds get as many times less; rates are rates all the same."""
EMPTY_S = 1.0


def worker(peer: str, role: str, server: Server, durability: str, case: Case) -> Child:
    """One end of the queue, ready to go."""
    client = client_of(peer, durability)
    child = Child(str(HERE / "worker.py"), client, role, server.address, json.dumps(asdict(case)))
    assert child.line() == "ready"
    return child


def move(peer: str, durability: str, case: Case, folder: str) -> dict[str, float]:
    """Moves a case's messages through a new server."""
    with tempfile.NamedTemporaryFile() as shared:
        shared.write(bytes(DONE_BYTES))
        shared.flush()
        case = replace(case, shared=shared.name)
        with (
            server_of(peer, durability, folder) as server,
            worker(peer, "consumer", server, durability, case) as consumer,
            worker(peer, "producer", server, durability, case) as producer,
        ):
            cpu = server.cpu_s()
            consumer.go()
            producer.go()
            sent, got = producer.result(), consumer.result()
            cpu = server.cpu_s() - cpu
    wall, micro = got["end"] - sent["begin"], 1e6 / case.count
    return {
        "msg/s": case.count / wall,
        "server us/msg": cpu * micro,
        "client us/msg": (sent["cpu_s"] + got["cpu_s"]) * micro,
        **percentiles_ms(got["samples"]),
    }


def hoard(peer: str, durability: str, case: Case, folder: str) -> dict[str, float]:
    """Fills a new server with a backlog; kills it with -9 and starts it again when it has a log."""
    server = server_of(peer, durability, folder)
    with server:
        empty = server.rss_mb()
        with worker(peer, "producer", server, durability, case) as producer:
            producer.go()
            producer.result()
        time.sleep(EMPTY_S)
        figures = {"RSS MB": server.rss_mb(), "RSS B/msg": (server.rss_mb() - empty) * 1e6 / case.count}
        if durability == "memory":
            return figures
        figures["disk MB"] = server.disk_mb()
        server.kill()
        figures["recovery s"] = server.start()
        with worker(peer, "consumer", server, durability, replace(case, count=1)) as consumer:
            begin = time.monotonic()
            consumer.go()
            consumer.result()
            figures["recovery s"] += time.monotonic() - begin
    return figures


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each case runs; medians are printed")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth of the messages")
    parser.add_argument("--only", default="", help="only the peers whose name contains this")
    parser.add_argument("--levels", default="memory,written,synced", help="the durability levels, with commas")
    parser.add_argument("--record", action="store_true", help="append the result to results.jsonl")
    parser.add_argument("--picture", default="", metavar="FILE", help="draw the throughput into an SVG file")
    return parser.parse_args()


def main() -> None:
    given = options()
    told: dict[str, str] = {}
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    levels = given.levels.split(",")
    chosen = [(peer, level) for level in levels for peer in PEERS if given.only in peer and level in PEERS[peer][2]]
    for number in range(1 if given.quick else given.rounds):
        for peer, level in chosen:
            if peer not in told:
                measure(peer, level, rows[f"{peer}, {level}"], told, quick=given.quick)
        rows["floor: byte relay, 1 KiB"]["msg/s"].append(relay.measure(relay.MEGABYTES // 4)["MB/s"] * 1e6 / 1024)
        rows["floor: write+fdatasync of 100 KiB"]["msg/s"].append(synced_writes())
        print(f"round {number + 1} is done", file=sys.stderr)
    figures = {name: medians(columns) for name, columns in rows.items() if columns}
    for peer, why in told.items():
        print(f"{peer} is left out: {why}")
    for peer, (server, _, _) in PEERS.items():
        print(f"{peer}: {server.settings}")
    finish("peers", figures, record=given.record, versions=versions())
    if given.picture:
        from picture import draw  # noqa: PLC0415 (matplotlib takes a second to import)

        draw(figures, Path(given.picture))


def measure(peer: str, level: str, row: dict[str, list[float]], told: dict[str, str], *, quick: bool) -> None:
    """All cases of one peer at one level, into its row; why it is left out, if it is."""
    shorter = (10 if quick else 1) * SLOW.get(peer, 1)
    folder = tempfile.mkdtemp(prefix="wherry-peers-")
    try:
        for name, case in LOADS.items():
            count = case.count // (shorter if not case.rate_per_s else 2 if quick else 1)
            for column, figure in move(peer, level, replace(case, count=count), folder).items():
                if column.startswith(("p9", "p5")):
                    if case.rate_per_s and column != "p999_ms":
                        row[f"{column} at 1,000/s"].append(figure)
                elif not case.rate_per_s:
                    row[f"{column}, {name}"].append(figure)
        for column, figure in hoard(peer, level, replace(BACKLOG, count=BACKLOG.count // shorter), folder).items():
            row[column].append(figure)
    except Missing as error:
        told[peer] = f"it is not installed: {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def synced_writes(seconds: float = 1.0) -> float:
    """Messages of 1 KiB a second that a loop of write and fdatasync of a hundred of them stores."""
    import os  # noqa: PLC0415

    data, count = bytes(102_400), 0
    with tempfile.NamedTemporaryFile(dir=tempfile.gettempdir()) as file:
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            os.write(file.fileno(), data)
            os.fdatasync(file.fileno())
            count += 100
        return count / (time.monotonic() - begin)


def medians(columns: dict[str, list[float]]) -> dict[str, float]:
    """The median of each column; of a throughput the spread as well, (largest - smallest) / median."""
    result = {}
    for column, figures in columns.items():
        result[column] = median(figures)
        if column == f"msg/s, {BIG}":
            result["spread"] = round((max(figures) - min(figures)) / result[column], 2)
    return result


if __name__ == "__main__":
    main()
