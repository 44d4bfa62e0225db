"""Schedules in the core: when they publish, what becomes of missed moments, and that no restart makes it twice."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from scheduled import DAY, HOUR, MINUTE, NOW_MS, SECOND, Life, Sent
from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry_broker.core import planning, scheduling
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.records import Fired, Preamble, Published


@pytest.fixture
def life() -> Life:
    return Life()


def at(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def written(moments: list[int], zone: str) -> list[str]:
    return [datetime.fromtimestamp(each / 1000, ZoneInfo(zone)).isoformat()[:16] for each in moments]


def refused(reply, code: str, *words: str) -> None:
    assert isinstance(reply, replies.Error), reply
    assert reply.code == code
    for word in words:
        assert word in reply.text


# When.


def test_an_interval_counts_from_when_it_was_asked_for(life):
    life.schedule(every_ms=MINUTE)
    assert life.row()["next_ms"] == NOW_MS + MINUTE
    life.wait(MINUTE - 1)
    assert life.dues() == []
    life.wait(2 * MINUTE + 1)
    assert life.sent() == [Sent(NOW_MS + n * MINUTE, NOW_MS + n * MINUTE) for n in (1, 2, 3)]


def test_an_anchor_is_one_of_the_moments(life):
    life.schedule(every_ms=HOUR, anchor_ms=NOW_MS - 10 * DAY + 7)
    life.wait(2 * HOUR)
    assert life.dues() == [NOW_MS + 7, NOW_MS + HOUR + 7]


@pytest.mark.parametrize("anchor_ms", [NOW_MS - 25, NOW_MS, NOW_MS + 1_000_000_025])
def test_an_anchor_may_lie_anywhere(life, anchor_ms):
    life.schedule(every_ms=50 * SECOND, anchor_ms=anchor_ms)
    due = life.row()["next_ms"]
    assert NOW_MS < due <= NOW_MS + 50 * SECOND
    assert (due - anchor_ms) % (50 * SECOND) == 0


def test_a_single_moment_comes_once_and_is_remembered(life):
    plan = {"at_ms": NOW_MS + HOUR}
    assert life.schedule(**plan).change == "created"
    life.wait(DAY)
    life.crash()
    assert life.schedule(**plan).change == "same"
    life.wait(DAY)
    assert life.dues() == [NOW_MS + HOUR]
    assert (life.row()["next_ms"], life.row()["fired"]) == (0, 1)


def test_a_single_moment_that_has_passed_comes_at_once(life):
    life.schedule(at_ms=NOW_MS - DAY)
    assert life.sent() == [Sent(NOW_MS - DAY, NOW_MS)]


def test_cron_follows_its_zone_over_a_change_of_the_clock():
    life = Life(at("2027-03-27T12:00"))
    life.schedule(cron="30 2 * * *", zone="Europe/Paris")
    life.wait(3 * DAY)
    assert written(life.dues(), "Europe/Paris") == ["2027-03-28T03:00", "2027-03-29T02:30", "2027-03-30T02:30"]


def test_cron_is_utc_when_no_zone_is_named(life):
    assert life.schedule(cron="0 3 * * *").schedules[0][3] == "UTC"
    life.wait(DAY)
    assert written(life.dues(), "UTC") == ["2027-01-16T03:00"]


def test_a_start_and_an_end_hold_moments_in(life):
    life.schedule(every_ms=HOUR, start_ms=NOW_MS + 3 * HOUR, end_ms=NOW_MS + 5 * HOUR)
    life.wait(DAY)
    assert life.dues() == [NOW_MS + n * HOUR for n in (3, 4, 5)]
    assert life.row()["next_ms"] == 0


# What is published.


def test_the_message_has_the_options_of_the_schedule(life):
    life.ask(commands.Declare, "q", {"priorities": 10})
    life.schedule(every_ms=MINUTE, priority=7, key="k", ttl_ms=SECOND, block=b"\x80hello", stamp=0)
    life.wait(MINUTE)
    (peeked,) = (life.ask(commands.Peek, "q"),)
    assert peeked.block == b"\x80hello"
    assert peeked.spans[0][4:] == (NOW_MS + MINUTE, 7, "k")
    life.wait(SECOND)
    assert life.shard.state.names["q"].messages_held == 0


def test_a_message_and_its_fact_are_in_one_commit(life):
    life.schedule(every_ms=MINUTE)
    life.now += MINUTE
    life.shard.tick(life.now)
    batch = life.shard.take_batch()
    assert [type(each) for each in batch.records] == [Published, Fired]


def test_a_run_by_hand_leaves_the_moments_alone(life):
    life.schedule(every_ms=HOUR, overlap="skip")
    life.wait(MINUTE)
    row = life.ask(commands.RunSchedule, "s").schedules[0]
    assert life.sent() == [Sent(life.now, life.now)]
    assert row[18] == NOW_MS + HOUR
    life.ask(commands.Purge, "q")
    life.wait(HOUR)
    assert life.dues()[1:] == [NOW_MS + HOUR]


# Missed moments.


@pytest.mark.parametrize(
    ("missed", "expected", "count"), [("skip", [], 5), ("once", [5], 4), ("all", [1, 2, 3, 4, 5], 0)]
)
def test_moments_that_no_broker_saw(life, missed, expected, count):
    life.schedule(every_ms=HOUR, missed=missed)
    life.crash(5 * HOUR + 10 * MINUTE)
    life.wait(0)
    assert life.dues() == [NOW_MS + n * HOUR for n in expected]
    assert life.row()["missed_count"] == count
    life.wait(HOUR)
    assert life.dues()[len(expected) :] == [NOW_MS + 6 * HOUR]


def test_a_little_late_is_in_time(life):
    life.schedule(every_ms=HOUR, missed="skip", late_ms=MINUTE)
    life.crash(HOUR + MINUTE)
    life.wait(0)
    assert life.dues() == [NOW_MS + HOUR]
    life.crash(HOUR + 1)
    life.wait(0)
    assert life.dues() == [NOW_MS + HOUR]
    assert life.row()["missed_count"] == 1


def test_what_is_made_up_for_is_bounded(life):
    life.schedule(every_ms=MINUTE, missed="all")
    life.crash(30 * DAY)
    life.wait(0)
    total = 30 * DAY // MINUTE
    assert life.dues() == [NOW_MS + n * MINUTE for n in range(total - planning.MADE_UP_MAX + 1, total + 1)]
    assert life.row()["missed_count"] == total - planning.MADE_UP_MAX


@pytest.mark.parametrize("missed", ["once", "all"])
def test_a_cron_expression_that_nobody_saw_for_ten_years(life, missed):
    life.schedule(cron="* * * * *", zone="Europe/Paris", missed=missed)
    life.crash(3650 * DAY + 30 * SECOND)
    life.wait(0)
    newest = life.now // MINUTE * MINUTE
    made_up = planning.MADE_UP_MAX if missed == "all" else 1
    assert life.dues() == [newest - n * MINUTE for n in reversed(range(made_up))]
    assert life.row()["missed_count"] == planning.COUNTED_MAX


def test_rare_bursts_that_nobody_saw(life):
    life.schedule(cron="* * 1 2 *", missed="all")
    life.crash(3650 * DAY)
    life.wait(0)
    assert len(life.dues()) == planning.MADE_UP_MAX
    assert written([life.dues()[0], life.dues()[-1]], "UTC") == ["2036-02-01T22:20", "2036-02-01T23:59"]


# Overlap.


def settle_all(life: Life, verb: Verb, **more) -> None:
    spans = life.ask(commands.Peek, "q", "leased").spans
    rows = tuple((first, count, attempt) for first, count, attempt, *_ in spans)
    life.ask(commands.Settle, "q", verb, life.shard.state.epoch, rows, commit=False, **more)
    life.look()
    life.shard.take_effects()


def test_what_is_under_way_still_may_hold_the_next_one_up(life):
    life.schedule(every_ms=MINUTE, overlap="skip")
    life.wait(3 * MINUTE)
    assert len(life.dues()) == 1
    assert life.row()["skipped"] == 2
    life.crash()
    life.wait(MINUTE)
    assert len(life.dues()) == 1, "it is known after a restart, too"
    life.ask(commands.Purge, "q")
    life.wait(MINUTE)
    assert life.dues() == [NOW_MS + MINUTE, NOW_MS + 5 * MINUTE]


@pytest.mark.parametrize(("verb", "free"), [(Verb.ACK, True), (Verb.REJECT, True), (Verb.NACK, False)])
def test_a_message_is_under_way_until_it_is_settled_or_dead(life, verb, free):
    life.schedule(every_ms=MINUTE, overlap="skip")
    life.ask(commands.Consume, 1, "q", 10)
    life.wait(MINUTE)
    settle_all(life, verb)
    life.ask(commands.Pause, "q", paused=True)
    life.wait(MINUTE)
    assert len(life.dues()) == 1 + free


def test_a_message_in_hand_or_delayed_is_under_way(life):
    life.ask(commands.Declare, "q", {"lease_ms": 10 * MINUTE})
    life.schedule(every_ms=MINUTE, overlap="skip")
    life.ask(commands.Consume, 1, "q", 10)
    life.wait(2 * MINUTE)
    assert life.row()["skipped"] == 1
    settle_all(life, Verb.NACK, duration_ms=10 * MINUTE)
    life.wait(2 * MINUTE)
    assert (life.row()["skipped"], len(life.dues())) == (3, 1)


def test_overlap_is_allowed_when_nobody_minds(life):
    life.schedule(every_ms=MINUTE)
    life.wait(3 * MINUTE)
    assert len(life.dues()) == 3


# What cannot be published.


def test_a_full_queue_gets_its_message_when_there_is_room(life):
    life.ask(commands.Declare, "q", {"max_messages": 1})
    life.schedule(every_ms=HOUR)
    life.wait(2 * HOUR)
    row = life.row()
    assert (row["fired"], row["missed_count"]) == (1, 0)
    assert "queue 'q' is full" in row["error"]
    life.wait(MINUTE)
    life.ask(commands.Purge, "q")
    life.wait(scheduling.RETRY_MS)
    assert life.dues() == [NOW_MS + HOUR, NOW_MS + 2 * HOUR]
    assert life.sent()[1].at_ms <= NOW_MS + 2 * HOUR + MINUTE + scheduling.RETRY_MS
    assert life.row()["error"] == ""


def test_the_next_moment_takes_the_place_of_one_that_found_no_room(life):
    life.ask(commands.Declare, "q", {"max_messages": 1})
    life.schedule(every_ms=HOUR)
    life.wait(4 * HOUR + MINUTE)
    assert life.row()["missed_count"] == 2
    life.ask(commands.Purge, "q")
    life.wait(scheduling.RETRY_MS)
    assert life.dues() == [NOW_MS + HOUR, NOW_MS + 4 * HOUR]


def test_what_a_full_disk_refuses_is_tried_again(life):
    life.schedule(every_ms=HOUR)
    life.shard.state.homes.room_bytes = 100
    life.wait(HOUR + MINUTE)
    assert life.dues() == []
    assert "disk" in life.row()["error"]
    life.shard.state.homes.room_bytes = None
    life.wait(MINUTE)
    assert life.dues() == [NOW_MS + HOUR]


def test_a_deleted_queue_comes_back_where_queues_are_declared_by_their_use(life):
    life.schedule(every_ms=HOUR)
    life.ask(commands.Delete, "q")
    life.wait(HOUR)
    assert life.dues() == [NOW_MS + HOUR]


def test_a_deleted_queue_is_told_of_elsewhere(life):
    life.schedule(every_ms=HOUR)
    life.ask(commands.Delete, "q")
    life.shard._catalogue._auto_declare = False
    life.wait(HOUR + MINUTE)
    assert "there is no queue 'q'" in life.row()["error"]
    life.ask(commands.Declare, "q", {})
    life.wait(scheduling.RETRY_MS)
    assert life.dues() == [NOW_MS + HOUR]


def test_a_zone_that_is_gone_is_told_of(life):
    def calendar(cron, zone, after_ms):
        if life.now > NOW_MS:
            raise ValueError(f"there is no time zone {zone!r}")
        return iter((after_ms + HOUR,))

    life.shard._scheduling._zoned = calendar
    life.schedule(cron="0 * * * *", zone="Europe/Here")
    life.wait(2 * HOUR)
    assert "'Europe/Here'" in life.row()["error"]
    assert life.dues() == []


# Restarts.


def test_a_moment_has_one_message_however_often_a_broker_starts(life):
    life.schedule(every_ms=HOUR)
    life.wait(HOUR)
    for _ in range(3):
        life.crash()
        life.wait(0)
    assert life.dues() == [NOW_MS + HOUR]


def test_a_crash_before_the_commit_takes_both_and_the_moment_comes_again(life):
    life.schedule(every_ms=HOUR)
    life.now += HOUR
    life.look(commit=False)
    life.crash(SECOND)
    life.wait(0)
    assert life.sent() == [Sent(NOW_MS + HOUR, NOW_MS + HOUR + SECOND)]


def test_other_zone_data_changes_nothing_of_what_was_said(life):
    life.schedule(cron="0 * * * *", zone="Europe/Paris")
    due = life.row()["next_ms"]
    life.calendar = lambda cron, zone, after_ms: iter((due + 7 * HOUR,))
    life.crash()
    assert life.row()["next_ms"] == due
    life.wait(HOUR)
    assert life.dues() == [due]
    assert life.row()["next_ms"] == due + 7 * HOUR


def test_a_schedule_outlives_the_segment_that_it_was_written_in(life):
    life.schedule(every_ms=HOUR, missed="all", overlap="skip")
    life.wait(2 * HOUR)
    before = life.row()
    life.roll()
    life.schedule("other", every_ms=HOUR)
    life.roll()
    opened = max(number for number, (record, _) in enumerate(life.log) if isinstance(record, Preamble))
    life.log = life.log[opened:]
    life.crash()
    assert life.row() == before
    assert life.ask(commands.ListSchedules).schedules[0][0] == "other"


def test_a_clock_that_was_set_back_a_little_makes_nothing_twice(life):
    life.schedule(every_ms=MINUTE)
    life.wait(10 * MINUTE)
    life.crash(-5 * MINUTE)
    life.wait(6 * MINUTE)
    assert life.dues() == [NOW_MS + n * MINUTE for n in range(1, 12)]


def test_a_clock_that_was_set_back_far_was_wrong_before(life):
    life.now += 3650 * DAY
    life.schedule(cron="0 3 * * *")
    life.wait(DAY)
    life.crash(NOW_MS - life.now)
    life.wait(DAY)
    assert written(life.dues()[1:], "UTC") == ["2027-01-16T03:00"]
    assert life.row()["missed_count"] == 0


def test_a_clock_that_was_set_forward_has_missed_moments(life):
    life.schedule(cron="0 3 * * *")
    life.crash(3650 * DAY)
    life.wait(DAY)
    assert len(life.dues()) == 2


def test_a_single_moment_survives_any_clock(life):
    life.schedule(at_ms=NOW_MS + DAY)
    life.crash(-3650 * DAY)
    life.wait(3650 * DAY)
    assert life.dues() == []
    life.wait(DAY)
    assert life.dues() == [NOW_MS + DAY]


def test_a_broker_that_shuts_down_leaves_moments_to_the_next_one(life):
    life.schedule(every_ms=HOUR)
    life.shard.drain("bye", life.now)
    life.wait(HOUR)
    assert life.dues() == []
    refused(life.ask(commands.RunSchedule, "s"), "draining")
    life.crash(SECOND)
    life.wait(0)
    assert life.dues() == [NOW_MS + HOUR]


def test_a_queue_in_memory_loses_its_messages_and_no_moment_comes_twice():
    life = Life(defaults=QueueOptions(durability="synced"))
    life.ask(commands.Declare, "q", {"durability": "memory"})
    life.schedule(every_ms=HOUR, overlap="skip")
    life.wait(HOUR)
    life.crash()
    life.wait(HOUR)
    assert life.row()["fired"] == 2
    assert life.shard.state.names["q"].messages_held == 1


# Asking.


def test_the_same_again_changes_nothing(life):
    plan = {"every_ms": HOUR, "missed": "all"}
    life.schedule(**plan)
    life.wait(MINUTE)
    before = len(life.log)
    assert life.schedule(**plan).change == "same"
    assert len(life.log) == before
    assert life.row()["next_ms"] == NOW_MS + HOUR


def test_another_plan_takes_its_place_and_says_so(life):
    life.schedule(every_ms=HOUR)
    life.wait(HOUR)
    reply = life.schedule(every_ms=MINUTE)
    assert reply.change == "changed"
    row = life.row()
    assert (row["every_ms"], row["fired"], row["next_ms"]) == (MINUTE, 1, life.now + MINUTE)


def test_a_paused_schedule_stays_so_whatever_it_is_asked_to_be(life):
    life.schedule(every_ms=HOUR)
    life.ask(commands.PauseSchedule, "s", paused=True)
    life.schedule(every_ms=HOUR)
    life.schedule(every_ms=MINUTE)
    life.crash()
    life.wait(DAY)
    assert life.dues() == []
    assert life.row()["paused"] is True
    reply = life.ask(commands.PauseSchedule, "s", paused=False)
    assert reply.schedules[0][18] == NOW_MS + DAY + MINUTE
    life.wait(MINUTE)
    assert life.dues() == [NOW_MS + DAY + MINUTE]
    assert life.row()["missed_count"] == 0


def test_pausing_twice_writes_once(life):
    life.schedule(every_ms=HOUR)
    for paused in (True, False):
        life.ask(commands.PauseSchedule, "s", paused=paused)
        before = len(life.log)
        life.ask(commands.PauseSchedule, "s", paused=paused)
        assert len(life.log) == before


def test_a_removed_schedule_is_gone_for_good(life):
    life.schedule(every_ms=HOUR)
    life.ask(commands.Unschedule, "s")
    life.crash()
    life.wait(DAY)
    assert life.dues() == []
    for kind, more in (
        (commands.Unschedule, {}),
        (commands.RunSchedule, {}),
        (commands.PauseSchedule, {"paused": True}),
    ):
        refused(life.ask(kind, "s", **more), "not_found", "there is no schedule 's'")
    assert life.ask(commands.ListSchedules).schedules == ()
    assert life.shard.state.homes.owed_bytes == 0


def test_lists_come_in_pages(life):
    names = sorted(f"{kind}-{n}" for kind in ("day", "night") for n in range(scheduling.PAGE_SCHEDULES_MAX))
    for name in names:
        life.schedule(name, every_ms=HOUR)
    first = life.ask(commands.ListSchedules)
    assert (first.more, [row[0] for row in first.schedules]) == (True, names[: scheduling.PAGE_SCHEDULES_MAX])
    second = life.ask(commands.ListSchedules, "", first.schedules[-1][0])
    assert (second.more, [row[0] for row in second.schedules]) == (False, names[scheduling.PAGE_SCHEDULES_MAX :])
    assert life.ask(commands.ListSchedules, "night-1", "night-10").schedules[0][0] == "night-11"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"cron": "61 * * * *"}, ["'61 * * * *'", "bad minute"]),
        ({"cron": "0 3 * * *", "zone": "Mars/Olympus"}, ["'Mars/Olympus'"]),
        ({"cron": "* * */20 * 1L"}, ["would never be due"]),
        ({}, ["one of cron, every_ms and at_ms", "has 0"]),
        ({"cron": "0 3 * * *", "every_ms": HOUR}, ["has 2"]),
        ({"every_ms": 99}, ["every_ms 99"]),
        ({"every_ms": HOUR, "zone": "UTC"}, ["zone 'UTC'"]),
        ({"cron": "0 3 * * *", "anchor_ms": 1}, ["anchor_ms"]),
        ({"every_ms": HOUR, "start_ms": 9, "end_ms": 8}, ["end_ms 8", "start_ms 9"]),
        ({"every_ms": HOUR, "end_ms": NOW_MS}, ["would never be due"]),
        ({"every_ms": HOUR, "missed": "twice"}, ["'twice'", "skip, once, all"]),
        ({"every_ms": HOUR, "overlap": "queue"}, ["'queue'", "allow, skip"]),
        ({"every_ms": HOUR, "stamp": 5}, ["stamp 5"]),
        ({"every_ms": HOUR, "block": bytes(65_537)}, ["65537 bytes", "65536"]),
        ({"every_ms": HOUR, "name": "a b"}, ["'a b' cannot name a schedule"]),
        ({"every_ms": HOUR, "name": ""}, ["'' cannot name a schedule"]),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(life, plan, words):
    before = len(life.log)
    refused(life.schedule(**plan), "invalid", *words)
    assert len(life.log) == before
    assert life.ask(commands.ListSchedules).schedules == ()


def test_what_its_queue_would_never_take_is_refused(life):
    life.ask(commands.Declare, "q", {"priorities": 2, "max_bytes": 20})
    refused(life.schedule(every_ms=HOUR, priority=2), "invalid", "priority 2")
    refused(life.schedule(every_ms=HOUR, block=bytes(21)), "too_large", "max_bytes is 20")


def test_there_is_a_limit_to_all_schedules(life, monkeypatch):
    monkeypatch.setattr(scheduling, "SCHEDULES_MAX", 2)
    monkeypatch.setattr(scheduling, "SCHEDULES_BYTES_MAX", 100)
    life.schedule("a", every_ms=HOUR)
    refused(life.schedule("b", every_ms=HOUR, block=bytes(89)), "unavailable", "101 bytes", "100")
    life.schedule("b", every_ms=HOUR)
    refused(life.schedule("c", every_ms=HOUR), "unavailable", "there are 2 schedules")
    assert life.schedule("b", every_ms=HOUR, block=bytes(88)).change == "changed"


def test_a_full_disk_takes_no_new_schedule(life):
    life.shard.state.homes.room_bytes = 100
    refused(life.schedule("a", every_ms=HOUR), "busy", "disk")


def test_a_broker_without_a_calendar_says_so():
    life = Life(calendar=planning.no_calendar)
    refused(life.schedule(cron="0 3 * * *"), "invalid", "no calendar")
    assert life.schedule(every_ms=HOUR).change == "created"


def test_what_many_schedules_need_of_the_log_is_kept_for_them(life):
    life.schedule("a", every_ms=HOUR, block=bytes(1000))
    life.schedule("a", every_ms=HOUR, block=bytes(500))
    one = life.shard.state.homes.owed_bytes
    assert 500 < one < 4000
    life.schedule("b", every_ms=HOUR, block=bytes(500))
    assert life.shard.state.homes.owed_bytes == 2 * one
    life.crash()
    assert life.shard.state.homes.owed_bytes == 2 * one


def test_moments_are_dealt_with_in_the_order_in_which_they_are_due(life):
    life.schedule("b", every_ms=HOUR, key="b")
    life.schedule("a", every_ms=HOUR, anchor_ms=NOW_MS - 1, key="a")
    life.wait(HOUR)
    keys = [record.envelope.key for record, _ in life.log if isinstance(record, Published)]
    assert keys == ["a", "b"]
    assert datetime.fromtimestamp(life.dues()[0] / 1000, UTC).second == 59


# What became of it.


def test_a_schedule_may_have_its_messages_tracked(life):
    life.schedule(every_ms=MINUTE, track=True)
    life.wait(MINUTE)
    row = life.row()
    assert row["track"]
    told = life.ask(commands.Status, row["last_queue"], row["last_offset"])
    assert told.status["tracked"]
    assert told.status["history"][0][1:] == ("published", "schedule s", "")
    assert life.schedule(every_ms=MINUTE, track=True).change == "same"
    assert life.schedule(every_ms=MINUTE).change == "changed"
    assert not life.row()["track"]
