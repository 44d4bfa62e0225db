"""The producer and the consumer of run.py, each a process of its own.

    worker.py PEER producer|consumer ADDRESS CASE

CASE is JSON; see `loads.Case`. A worker prints `ready`, waits for a line, works, and prints what it measured as JSON.
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

from loads import Case
from worker_parts import STAMP, Producer, counter, rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable


async def receive(case: Case, client: Client, begun: Callable[[], None]) -> list[int]:
    """Takes and settles a case's messages; returns how long some of them took, in nanoseconds."""
    samples: list[int] = []
    done = counter(case)
    count = 0
    begun()
    while count < case.count:
        bodies = await client.take()
        now = time.monotonic_ns()
        sampled = bodies if case.rate_per_s else bodies[:1]
        samples += [now - STAMP.unpack_from(body)[0] for body in sampled]
        count += len(bodies)
        done[0] = count
        await client.settle(last=count >= case.count)
    return samples


async def work(peer: str, role: str, address: str, case: Case) -> None:
    client = await connect(peer, address, role)
    samples: list[int] = []
    began: list[float] = []
    if role == "producer":
        producer = Producer(case, client.publish)
        began[:] = rendezvous()
        await producer.run()
    else:
        samples = await receive(case, client, lambda: began.extend(rendezvous()))
    measured = {"begin": began[0], "end": time.monotonic(), "cpu_s": time.process_time() - began[1], "samples": samples}
    await client.close()
    print(json.dumps(measured), flush=True)
    sys.stdin.readline()
    os._exit(0)  # some clients leave threads behind


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], sys.argv[2], sys.argv[3], Case(**json.loads(sys.argv[4]))))
