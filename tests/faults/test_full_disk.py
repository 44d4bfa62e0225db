"""A full disk: publishes are refused before it is full, and all that is stored can be settled on what is kept for that.

Another program fills what is free, and goes on taking what the broker gives back.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import wherry
from faults import disks
from faults.disks import MIB
from faults.tracing import Broker, note
from faults.workload import Account, left
from serving import DEADLINE_S
from wherry_broker.app import EXIT_LOG_FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESUME_S = 5.0
RESERVE_SHARE = 16
"""The log keeps a 16th of the disk at most, and goes that far beyond."""
SETTLED_ALONE_MAX = 4_000


class Clients:
    """What is published, and settled, on a disk that is full."""

    def __init__(self, broker: wherry.Broker, account: Account, size: int) -> None:
        self.broker = broker
        self.account = account
        self.queue = broker.queue("jobs")
        self._size = size
        self._number = 0

    async def publish(self, count: int = 1) -> None:
        """Publishes some messages, or none of them."""
        bodies = [f"{self._number + n} ".encode().ljust(self._size, b"=") for n in range(count)]
        self._number += count
        try:
            await self.account.publish(self.queue, *bodies, timeout=0)
        except wherry.Busy as busy:
            self.account.unsure.difference_update(bodies)
            self.account.confirmed.update(bodies[: busy.accepted])
            raise

    async def publish_until_busy(self, count: int) -> wherry.Busy:
        """Publishes until the disk is said to be full; the refusal."""
        while True:
            try:
                await self.publish(count)
            except wherry.Busy as busy:
                return busy

    async def drain(self) -> None:
        """Settles everything, most of it one message after the other: nothing takes more of the log."""
        alone = SETTLED_ALONE_MAX
        while messages := await self.queue.get(500, wait=0.1):
            for message in messages[:alone]:
                await self.account.ack(message)
            rest, alone = messages[alone:], max(0, alone - len(messages))
            await self.queue.ack_many(rest)
            self.account.settled.update(message.body for message in rest)

    async def until_it_takes_messages(self) -> float:
        """Tries to publish until it works; how many seconds that took."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    await self.publish()
                except wherry.Busy:
                    await asyncio.sleep(0.1)
                else:
                    return loop.time() - started


@contextmanager
def greedy(path: Path) -> Iterator[None]:
    """Another program, which takes all there is whenever there is some."""
    stop = threading.Event()

    def take() -> None:
        while not stop.wait(0.005):
            disks.fill(path)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def fill_and_drain(url: str, disk: Path, account: Account, size: int, count: int, total: int) -> dict[str, Any]:
    """A disk of `total` bytes gets full, is drained while another program has all the rest, and is free again."""
    other = disk / "other"
    async with wherry.connect(url, timeout=DEADLINE_S) as broker:
        await account.publish(await broker.declare("kept"), b"nobody settles this one, in the oldest segment")
        await broker.declare("jobs")
        clients = Clients(broker, account, size)
        busy = await clients.publish_until_busy(count)
        assert busy.bound == "disk"
        stored = len(account.confirmed)
        disks.fill(other)
        with greedy(other):
            # The log may have been about to take what was free: so much it takes still, and then no more.
            await clients.publish_until_busy(count)
            late = len(account.confirmed) - stored
            assert late * size <= total // RESERVE_SHARE, f"{late} messages were taken after the disk was full"
            await clients.drain()
            with pytest.raises(wherry.Busy):
                await clients.publish(stored)
        other.unlink()
        resumed_s = await clients.until_it_takes_messages()
        assert resumed_s < RESUME_S
        await clients.publish_until_busy(count)
        again = len(account.confirmed) - stored
        assert again > stored / 2, f"only {again} of {stored} messages fit again"
    return {"stored": stored, "bytes": stored * size, "resumed_s": round(resumed_s, 2), "again": again}


