"""The producer and the consumer of run.py, each a process of its own.

    worker.py PEER producer|consumer ADDRESS LOADS

LOADS is JSON; see `timed.Load`. For each of them a worker prints `ready`, waits for a line, works, and prints what it
measured as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

sys.path.append(str(Path(__file__).resolve().parents[1]))

from clients import Client, connect
from timed import Ends, Load, TimedProducer

from worker_parts import STAMP, rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable


async def receive(load: Load, client: Client, begun: Callable[[], None]) -> tuple[int, list[int]]:
    """Takes and settles a load's messages; returns how many, and how long some of them took, in nanoseconds."""
    samples: list[int] = []
    ends = Ends(load)
    count, last = 0, False
    begun()
    while not last:
        bodies = await client.take()
        now = time.monotonic_ns()
        sampled = bodies if load.rate_per_s else bodies[:1]
        samples += [now - STAMP.unpack_from(body)[0] for body in sampled]
        count += len(bodies)
        ends.taken = count
        last = count >= ends.total
        await client.settle(last=last)
    return count, samples


async def one(client: Client, role: str, load: Load) -> None:
    """Does one load."""
    samples: list[int] = []
    began: list[float] = []
    if role == "producer":
        producer = TimedProducer(load, client.publish)
        began[:] = rendezvous()
        await producer.run()
        count = producer.count
    else:
        count, samples = await receive(load, client, lambda: began.extend(rendezvous()))
    measured = {
        "begin": began[0],
        "end": time.monotonic(),
        "cpu_s": time.process_time() - began[1],
        "count": count,
        "samples": samples,
    }
    print(json.dumps(measured), flush=True)


async def work(peer: str, role: str, address: str, loads: list[Load]) -> None:
    client = await connect(peer, address, role)
    for load in loads:
        await one(client, role, load)
    await client.close()
    sys.stdin.readline()
    os._exit(0)  # some clients leave threads behind


if __name__ == "__main__":
    peer, role, address, told = sys.argv[1:]
    uvloop.run(work(peer, role, address, [Load(**each) for each in json.loads(told)]))
