"""What does a message cost the client? Its own CPU time, through the public API of both shells.

A producer publishes and waits for every confirm; then a consumer takes and acknowledges all of it. Single messages come
from 1,000 coroutines, or one after the other from the one thread of the blocking client; batches are of 500. What it
costs to import the client is measured beside it.

    client.py [--rounds N] [--quick] [--only TEXT] [--record]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from measure import HERE, Broker, Child, finish, medians, parser

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

COROUTINES = 1_000
BATCH = 500
CREDIT = 4_000
BODY = b"x" * 100
QUICK = 10
"""How many times shorter a quick run is."""


@dataclass(frozen=True)
class Case:
    """One way to use a client.

    Attributes:
        shell: `uvloop` or `asyncio` for the asyncio client on that loop, `blocking` for the other one.
        batch: how many messages are published, and acknowledged, at a time; 1 for single ones.
        count: how many messages there are.
    """

    shell: str
    batch: int
    count: int


CASES = {
    "uvloop single": Case("uvloop", 1, 200_000),
    "uvloop batch": Case("uvloop", BATCH, 1_000_000),
    "asyncio single": Case("asyncio", 1, 200_000),
    "asyncio batch": Case("asyncio", BATCH, 1_000_000),
    "blocking single": Case("blocking", 1, 20_000),
    "blocking batch": Case("blocking", BATCH, 1_000_000),
}
IMPORTS = ("wherry", "wherry.aio", "wherry.sync")
IMPORTED = """
import sys, time
def size():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
began, before = time.process_time(), size()
__import__(sys.argv[1])
print(time.process_time() - began, size() - before)
"""


# In a child process.


def report(measured: float, count: int) -> None:
    print(json.dumps(measured * 1e6 / count), flush=True)


async def publish(address: str, case: Case) -> None:
    import wherry  # noqa: PLC0415 (what is imported is part of what is measured)

    async with wherry.connect(f"wherry://{address}") as broker:
        queue = broker.queue("bench")

        async def lane() -> None:
            for _ in range(case.count // COROUTINES):
                await queue.publish(BODY)

        begin = time.process_time()
        if case.batch == 1:
            async with asyncio.TaskGroup() as group:
                for _ in range(COROUTINES):
                    group.create_task(lane())
        else:
            for _ in range(case.count // case.batch):
                await queue.publish_many([BODY] * case.batch)
        report(time.process_time() - begin, case.count)


async def consume(address: str, case: Case) -> None:
    import wherry  # noqa: PLC0415

    async with wherry.connect(f"wherry://{address}") as broker:
        queue, count = broker.queue("bench"), 0
        begin = time.process_time()
        async with queue.consume(CREDIT) as consumer:
            if case.batch == 1:
                async for message in consumer:
                    async with message:
                        count += 1
                    if count == case.count:
                        break
            else:
                async for messages in consumer.batches(case.batch):
                    queue.ack_many(messages)
                    count += len(messages)
                    if count == case.count:
                        break
        assert (await queue.info()).leased == 0
        report(time.process_time() - begin, case.count)


def publish_blocking(address: str, case: Case) -> None:
    from wherry import sync  # noqa: PLC0415

    with sync.connect(f"wherry://{address}") as broker:
        queue = broker.queue("bench")
        begin = time.process_time()
        for _ in range(case.count // case.batch):
            if case.batch == 1:
                queue.publish(BODY)
            else:
                queue.publish_many([BODY] * case.batch)
        report(time.process_time() - begin, case.count)


def consume_blocking(address: str, case: Case) -> None:
    from wherry import sync  # noqa: PLC0415

    with sync.connect(f"wherry://{address}") as broker:
        queue, count = broker.queue("bench"), 0
        begin = time.process_time()
        with queue.consume(CREDIT) as consumer:
            if case.batch == 1:
                for message in consumer:
                    with message:
                        count += 1
                    if count == case.count:
                        break
            else:
                for messages in consumer.batches(case.batch):
                    queue.ack_many(messages)
                    count += len(messages)
                    if count == case.count:
                        break
        assert queue.info().leased == 0
        report(time.process_time() - begin, case.count)


def run(shell: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if shell == "uvloop":
        import uvloop  # noqa: PLC0415 (it is measured without, too)

        uvloop.run(main())
    else:
        asyncio.run(main())


def work(role: str, address: str, case: Case) -> None:
    """What a child does."""
    if case.shell == "blocking":
        (publish_blocking if role == "publish" else consume_blocking)(address, case)
    else:
        run(case.shell, lambda: (publish if role == "publish" else consume)(address, case))


# In the parent.


def measure(case: Case) -> dict[str, float]:
    """Moves a case's messages through a new broker."""
    found = {}
    with Broker() as broker:
        for role in ("publish", "consume"):
            with Child(str(HERE / "client.py"), "--work", role, broker.address, json.dumps(asdict(case))) as child:
                found[f"{role} us/msg"] = float(child.line())
    return found


def measure_import(name: str, times: int = 5) -> dict[str, float]:
    """The CPU time and the memory that an import takes."""
    seconds, kilobytes = [], []
    with tempfile.TemporaryDirectory() as compiled:
        # As after an installation: the first import compiles, and the others find what it made.
        more = {"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        for _ in range(1 + times):
            with Child("-c", IMPORTED, name, more=more) as child:
                took, size = child.line().split()
                seconds.append(float(took))
                kilobytes.append(int(size))
    return {"import ms": median(seconds[1:]) * 1e3, "import MB": median(kilobytes[1:]) * 1024 / 1e6}


def options() -> argparse.Namespace:
    made = parser(__doc__, rounds="each case runs", quick="one short round", only="the cases whose name contains this")
    made.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    return made.parse_args()


def main() -> None:
    given = options()
    if given.work:
        role, address, case = given.work
        work(role, address, Case(**json.loads(case)))
        return
    rounds: dict[str, list[dict[str, float]]] = {}
    for number in range(1 if given.quick else given.rounds):
        for name, case in CASES.items():
            if given.only in name:
                shorter = replace(case, count=case.count // (QUICK if given.quick else 1))
                rounds.setdefault(name, []).append(measure(shorter))
        for name in IMPORTS:
            if given.only in f"import {name}":
                rounds.setdefault(f"import {name}", []).append(measure_import(name))
        print(f"round {number + 1} is done", file=sys.stderr)
    rows = {name: medians(each) for name, each in rounds.items()}
    finish("client", rows, record=given.record, rounds=len(next(iter(rounds.values()))))


if __name__ == "__main__":
    main()
