"""How fast are tasks that do nothing, here and with what Python teams use for it today?

One server, one worker process, one program that calls: 100 calls at a time, each sent for itself, whose results are
kept and waited for; then calls at 100 a second, timed from the moment of each to its result; then a chord, where there
is one. Each system runs as its own documentation says is fastest: see the modules of task_systems, and the settings
that are printed. Redis keeps nothing on the disk, and neither does the broker, but in the row that says so. Rounds are
interleaved, so that what else the machine does falls on all alike; medians are printed, with the spread of the rate.

    tasks.py [--rounds N] [--quick] [--only TEXT] [--record]
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from measure import HERE, Child, environment, finish, medians, parser, percentiles_ms

sys.path.append(str(HERE / "peers"))

from catalogue import Redis, Valkey, Wherry
from servers import Missing, Server

if TYPE_CHECKING:
    import argparse

AT_A_TIME = 100
RATE_PER_S, PACED = 100, 500
QUICK = 10
"""How many times shorter a quick run is."""
PACKAGES = ("celery", "dramatiq", "rq", "taskiq", "taskiq-redis", "redis", "hiredis")


class System(NamedTuple):
    """What is measured.

    Attributes:
        module: its module in task_systems.
        count: how many calls are made, 100 at a time: those of some seconds.
        chord: how many calls its chord has; 0 for none.
        durability: of its server.
        caller: the class that calls.
    """

    module: str
    count: int
    chord: int = 0
    durability: str = "memory"
    caller: str = "Caller"


SYSTEMS = {
    "wherry": System("wherry_system", 40_000, 10_000),
    "wherry, by map": System("wherry_system", 40_000, caller="MapCaller"),
    "wherry, sync function": System("wherry_system", 20_000, caller="ThreadCaller"),
    "wherry, synced log": System("wherry_system", 20_000, 10_000, "synced"),
    "Celery": System("celery_system", 1_500, 1_000),
    "Dramatiq": System("dramatiq_system", 3_000),
    "RQ": System("rq_system", 1_500),
    "Taskiq": System("taskiq_system", 3_000),
}


def of_module(module: str, what: str, around: dict[str, str]) -> Any:
    """Something of a module of task_systems, which only a child imports: some change much where they are imported."""
    code = f"import json; from task_systems import {module} as system; print(json.dumps({what}))"
    with Child("-c", code, more=around) as child:
        return child.result()


def around_of(address: str) -> dict[str, str]:
    """What stands in the environment of a worker and of a client."""
    return {"BENCH_TASKS_ADDRESS": address, "PYTHONPATH": f"{environment()['PYTHONPATH']}:{HERE}"}


class Worker(Server):
    """The worker process of a system; it is ready when a call has returned."""

    def __init__(self, system: System, folder: Path, around: dict[str, str]) -> None:
        super().__init__(system.durability, folder)
        self._module = system.module
        self._around = around

    def command(self) -> list[str]:
        """As its module says."""
        return list(of_module(self._module, "system.worker()", self._around))

    def environment(self) -> dict[str, str]:
        """Where the server is, and the sources."""
        return {**environment(), **self._around}

    def is_ready(self) -> bool:
        """That shows later."""
        return True


def server_of(system: System, folder: Path) -> Server:
    """The server that a system needs, not started yet; Valkey where there is no Redis."""
    if system.module.startswith("wherry"):
        return Wherry(system.durability, folder)
    redis = Redis(system.durability, folder)
    try:
        redis.binary()
    except Missing:
        return Valkey(system.durability, folder)
    return redis


def measure(system: System, folder: Path, quick: int) -> dict[str, float]:
    """All loads of a system, through a new server and a new worker."""
    for name in ("server", "worker"):
        (folder / name).mkdir()
    with server_of(system, folder / "server") as server:
        around = around_of(server.address)
        program = (str(HERE / "task_client.py"), system.module, system.caller)
        with (
            (folder / "client.log").open("w") as log,
            Worker(system, folder / "worker", around) as worker,
            Child(*program, more=around, stderr=log) as client,
        ):
            assert client.line() == "ready"
            count = system.count // quick
            cpu = server.cpu_s(), worker.cpu_s()
            flown = load(client, "flight", count, AT_A_TIME)
            used = server.cpu_s() - cpu[0], worker.cpu_s() - cpu[1]
            figures = {"tasks/s": count / flown["wall_s"]}
            parts = ("client", flown["cpu_s"]), ("server", used[0]), ("worker", used[1])
            figures |= {f"{name} us/task": cpu_s * 1e6 / count for name, cpu_s in parts}
            times = percentiles_ms(load(client, "paced", PACED // (2 if quick > 1 else 1), RATE_PER_S)["samples"])
            figures |= {f"{name} at {RATE_PER_S}/s": times[name] for name in ("p50_ms", "p99_ms")}
            if system.chord:
                size = system.chord // quick
                figures["chord of"] = size
                figures["chord s"] = load(client, "chord", size)["wall_s"]
    return figures


def load(client: Child, *what: object) -> dict:
    """Has the client do something; returns what it measured."""
    client.go(json.dumps(what))
    return client.result()


def reason(error: Exception, folder: Path) -> str:
    """Why there are no figures: what was raised, and the last that client and worker have said."""
    logs = [folder / "client.log", folder / "worker" / "server.log"]
    said = [log.read_text(errors="replace").strip().rpartition("\n")[2] for log in logs if log.exists()]
    return "; ".join([str(error), *filter(None, said)])


def middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure, and how far the rate spreads: (largest - smallest) / median."""
    rates = [each["tasks/s"] for each in rounds]
    return {**medians(rounds), "spread": round((max(rates) - min(rates)) / median(rates), 2)}


def versions() -> dict[str, str]:
    """Of what is compared."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def options() -> argparse.Namespace:
    return parser(
        __doc__,
        rounds="each system runs",
        quick="one round of a tenth of the calls",
        only="the systems whose name contains this",
    ).parse_args()


def main() -> None:
    given = options()
    rounds: dict[str, list[dict[str, float]]] = defaultdict(list)
    told: dict[str, str] = {}
    for number in range(1 if given.quick else given.rounds):
        for name, system in SYSTEMS.items():
            if given.only in name and name not in told:
                with tempfile.TemporaryDirectory(prefix="wherry-tasks-") as folder:
                    try:
                        rounds[name].append(measure(system, Path(folder), QUICK if given.quick else 1))
                    except (Missing, RuntimeError) as error:
                        told[name] = reason(error, Path(folder))
        print(f"round {number + 1} is done", file=sys.stderr)
    for name, why in told.items():
        print(f"{name} is left out: {why}")
    for name in rounds:
        print(f"{name}: {of_module(SYSTEMS[name].module, 'system.SETTINGS', around_of('127.0.0.1:1'))}")
    finish(
        "tasks", {name: middle(each) for name, each in rounds.items() if each}, record=given.record, versions=versions()
    )


if __name__ == "__main__":
    main()
