"""What does a message cost on one machine? One broker, one producer, one consumer: three processes on loopback.

Every publish is confirmed and every message settled, through the public asyncio client under uvloop. CPU time is told
apart by process, since that is what stays comparable on a machine that others use too.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import relay
from loads import BIG, DONE_BYTES, HOARDS, LOADS, Case
from measure import HERE, Broker, Child, finish, medians, parser, percentiles_ms

if TYPE_CHECKING:
    import argparse

RELAY = "relay 1 KiB x 100"
QUICK = 10
"""How many times shorter a quick run is."""


def worker(role: str, broker: Broker, case: Case) -> Child:
    child = Child(str(HERE / "worker.py"), role, broker.address, json.dumps(asdict(case)))
    assert child.line() == "ready"
    return child


def move(case: Case, data: str = "") -> dict[str, float]:
    """Moves a case's messages through a new broker, with its log in the directory `data` if that is not ""."""
    with tempfile.NamedTemporaryFile() as shared:
        shared.write(bytes(DONE_BYTES))
        shared.flush()
        case = replace(case, shared=shared.name)
        with (
            Broker(data) as broker,
            worker("consumer", broker, case) as consumer,
            worker("producer", broker, case) as producer,
        ):
            cpu = broker.cpu_s()
            consumer.go()
            producer.go()
            sent, got = producer.result(), consumer.result()
            cpu = broker.cpu_s() - cpu
            rss = broker.rss_mb()
    wall = got["end"] - sent["begin"]
    micro = 1e6 / case.count
    return {
        "msg/s": case.count / wall,
        "MB/s": case.count * case.size / wall / 1e6,
        "server us/msg": cpu * micro,
        "producer us/msg": sent["cpu_s"] * micro,
        "consumer us/msg": got["cpu_s"] * micro,
        **percentiles_ms(got["samples"]),
        "RSS MB": rss,
    }


def hoard(case: Case) -> dict[str, float]:
    """Publishes a case's messages to a new broker, and looks at its memory."""
    with Broker() as broker, worker("producer", broker, case) as producer:
        cpu = broker.cpu_s()
        producer.go()
        sent = producer.result()
        return {
            "msg/s": case.count / (sent["end"] - sent["begin"]),
            "server us/msg": (broker.cpu_s() - cpu) * 1e6 / case.count,
            "producer us/msg": sent["cpu_s"] * 1e6 / case.count,
            "RSS MB": broker.rss_mb(),
        }


def options() -> argparse.Namespace:
    return parser(
        __doc__,
        rounds="each case runs",
        quick="one short round, and no memory cases",
        only="the cases whose name contains this",
    ).parse_args()


def main() -> None:
    given = options()
    shorter = QUICK if given.quick else 1
    rounds: dict[str, list[dict[str, float]]] = {}
    # Interleaved: what else the machine does for a while falls on all cases alike.
    for number in range(1 if given.quick else given.rounds):
        for name, case in LOADS.items():
            if given.only in name:
                rounds.setdefault(name, []).append(move(replace(case, count=case.count // shorter)))
        if given.only in RELAY:
            rounds.setdefault(RELAY, []).append(relay.measure(relay.MEGABYTES // shorter))
        for name, case in HOARDS.items():
            if given.only in name and not given.quick:
                rounds.setdefault(name, []).append(hoard(case))
        print(f"round {number + 1} is done", file=sys.stderr)
    rows = {name: medians(each) for name, each in rounds.items()}
    finish("loopback", rows, record=given.record, rounds=len(next(iter(rounds.values()))), **ratios(rows))


def ratios(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """The broker beside the relay, for the load that is bytes more than anything else."""
    if BIG not in rows or RELAY not in rows:
        return {}
    broker, limit = rows[BIG], rows[RELAY]
    found = {
        "throughput_to_relay": round(broker["MB/s"] / limit["MB/s"], 3),
        "cpu_of_relay_to_broker": round(limit["relay us/KiB"] / broker["server us/msg"], 3),
    }
    print(f"broker / relay, {BIG}: {found['throughput_to_relay']:.2f} of its throughput; ", end="")
    print(f"the relay's CPU time for a KiB is {found['cpu_of_relay_to_broker']:.2f} of the broker's")
    return found


if __name__ == "__main__":
    main()
