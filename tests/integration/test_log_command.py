"""`wherry log` as users have it: on the directory of a real broker, whole, torn, and damaged."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from pathlib import Path

import pytest

import wherry
from serving import CommandLine, Served
from wherry_broker.log.journal import segment_name

FIRST = segment_name(1)
COUNT = 60


@pytest.fixture(name="line")
def _line(tmp_path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture(scope="module", name="left")
def _left(tmp_path_factory) -> Path:
    """The directory of a broker that was killed: some messages, a few of them settled, over several segments."""
    folder = tmp_path_factory.mktemp("left")
    broker = Served(folder, "--data", str(folder / "data"), "--segment-bytes", "4096")
    try:
        asyncio.run(fill(broker.url))
    finally:
        broker.stop(signal.SIGKILL)
    return folder / "data"


async def fill(url: str) -> None:
    async with wherry.connect(url) as broker:
        jobs = broker.queue("jobs")
        for start in range(0, COUNT, 20):
            await jobs.publish_many([b"body %04d %s" % (number, b"." * 100) for number in range(start, start + 20)])
        await broker.queue("emails").publish(b"hello")
        await jobs.ack_many(await jobs.get(5))


@pytest.fixture(name="data")
def _data(left, tmp_path) -> Path:
    return Path(shutil.copytree(left, tmp_path / "data"))


def spoil(path: Path, text: bytes) -> int:
    """Changes the first byte of a text in a file; returns where that is."""
    content = bytearray(path.read_bytes())
    place = content.index(text)
    content[place] ^= 0xFF
    path.write_bytes(content)
    return place


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix == ".log"}


def queues(broker: Served) -> dict[str, int]:
    return {row["name"]: row["ready"] for row in json.loads(broker.out("--json", "queue", "list"))}


def test_a_whole_log_is_counted_and_nothing_is_changed(line, data):
    before = contents(data)
    done = line.run("log", "verify", str(data), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["verdict"], told["torn_tail"], told["damages"]) == ("whole", None, [])
    assert (told["messages_published"], told["bytes"]) == (COUNT + 1, sum(map(len, before.values())))
    assert (told["segments"], told["records"]["declared"]) == (len(before), 2)
    assert contents(data) == before
    plain = dict(each.split("\t") for each in line.out("log", "verify", str(data)).splitlines())
    assert plain["verdict"] == "whole"
    assert plain["records.published"] == str(told["records"]["published"])


def test_a_dump_is_one_record_a_line(line, data):
    told = json.loads(line.out("log", "verify", str(data), "--json"))
    lines = [json.loads(each) for each in line.out("log", "dump", str(data), "--json", "--bodies").splitlines()]
    assert len(lines) == sum(told["records"].values())
    bodies = [body for each in lines if each.get("name") == "jobs" for body in each.get("bodies", ())]
    assert [body[:9] for body in bodies] == [f"body {number:04d}" for number in range(COUNT)]
    plain = line.out("log", "dump", str(data)).splitlines()
    assert len(plain) == len(lines)
    assert "body 0001" not in "".join(plain)
    assert plain[0].startswith("1 48 1 preamble epoch=")


def test_bodies_that_are_no_text_are_shown_in_hex(tmp_path, line):
    data = tmp_path / "data"
    with Served(tmp_path, "--data", str(data)) as broker:
        broker.run("publish", "raw", "--file", "-", stdin=b"\xff\x00")
    lines = [json.loads(each) for each in line.out("log", "dump", str(data), "--json", "--bodies").splitlines()]
    assert [each["bodies"] for each in lines if "bodies" in each] == [[{"hex": "80ff00"}]]


def test_a_torn_tail_is_told_and_is_no_damage(line, data, tmp_path):
    last = max(data.glob("*.log"))
    whole = last.read_bytes()
    last.write_bytes(whole[:-1])
    done = line.run("log", "verify", str(data))
    assert done.returncode == 0
    told = dict(each.split("\t") for each in done.stdout.splitlines())
    assert f"of {last.name} from offset" in told["torn_tail"]
    dumped = line.run("log", "dump", str(data))
    assert dumped.returncode == 0
    assert "torn tail:" in dumped.stderr
    assert last.read_bytes() == whole[:-1]
    with Served(tmp_path, "--data", str(data)) as broker:
        (event,) = (json.loads(each) for each in broker.log.read_text("utf-8").splitlines() if "log_torn_tail" in each)
    assert (event["file"], event["kept"]) == (last.name, f"{last.name}.torn-{event['offset']}")
    assert event["offset"] + event["size_bytes"] == len(whole) - 1
    assert last.read_bytes() + (data / event["kept"]).read_bytes() == whole[:-1]


def test_damage_is_named_by_all_and_repaired(line, data, tmp_path):
    place = spoil(data / FIRST, b"body 0007")
    before = contents(data)
    verified = line.run("log", "verify", str(data))
    assert verified.returncode == 1
    assert f"damage\t{FIRST} at offset " in verified.stdout
    assert verified.stderr.startswith(f"wherry: the log is damaged: {FIRST} at offset ")
    dumped = line.run("log", "dump", str(data), "--bodies")
    assert dumped.returncode == 1
    assert dumped.stderr.startswith(f"wherry: damage: {FIRST} at offset ")
    assert "body 0019" not in dumped.stdout
    assert "body 0020" in dumped.stdout
    served = line.run("serve", "--port", "0", "--data", str(data))
    assert served.returncode == 74
    (refusal,) = served.stderr.splitlines()
    assert f"{FIRST} at offset " in refusal
    assert "wherry log repair" in refusal
    assert contents(data) == before

    repaired = line.run("log", "repair", str(data))
    assert repaired.returncode == 0
    assert "lost: 15 messages of jobs: 6 to 20\n" in repaired.stdout
    assert f"kept in {data / 'damaged-1'}\n" in repaired.stdout
    assert contents(data / "damaged-1") == before
    assert before[FIRST][place] == 0xFF ^ ord("b")
    with Served(tmp_path, "--data", str(data)) as broker:
        assert queues(broker) == {"jobs": 40, "emails": 1}
        assert broker.out("consume", "jobs", "--count", "40").count("body ") == 40


def test_serving_may_repair_first(data, tmp_path):
    spoil(data / FIRST, b"body 0027")
    with Served(tmp_path, "--data", str(data), "--repair") as broker:
        assert queues(broker) == {"jobs": 35, "emails": 1}
        events = [json.loads(each) for each in broker.log.read_text("utf-8").splitlines()]
    told = {event["event"]: event for event in events}
    assert told["log_damaged"]["file"] == FIRST
    assert told["log_messages_lost"]["ranges"] == [[21, 41]]
    assert told["log_repaired"]["kept"] == "damaged-1"
    with Served(tmp_path, "--data", str(data), "--repair") as broker:
        assert queues(broker) == {"jobs": 35, "emails": 1}
    assert not (data / "damaged-2").exists()


def test_repairing_needs_a_log(line):
    done = line.run("serve", "--port", "0", "--repair")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--data DIR" in done.stderr


def test_nothing_is_done_to_the_log_of_a_broker_that_runs(tmp_path):
    data = tmp_path / "data"
    with Served(tmp_path, "--data", str(data)) as broker:
        for name in ("verify", "dump", "repair"):
            done = broker.run("log", name, str(data))
            assert (done.returncode, done.stdout) == (2, "")
            assert f"{data} is in use by process " in done.stderr
            assert "wherry backup" in done.stderr


@pytest.mark.parametrize("name", ["verify", "dump", "repair"])
def test_a_directory_without_a_log_is_named_and_left_alone(name, line, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    done = line.run("log", name, str(empty))
    assert (done.returncode, done.stderr) == (2, f"wherry: there is no log in {empty}\n")
    assert list(empty.iterdir()) == []
    missing = line.run("log", name, str(tmp_path / "nowhere"))
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["verify", "dump", "repair"])
def test_another_version_is_refused_by_name(name, line, data):
    content = bytearray((data / FIRST).read_bytes())
    content[8:12] = (7).to_bytes(4, "big")
    content[20] ^= 1
    (data / FIRST).write_bytes(content)
    before = contents(data)
    done = line.run("log", name, str(data))
    assert done.returncode == 1
    assert f"{FIRST} at offset 0: it has format version 7, and this program reads version 1" in done.stderr
    assert contents(data) == before
    assert not (data / "damaged-1").exists()