def run(folder: Path, disk: Path, size: int, count: int, *options: str) -> None:
    """A broker on that disk, filled and drained with messages of `size` bytes, `count` at a time."""
    account = Account()
    total = disks.free_bytes(disk)
    with Broker(folder, disk / "data", *options) as broker:
        assert broker.port, broker.said()
        told = asyncio.run(fill_and_drain(broker.url, disk, account, size, count, total))
        broker.kill()
    disks.fill(disk / "other")
    with Broker(folder, disk / "data", *options) as broker:
        assert broker.port, broker.said()
        assert account.problems(asyncio.run(left(broker.url))) == []
        assert broker.stop() == 0, broker.said()
    note(f"a disk of {total} bytes, messages of {size}, {count} at a time: {told}")


def test_a_tiny_ext4(tmp_path):
    with disks.ext4(tmp_path, 2 * MIB) as disk:
        run(tmp_path, disk, 1000, 1)


@pytest.mark.slow
def test_a_tiny_tmpfs(tmp_path):
    with disks.tmpfs(tmp_path, 2 * MIB) as disk:
        run(tmp_path, disk, 1000, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("mib", "size", "count"), [(2, 100, 20), (16, 1000, 10), (64, 1000, 50), (256, 10_000, 20)])
def test_a_small_ext4(tmp_path, mib, size, count):
    with disks.ext4(tmp_path, mib * MIB) as disk:
        run(tmp_path, disk, size, count)


# Other things that run out.


async def publish_and_settle(url: str, account: Account, count: int) -> None:
    """Publishes `count` messages, and settles every second one."""
    async with wherry.connect(url, timeout=DEADLINE_S) as broker:
        clients = Clients(broker, account, 1000)
        clients._number = len(account.confirmed)
        for _ in range(count // 10):
            await clients.publish(10)
            for message in await clients.queue.get(5, wait=1):
                await account.ack(message)


async def publish_until_busy(url: str, account: Account) -> None:
    """Publishes as much as the broker takes."""
    async with wherry.connect(url, timeout=DEADLINE_S) as broker:
        clients = Clients(broker, account, 1000)
        clients._number = len(account.confirmed)
        assert (await clients.publish_until_busy(20)).bound == "disk"


def segments(broker: Broker) -> list[int]:
    """The numbers of the segments of a log."""
    return sorted(int(path.stem) for path in broker.data.glob("*.log"))


def test_no_inode_is_left(tmp_path):
    """No new segment can begin, so the last one grows; with inodes again, new ones begin again."""
    account, options = Account(), ("--segment-bytes", "16384")
    with disks.ext4(tmp_path, 16 * MIB, "-N", "64") as disk:
        with Broker(tmp_path, disk / "data", *options) as broker:
            count = disks.use_all_inodes(disk / "many")
            asyncio.run(publish_and_settle(broker.url, account, 200))
            without = segments(broker)
            assert len(without) <= 2
            (disk / "many" / "0").unlink()
            asyncio.run(publish_and_settle(broker.url, account, 100))
            then = segments(broker)
            assert then[-1] > without[-1] + 1
            broker.kill()
        disks.use_all_inodes(disk / "many")
        with Broker(tmp_path, disk / "data", *options) as broker:
            assert broker.wait() == EXIT_LOG_FAILED
            assert "No space left on device" in broker.said()
        (disk / "many" / "1").unlink()
        with Broker(tmp_path, disk / "data", *options) as broker:
            assert broker.port, broker.said()
            assert account.problems(asyncio.run(left(broker.url))) == []
            assert broker.stop() == 0
    note(f"{count} files made, and no inode left: segments {without}; then one more: {then}")


def test_files_may_not_become_long(tmp_path):
    """A limit on the length of files (RLIMIT_FSIZE) makes segments short, and no write fails by it."""
    account, limit = Account(), 262_144
    with Broker(tmp_path, tmp_path / "data", prefix=("prlimit", f"--fsize={limit}")) as broker:
        asyncio.run(publish_and_settle(broker.url, account, 300))
        made = segments(broker)
        assert made[-1] > 5
        asyncio.run(publish_until_busy(broker.url, account))
        longest = max(path.stat().st_size for path in broker.data.iterdir())
        assert broker.stop() == 0
    with Broker(tmp_path, tmp_path / "data", prefix=("prlimit", f"--fsize={limit}")) as broker:
        assert account.problems(asyncio.run(left(broker.url))) == []
        assert broker.stop() == 0
    note(f"files of at most {limit} bytes: {len(account.confirmed)} messages, the longest segment had {longest}")
