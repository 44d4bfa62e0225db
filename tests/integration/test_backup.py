"""`wherry backup` of a broker under load: what it holds is what was confirmed before, and a broker starts from it."""

from __future__ import annotations

import asyncio
import json
from collections import deque

import pytest

import wherry
from serving import Served

BODY = b"%08d" + b"." * 1_000
BATCH = 20
SECONDS_MAX = 60


class Load:
    """Messages that come and go: about as many are settled as are published, but every tenth one stays.

    Attributes:
        tried, confirmed: the numbers of messages published.
        settling, settled: the numbers of messages that are being settled, and those that are.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.tried: set[int] = set()
        self.confirmed: set[int] = set()
        self.settling: set[int] = set()
        self.settled: set[int] = set()
        self.rounds = 0
        self._stop = False

    def stop(self) -> None:
        self._stop = True

    async def run(self) -> None:
        async with wherry.connect(self._url) as broker:
            queue = broker.queue("jobs")
            held: deque[wherry.Message] = deque()
            while not self._stop:
                start = len(self.tried)
                numbers = set(range(start, start + BATCH))
                self.tried |= numbers
                await queue.publish_many([BODY % number for number in sorted(numbers)])
                self.confirmed |= numbers
                held.extend(await queue.get(BATCH, wait=1))
                await self._settle(queue, held)
                self.rounds += 1

    async def _settle(self, queue: wherry.Queue, held: deque[wherry.Message]) -> None:
        given = [held.popleft() for _ in range(max(0, len(held) - 5))]
        mine = [message for message in given if number_of(message.body) % 10]
        if mine:
            self.settling |= {number_of(message.body) for message in mine}
            await queue.ack_many(mine)
            self.settled |= {number_of(message.body) for message in mine}

    async def grows(self, rounds: int) -> None:
        """Returns once that many more rounds are done."""
        wanted = self.rounds + rounds
        async with asyncio.timeout(SECONDS_MAX):
            while self.rounds < wanted:  # noqa: ASYNC110 (what is waited for is on the other side of a socket)
                await asyncio.sleep(0.01)


def number_of(body: bytes) -> int:
    return int(body[:8])


async def contents(url: str) -> list[int]:
    """The numbers of all messages of a broker."""
    found: list[int] = []
    async with wherry.connect(url) as broker:
        async with asyncio.timeout(SECONDS_MAX):
            while got := await broker.queue("jobs").get(500, wait=0.2, lease=600):
                found += [number_of(message.body) for message in got]
                assert all(message.body == BODY % number_of(message.body) for message in got)
    return found


async def backed_up(broker: Served, directory: str) -> tuple[Load, set[int], set[int], str]:
    """A load, what was confirmed and what was settled before the backup, and what the backup said."""
    load = Load(broker.url)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await load.grows(30)
        confirmed, settled, rounds = set(load.confirmed), set(load.settled), load.rounds
        told = await asyncio.to_thread(broker.out, "backup", directory, "--json")
        assert load.rounds > rounds, "the load stood still"
        await load.grows(5)
        load.stop()
    return load, confirmed, settled, told


def test_a_backup_under_load_has_all_that_was_confirmed_before(tmp_path):
    directory = tmp_path / "backup"
    with Served(tmp_path, "--data", str(tmp_path / "data"), "--segment-bytes", "65536") as broker:
        load, confirmed, settled, told = asyncio.run(backed_up(broker, str(directory)))
        tried, settling = set(load.tried), set(load.settling)
        verified = json.loads(broker.out("log", "verify", str(directory), "--json"))
    assert (verified["verdict"], verified["torn_tail"]) == ("whole", None)
    assert json.loads(told)["bytes"] == verified["bytes"]
    assert json.loads(told)["segments"] == verified["segments"] > 2
    assert sorted(path.suffix for path in directory.iterdir()) == [".log"] * verified["segments"]
    with Served(tmp_path, "--data", str(directory)) as again:
        found = asyncio.run(contents(again.url))
    assert len(found) == len(set(found))
    assert confirmed - settling <= set(found) <= tried
    assert not settled & set(found)


async def test_forgotten_segments_stay_while_a_snapshot_lasts_and_go_with_it(tmp_path):
    data = tmp_path / "data"
    with Served(tmp_path, "--data", str(data), "--segment-bytes", "16384") as broker:
        url = broker.url
        async with wherry.connect(url) as client:
            queue = client.queue("jobs")
            await queue.publish_many([BODY % number for number in range(100)])
            reader = await wherry.connect(url)
            snapshot = await reader.take_snapshot()
            other = await wherry.connect(url)
            with pytest.raises(wherry.Unavailable, match="another backup"):
                await other.take_snapshot()
            with pytest.raises(wherry.NotFound, match="no snapshot"):
                await other.read_snapshot(snapshot.first, 0, 10)
            before = {path.name: path.read_bytes() for path in data.glob("*.log")}
            for _ in range(3):
                await queue.purge("ready")
                await queue.publish_many([BODY % number for number in range(60)])
            await queue.purge("ready")
            await queue.publish(b"x")
            assert before.keys() <= {path.name for path in data.glob("*.log")}
            copied = b""
            for number in range(snapshot.first, snapshot.last + 1):
                data_of, size = await reader.read_snapshot(number, 0, 1 << 20)
                assert len(data_of) == size
                copied += data_of
            assert copied == b"".join(before[name] for name in sorted(before))
            await reader.close()
            async with asyncio.timeout(SECONDS_MAX):
                while before.keys() & {path.name for path in data.glob("*.log")}:
                    await queue.publish(b"y")
                    await asyncio.sleep(0.01)
            await other.take_snapshot()
            await other.close()


def test_a_backup_needs_the_token(tmp_path):
    with Served(tmp_path, "--data", str(tmp_path / "data"), WHERRY_TOKEN="secret") as broker:
        denied = broker.run("backup", str(tmp_path / "copy"), environ={"WHERRY_TOKEN": "wrong"})
        assert denied.returncode == 1
        assert "token" in denied.stderr
        assert not (tmp_path / "copy").exists()
        broker.out("backup", str(tmp_path / "copy"))


def test_a_broker_without_a_log_has_no_backup(tmp_path):
    with Served(tmp_path) as broker:
        done = broker.run("backup", str(tmp_path / "copy"))
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "--data DIR" in done.stderr
        assert not (tmp_path / "copy").exists()


def test_only_an_empty_directory_is_written_to(tmp_path):
    with Served(tmp_path, "--data", str(tmp_path / "data")) as broker:
        directory = tmp_path / "copy"
        directory.mkdir()
        broker.out("publish", "jobs", "one")
        broker.out("backup", str(directory))
        before = {path.name: path.read_bytes() for path in directory.iterdir()}
        for target in (directory, tmp_path / "data"):
            done = broker.run("backup", str(target))
            assert (done.returncode, done.stderr.count("\n")) == (2, 1)
            assert "is not empty" in done.stderr
        assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
        assert broker.run("backup", str(broker.log)).returncode == 2
