"""A fixed piece of work for a broker with tiny segments, and what may be left of it whenever it is cut off.

It publishes, settles, nacks, releases, delays, declares and deletes, one request after another, so that it is known at
every moment what was confirmed, what was not, and the one request of which nobody can say. The log rolls and is cleaned
meanwhile; old messages are written again.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import TYPE_CHECKING

import wherry
from faults.tracing import Broker, read_trace

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

OPTIONS = ("--segment-bytes", "4096")
"""Options of the broker, so that a little work is enough for several segments."""
TURNS = 12
BODY_BYTES = 400
REQUEST_S = 10.0
HOUR_S = 3600


class Account:
    """What a client knows of its messages.

    Attributes:
        confirmed: stored for certain.
        settled: gone for certain.
        unsure: of these nobody can say where they are: their publish, settle or deletion was cut off.
        requests: how many requests were answered.
        cut_off: whether the broker went away before the work was done.
    """

    def __init__(self) -> None:
        self.confirmed: set[bytes] = set()
        self.settled: set[bytes] = set()
        self.unsure: set[bytes] = set()
        self.requests = 0
        self.cut_off = False

    async def publish(self, queue: wherry.Queue, *bodies: bytes, **options: float) -> None:
        """Publishes a batch."""
        self.unsure.update(bodies)
        await self._answered(queue.publish_many(bodies, **options))
        self.unsure.difference_update(bodies)
        self.confirmed.update(bodies)

    async def ack(self, message: wherry.Message) -> None:
        """Settles a message for good."""
        self.unsure.add(message.body)
        await self._answered(message.ack())
        self.unsure.discard(message.body)
        self.settled.add(message.body)

    async def delete(self, queue: wherry.Queue, *bodies: bytes) -> None:
        """Deletes a queue that holds these messages."""
        self.unsure.update(bodies)
        await self._answered(queue.delete())
        self.unsure.difference_update(bodies)
        self.settled.update(bodies)

    async def ask(self, awaitable: Awaitable[object]) -> object:
        """Waits for what changes no message's whereabouts."""
        return await self._answered(awaitable)

    async def _answered(self, awaitable: Awaitable[object]) -> object:
        answer = await awaitable
        self.requests += 1
        return answer

    def problems(self, found: list[bytes]) -> list[str]:
        """What is wrong when a broker holds just these messages after all."""
        left = Counter(found)
        return [
            *(f"lost: {body[:20]!r}" for body in sorted(self.confirmed - self.settled - self.unsure - set(left))),
            *(f"settled, and there: {body[:20]!r}" for body in sorted(self.settled & set(left))),
            *(f"never published: {body[:20]!r}" for body in sorted(set(left) - self.confirmed - self.unsure)),
            *(f"there {count} times: {body[:20]!r}" for body, count in left.items() if count > 1),
        ]


def body(turn: int, number: int) -> bytes:
    """A message that is like no other, and long enough for its damage to show."""
    return f"{turn:04d}/{number:02d} ".encode().ljust(BODY_BYTES, b"%d" % ((turn + number) % 10))


async def work(url: str, account: Account, first: int = 0) -> None:
    """Does the work, or as much of it as can be done before the broker goes away.

    Args:
        url: of the broker.
        account: filled in on the way.
        first: the number of its first turn; those of another work must differ.
    """
    try:
        async with wherry.connect(url, timeout=REQUEST_S, reconnect=False) as broker:
            await _work(broker, account, first)
    except (wherry.Disconnected, wherry.RequestTimeout):
        account.cut_off = True


async def _work(broker: wherry.Broker, account: Account, first: int) -> None:
    jobs = await broker.declare("jobs", retry=wherry.Retry(base=0, cap=0))
    later = await broker.declare("later")
    account.requests += 2
    for turn in range(first, first + TURNS):
        await account.publish(jobs, body(turn, 0), body(turn, 1), body(turn, 2))
        taken = await jobs.get(3, wait=REQUEST_S)
        await account.ack(taken[0])
        await account.ask(taken[1].nack("try again") if turn % 3 else taken[1].reject("useless"))
        await account.ask(taken[2].release())
        if turn % 4 == 0:
            await account.publish(later, body(turn, 3), delay=HOUR_S)
        for message in await jobs.get(2, wait=REQUEST_S if turn % 3 else 0):
            await account.ack(message)
        if turn % 4 == 3:
            passing = await broker.declare("passing")
            await account.publish(passing, body(turn, 4))
            await account.delete(passing, body(turn, 4))


async def left(url: str) -> list[bytes]:
    """The bodies of all messages that a broker holds."""
    found: list[bytes] = []
    async with wherry.connect(url, timeout=REQUEST_S, reconnect=False) as broker:
        for counts in await broker.queues():
            for state in ("ready", "delayed", "dead"):
                first, more = 0, True
                while more:
                    seen = await broker.queue(counts.name).peek(1000, state=state, first=first)
                    found += [message.body for message in seen]
                    first, more = (seen[-1].offset + 1, True) if seen else (0, False)
            assert not counts.leased, counts
    return found


def run(url: str, account: Account, first: int = 0) -> None:
    """`work`, to its end."""
    asyncio.run(work(url, account, first))


def check_restart(folder: Path, data: Path, account: Account, what: object) -> None:
    """A broker that nothing is done to starts, and holds what it should."""
    with Broker(folder, data, *OPTIONS) as broker:
        assert broker.port, f"{what}: {broker.said()}"
        found = asyncio.run(left(broker.url))
        assert account.problems(found) == [], what
        assert broker.stop() == 0, f"{what}: {broker.said()}"


def lose_unsynced(broker: Broker) -> None:
    """Cuts off what was written and not synced. A file that has its name was synced before it got it."""
    unsynced: Counter[str] = Counter()
    for call in read_trace(broker.trace):
        if call.name in {"fdatasync", "fsync"} and call.result == 0:
            unsynced.pop(call.path, None)
        elif call.name in {"write", "writev"} and call.result > 0:
            unsynced[call.path] += call.result
    for path in broker.data.glob("*.log"):
        os.truncate(path, path.stat().st_size - unsynced[str(path)])
