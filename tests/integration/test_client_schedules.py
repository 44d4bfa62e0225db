"""Schedules as a program has them: of a broker whose time the test moves, by both clients, and by command."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

import wherry
from serving import Served
from wherry.sync import connect as connect_sync

REFUSED, USAGE = 1, 2
KILLS = 4
EVERY_MS = 100


@pytest.fixture
async def broker(wherry_broker):
    async with wherry_broker.connect() as broker:
        yield broker


async def bodies(broker: wherry.Broker, queue: str = "q") -> list[bytes]:
    return [each.body for each in await broker.queue(queue).peek(100)]


async def test_a_message_comes_at_each_moment_and_tells_which(broker, wherry_broker):
    before = wherry_broker.now
    info = await broker.schedule("tick", "q", b"now", every=60, headers={"kind": "beat"}, priority=3, key="k")
    assert (info.change, info.next_due, info.every) == ("created", before + timedelta(minutes=1), 60.0)
    await wherry_broker.advance(minutes=2)
    first, second = await broker.queue("q").get(5)
    for message, minutes in ((first, 1), (second, 2)):
        due = before + timedelta(minutes=minutes)
        due_ms = round(due.timestamp() * 1000)
        assert message.headers == {"due_ms": due_ms, "schedule": "tick", "kind": "beat"}
        assert (message.body, message.priority, message.key, message.published_at) == (b"now", 3, "k", due)


async def test_cron_in_a_zone(broker, wherry_broker):
    await broker.schedule("nightly", "q", "all", cron="30 2 * * *", zone=ZoneInfo("Europe/Paris"))
    await wherry_broker.advance(days=366)
    messages = [each async for each in _all(broker.queue("q"))]
    assert 365 <= len(messages) <= 367
    walls = {each.published_at.astimezone(ZoneInfo("Europe/Paris")).strftime("%H:%M") for each in messages}
    assert walls <= {"02:30", "03:00"}
    days = [each.published_at.astimezone(ZoneInfo("Europe/Paris")).date() for each in messages]
    assert len(set(days)) == len(days)


async def _all(queue: wherry.Queue):
    first = 1
    while page := await queue.peek(1000, first=first):
        for each in page:
            yield each
        first = page[-1].offset + 1


async def test_what_a_program_says_whenever_it_starts_changes_nothing(broker, wherry_broker):
    at = wherry_broker.now + timedelta(hours=1)
    options = {"at": at, "missed": "skip", "late": 5, "overlap": "skip", "ttl": 60}
    assert (await broker.schedule("once", "q", b"x", **options)).change == "created"
    await wherry_broker.advance(hours=2)
    again = await broker.schedule("once", "q", b"x", **options)
    assert (again.change, again.next_due, again.fired, again.last_id) == ("same", None, 1, "q/1")
    assert (again.at, again.last_due, again.late, again.ttl) == (at, at, 5.0, 60.0)
    changed = await broker.schedule("once", "q", b"y", **options)
    assert (changed.change, changed.fired) == ("changed", 1)


async def test_they_are_listed_run_paused_and_removed(broker, wherry_broker):
    names = [f"job-{n:02}" for n in range(45)]
    for name in names:
        await broker.schedule(name, "q", name, every=3600)
    assert [each.name for each in await broker.schedules()] == names
    assert [each.name for each in await broker.schedules("job-4")] == names[40:]
    assert (await broker.run_schedule("job-07")).last_id == "q/1"
    assert await bodies(broker) == [b"job-07"]
    for name in names[1:]:
        await broker.unschedule(name)
    assert (await broker.pause_schedule("job-00")).paused is True
    await wherry_broker.advance(hours=5)
    resumed = await broker.resume_schedule("job-00")
    assert (resumed.paused, resumed.missed_count) == (False, 0)
    await wherry_broker.advance(hours=1)
    assert await bodies(broker) == [b"job-07", b"job-00"]
    for ask in (broker.unschedule, broker.run_schedule, broker.pause_schedule, broker.resume_schedule):
        with pytest.raises(wherry.NotFound, match="there is no schedule 'job-07'"):
            await ask("job-07")


async def test_a_full_queue_can_be_seen(broker, wherry_broker):
    await broker.declare("small", max_messages=1)
    await broker.schedule("often", "small", b"x", every=60)
    await wherry_broker.advance(minutes=3)
    (info,) = await broker.schedules("often")
    assert info.fired == 1
    assert "queue 'small' is full" in info.error
    with pytest.raises(wherry.Busy):
        await broker.run_schedule("often")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"cron": "0 25 * * *"}, wherry.Invalid, "'0 25 [*] [*] [*]'.*bad hour"),
        ({"cron": "0 3 * * *", "zone": "Europe/Berlim"}, wherry.Invalid, "no time zone 'Europe/Berlim'"),
        ({}, wherry.Invalid, "one of cron, every_ms and at_ms"),
        ({"every": 0}, wherry.Invalid, "more than 0 seconds"),
        ({"every": 60, "missed": "never"}, wherry.Invalid, "'never' is not one of skip, once, all"),
        ({"every": 60, "priority": 10}, wherry.Invalid, "priority 10"),
        ({"every": 60, "headers": {"due_ms": 1}}, ValueError, "'due_ms'"),
        ({"at": datetime(2030, 1, 1)}, ValueError, "time zone"),  # noqa: DTZ001 (that is the point)
        ({"every": 60, "zone": UTC}, TypeError, "an IANA name"),
        ({"evry": 60}, TypeError, "no option 'evry'; it has cron, zone, every"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_its_name(broker, options, kind, words):
    with pytest.raises(kind, match=words):
        await broker.schedule("s", "q", b"x", **options)
    assert await broker.schedules() == []


async def test_as_many_headers_as_a_message_may_have(broker, wherry_broker):
    headers = {f"h{n}": n for n in range(62)}
    await broker.schedule("s", "q", b"body", every=60, headers=headers)
    await wherry_broker.advance(60)
    (message,) = await broker.queue("q").get(1)
    assert message.headers == {"due_ms": round(wherry_broker.now.timestamp() * 1000), "schedule": "s", **headers}
    with pytest.raises(ValueError, match="65 headers"):
        await broker.schedule("s", "q", b"body", every=60, headers={**headers, "one": 1})


# Real brokers.


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def test_a_broker_publishes_with_nobody_there_and_remembers_it(tmp_path):
    data = str(tmp_path / "data")
    with Served(tmp_path, "--data", data) as served, connect_sync(served.url) as broker:
        broker.schedule("tick", "q", b"x", every=0.1, overlap="skip")
        broker.schedule("later", "q", b"x", at=datetime.now(UTC) + timedelta(days=1))
        assert [each.name for each in broker.schedules()] == ["later", "tick"]
        (message,) = broker.queue("q").get(1, wait=10)
        assert message.headers["schedule"] == "tick"
        message.ack()
        broker.pause_schedule("tick")
        assert broker.run_schedule("later").fired == 1
    with Served(tmp_path, "--data", data) as served, connect_sync(served.url) as broker:
        later, tick = broker.schedules()
        assert (later.fired, tick.paused) == (1, True)
        assert broker.resume_schedule("tick").paused is False
        broker.queue("q").purge()
        assert broker.queue("q").get(1, wait=10)[0].headers["schedule"] == "tick"
        broker.unschedule("tick")
    dumped = [json.loads(line) for line in served.out("log", "dump", data, "--json").splitlines()]
    fired = [(each["name"], each["queue_name"]) for each in dumped if each["kind"] == "fired" and each["queue"]]
    assert ("tick", "q") in fired
    assert [each["name"] for each in dumped if each["kind"] == "unscheduled"] == ["tick"]


def test_a_killed_broker_publishes_for_each_moment_once(tmp_path):
    moments: dict[int, int] = {}
    for start in range(KILLS):
        served = Served(tmp_path, "--data", str(tmp_path / "data"))
        try:
            with connect_sync(served.url) as broker:
                info = broker.schedule("tick", "q", b"x", every=EVERY_MS / 1000, missed="all")
                assert info.change == ("same" if start else "created")
                for message in broker.queue("q").get(limit=7, wait=20):
                    moments[message.offset] = message.headers["due_ms"]
                    message.ack()
        finally:
            served.stop(signal.SIGKILL)
    assert sorted(moments) == list(range(1, max(moments) + 1))
    first = moments[1]
    assert [moments[offset] for offset in sorted(moments)] == [first + EVERY_MS * n for n in range(len(moments))]


def test_the_command_line(served):
    out = served.out
    assert out("schedule", "list") == ""
    said = out("schedule", "add", "nightly", "reports", "all", "--cron", "0 3 * * *", "--zone", "Europe/Paris")
    assert said.startswith("nightly created: next due 20")
    assert "UTC" in said
    again = ("schedule", "add", "nightly", "reports", "all", "--cron", "0 3 * * *", "--zone", "Europe/Paris")
    assert out(*again).startswith("nightly is there already: next due 20")
    said = out("schedule", "add", "nightly", "reports", "all", "--cron", "0 4 * * *", "--zone", "Europe/Paris")
    assert said.startswith("nightly changed: next due 20")
    assert out("schedule", "add", "hourly", "reports", "--every", "1h", "--overlap", "skip", "x").startswith("hourly")
    row = out("schedule", "list", "night").rstrip("\n").split("\t")
    assert row[:3] == ["nightly", "reports", "0 4 * * * Europe/Paris"]
    assert out("schedule", "run", "nightly") == "nightly published reports/1\n"
    assert out("consume", "reports", "--count", "1") == "all\n"
    (told,) = json.loads(out("schedule", "list", "night", "--json"))
    assert (told["fired"], told["last_id"], told["zone"]) == (1, "reports/1", "Europe/Paris")
    assert out("schedule", "pause", "nightly") == "nightly paused\n"
    assert out("schedule", "list", "night").split("\t")[3] == "paused"
    assert out("schedule", "resume", "nightly").startswith("nightly resumed: next due 20")
    assert out("schedule", "remove", "nightly") == "nightly removed\n"
    assert json.loads(out("schedule", "remove", "hourly", "--json")) == {"schedule": "hourly", "removed": True}
    assert out("schedule", "list") == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["add", "s", "q", "x"], USAGE, ["--cron", "--every", "--at"]),
        (["add", "s", "q", "x", "--every", "1h", "--cron", "* * * * *"], USAGE, ["--cron", "--every", "--at"]),
        (["add", "s", "q", "x", "--every", "soon"], USAGE, ["'soon' is not a duration"]),
        (["add", "s", "q", "x", "--at", "tomorrow"], USAGE, ["'tomorrow'", "2026-05-01T03:00+02:00"]),
        (["add", "s", "q", "x", "--at", "2030-01-01T00:00"], USAGE, ["'2030-01-01T00:00'", "time zone"]),
        (["add", "s", "q", "x", "--cron", "0 25 * * *"], REFUSED, ["'0 25 * * *'", "bad hour"]),
        (["add", "s", "q", "x", "--cron", "0 3 * * *", "--zone", "Here"], REFUSED, ["'Here'"]),
        (["add", "s", "q q", "x", "--every", "1h"], USAGE, ["'q q' cannot name a queue"]),
        (["remove", "nothing"], REFUSED, ["there is no schedule 'nothing'"]),
        (["run", "nothing"], REFUSED, ["there is no schedule 'nothing'"]),
    ],
)
def test_what_the_command_line_refuses_it_names(served, arguments, code, words):
    done = served.run("schedule", *arguments)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
