from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry_broker.core import dedupe
from wherry_broker.core.effects import Delivery

ALL = {"max_messages": 3, "retry_base_ms": 0}


def lengths_of(*bodies):
    return b"".join(len(each).to_bytes(4, "big") for each in bodies)


def acked(queue, *deliveries, epoch=1, verb=Verb.ACK):
    return (queue, int(verb), epoch, deliveries, None, "")


def put(queue, *bodies, priority=0, dedupe=""):
    return (queue, lengths_of(*bodies), priority, "", 0, 0, 0, dedupe), b"".join(bodies)


def commit(driver, settles=(), *puts, **more):
    """What is said to a COMMIT, but for deliveries."""
    rows, blocks = zip(*puts, strict=True) if puts else ((), ())
    said = driver.submit(commands.Commit, tuple(settles), rows, block=b"".join(blocks), **more)
    return [each for each in said if not isinstance(each, Delivery)]


@pytest.fixture
def driver(make_shard):
    """A shard whose queue `q` holds three messages, all of them leased."""
    driver = make_shard()
    driver.submit(commands.Declare, "q", ALL)
    driver.publish(b"a", b"b", b"c")
    driver.consume()
    return driver


def refused(said):
    (error,) = said
    assert isinstance(error, replies.Error), error
    return error


def test_settles_and_publishes_happen_together(driver):
    said = commit(driver, [acked("q", (1, 1, 1)), acked("q", (2, 1, 1), verb=Verb.REJECT)], put("r", b"x", b"y"))
    assert said == [replies.Committed(driver.request, ((1, False, "synced"),))]
    assert driver.counts("q") == (0, 0, 1, 1)
    assert driver.counts("r") == (2, 0, 0, 0)


def test_it_is_one_entry_of_the_log(driver):
    driver.submit(commands.Declare, "r", {})
    driver.hold(commands.Commit, (acked("q", (1, 1, 1)),), (put("r", b"x")[0],), block=b"x")
    batch = driver.shard.take_batch()
    assert [type(record).__name__ for record in batch.records] == ["Removed", "Published"]
    assert driver.said() == []
    driver.shard.committed(batch.mark)
    assert len(driver.said()) == 1


@pytest.mark.parametrize(
    "settle",
    [
        acked("q", (1, 1, 1), (3, 2, 1)),
        acked("q", (2, 1, 2)),
        acked("q", (2, 1, 1), epoch=7),
        acked("nowhere", (2, 1, 1)),
    ],
)
def test_one_stale_settle_refuses_everything(driver, settle):
    before = len(driver.log)
    error = refused(
        commit(driver, [acked("q", (1, 1, 1)), settle] if settle[3][0][0] > 1 else [settle], put("r", b"x"))
    )
    assert (error.code, error.queue) == ("stale_delivery", settle[0])
    assert error.first == settle[3][-1][0] + (settle[3][-1][0] == 3)
    assert error.text.startswith(f"{settle[0]}/{error.first} is not leased")
    assert driver.counts("q") == (0, 0, 3, 0)
    assert len(driver.log) == before
    assert "r" not in driver.shard.state.names


def test_what_is_acknowledged_makes_room_in_its_own_queue(driver):
    full = refused(commit(driver, [], put("q", b"d")))
    assert (full.code, full.queue, full.bound, full.retryable) == ("busy", "q", "max_messages", True)
    assert full.retry_after_ms > 0
    assert commit(driver, [acked("q", (1, 1, 1))], put("q", b"d")) == [
        replies.Committed(driver.request, ((4, False, "synced"),))
    ]
    assert driver.info()["next_offset"] == 5


def test_what_is_handed_back_makes_no_room(driver):
    error = refused(commit(driver, [acked("q", (1, 1, 1), verb=Verb.NACK)], put("q", b"d")))
    assert (error.code, error.bound) == ("busy", "max_messages")
    assert driver.counts("q") == (0, 0, 3, 0)


def test_bounds_are_held_against_all_publishes_together(driver):
    driver.submit(commands.Declare, "r", {"max_messages": 3, "max_bytes": 10})
    assert refused(commit(driver, [], put("r", b"1", b"2"), put("r", b"3", b"4"))).code == "too_large"
    assert refused(commit(driver, [], put("r", b"12345"), put("r", b"123456"))).bound == "max_bytes"
    assert driver.counts("r") == (0, 0, 0, 0)
    rows = commit(driver, [], put("r", b"1"), put("r", b"2", b"3"))[0].publishes
    assert rows == ((1, False, "synced"), (2, False, "synced"))


def test_a_full_queue_refuses_what_goes_to_others_too(driver):
    assert refused(commit(driver, [acked("q", (1, 1, 1))], put("r", b"x"), put("q", b"1", b"2"))).queue == "q"
    assert driver.counts("q") == (0, 0, 3, 0)
    assert driver.counts("r") == (0, 0, 0, 0)


def test_the_oldest_are_dropped_for_all_publishes_together(driver):
    driver.submit(commands.Declare, "r", {"max_messages": 3, "overflow": "drop_oldest"})
    driver.publish(b"1", b"2", b"3", queue="r")
    rows = commit(driver, [], put("r", b"4"), put("r", b"5"))[0].publishes
    assert rows == ((4, False, "synced"), (5, False, "synced"))
    assert driver.info("r")["removed"] == {"dropped": 2}


def test_dedupe_keys_hold_within_a_commit_and_before_it(driver):
    driver.publish(b"1", queue="r", dedupe="k")
    rows = commit(
        driver, [], put("r", b"1", dedupe="k"), put("r", b"2", dedupe="l"), put("r", b"2", dedupe="l"), put("r", b"3")
    )[0].publishes
    assert rows == ((1, True, "synced"), (2, False, "synced"), (2, True, "synced"), (3, False, "synced"))
    assert driver.publish(b"2", queue="r", dedupe="l") == [replies.Confirm("synced", ((driver.request, 2, True),))]


def test_a_queue_remembers_no_more_keys_for_a_commit(driver, monkeypatch):
    monkeypatch.setattr(dedupe, "KEYS_MAX", 3)
    driver.publish(b"1", queue="r", dedupe="k")
    three = [put("r", b"x", dedupe=key) for key in "abc"]
    error = refused(commit(driver, [acked("q", (1, 1, 1))], *three))
    assert (error.code, error.queue, error.bound) == ("busy", "r", "dedupe_keys")
    assert driver.counts("q") == (0, 0, 3, 0)
    assert isinstance(commit(driver, [acked("q", (1, 1, 1))], *three[:2])[0], replies.Committed)


@pytest.mark.parametrize(
    ("settles", "puts", "text"),
    [
        ([acked("q", (1, 1, 1), verb=Verb.EXTEND)], [], "verb 4 cannot be committed"),
        ([acked("q", (1, 1, 1), verb=9)], [], "verb 9 cannot be committed"),
        ([acked("q", (1, 2, 1)), acked("q", (2, 1, 1))], [], "offset 2 stands in two ranges"),
        ([acked("q", (1, 6_000, 1)), acked("r", (1, 6_000, 1))], [], "12000 messages"),
        ([], [put("r", *[b""] * 6_000), put("s", *[b""] * 6_000)], "12000 messages"),
        ([], [(put("r", b"ab")[0], b"abc")], "do not add up"),
        ([], [put("r", b"ab", priority=10)], "priority 10"),
    ],
    ids=range(7),
)
def test_what_cannot_be_is_refused(driver, settles, puts, text):
    error = refused(commit(driver, settles, *puts))
    assert error.code == "invalid"
    assert text in error.text
    assert driver.counts("q") == (0, 0, 3, 0)


def test_the_dead_stay_within_their_bound(driver):
    driver.submit(commands.Alter, "q", {"dead_max_messages": 1})
    commit(driver, [acked("q", (1, 2, 1), verb=Verb.REJECT)])
    assert driver.counts("q") == (0, 0, 1, 1)


def test_a_full_disk_refuses_it_as_a_whole(driver):
    driver.shard.state.homes.room_bytes = 1_500
    error = refused(commit(driver, [acked("q", (1, 2, 1))], put("q", b"x"), put("q", b"y")))
    assert (error.code, error.bound) == ("busy", "disk")
    assert driver.counts("q") == (0, 0, 3, 0)
    assert isinstance(commit(driver, [acked("q", (1, 1, 1))], put("q", b"x"))[0], replies.Committed)


def test_nothing_of_it_is_seen_before_all_of_it_is_durable(driver):
    """A queue in memory would deliver at once, and what was settled with it would be back after a crash."""
    driver.submit(commands.Declare, "m", {"durability": "memory"})
    driver.submit(commands.Consume, 2, "m", 10)
    driver.hold(commands.Commit, (acked("q", (1, 1, 1)),), (put("m", b"x")[0],), block=b"x")
    driver.shard.dispatch(driver.now)
    batch = driver.shard.take_batch()
    assert [type(record).__name__ for record in batch.records] == ["Removed"]
    assert driver.said() == []
    driver.shard.committed(batch.mark)
    assert [type(each).__name__ for each in driver.said()] == ["Committed", "Delivery"]


def test_a_commit_of_nothing_is_done_at_once(driver):
    assert commit(driver) == [replies.Committed(driver.request, ())]


def test_a_broker_that_drains_takes_what_ends_work_in_hand(driver):
    driver.shard.drain("the end", driver.now)
    driver.said()
    assert refused(commit(driver, [], put("q", b"x"))).code == "draining"
    assert isinstance(commit(driver, [acked("q", (1, 1, 1))], put("q", b"x"))[0], replies.Committed)


def test_all_is_there_after_a_restart(driver, make_shard):
    commit(driver, [acked("q", (1, 1, 1)), acked("q", (2, 1, 1), verb=Verb.REJECT)], put("r", b"x", dedupe="k"))
    fresh = make_shard()
    for record in driver.log:
        fresh.shard.restore(record)
    fresh.shard.restored(fresh.now)
    assert fresh.counts("q") == (1, 0, 0, 1)
    assert fresh.counts("r") == (1, 0, 0, 0)
    assert fresh.publish(b"x", queue="r", dedupe="k") == [replies.Confirm("synced", ((fresh.request, 1, True),))]


def sequenced(make_shard):
    """A shard whose client numbers its publishes, and holds three messages of `q`."""
    driver = make_shard()
    driver.session = driver.shard.attach(1 << 30, "producer")
    driver.publish(b"a", b"b", b"c")
    driver.consume()
    return driver


def test_a_commit_that_is_sent_again_is_done_once(make_shard):
    driver = sequenced(make_shard)
    what = [acked("q", (1, 1, 1))], put("r", b"x", b"y"), put("r", b"z", dedupe="k"), put("q", b"d")
    rows = ((1, False, "synced"), (3, False, "synced"), (4, False, "synced"))
    assert commit(driver, *what, sequence=1) == [replies.Committed(driver.request, rows)]
    before = driver.counts("q"), driver.counts("r"), len(driver.log)
    again = ((1, True, "synced"), (3, False, "synced"), (4, True, "synced"))
    assert commit(driver, *what, sequence=1) == [replies.Committed(driver.request, again)]
    assert (driver.counts("q"), driver.counts("r"), len(driver.log)) == before
    assert refused(commit(driver, *what, sequence=2)).code == "stale_delivery"


def test_one_that_only_settles_is_remembered_too(make_shard):
    driver = sequenced(make_shard)
    settle = [acked("q", (1, 1, 1))]
    for _ in range(2):
        assert commit(driver, settle, sequence=1) == [replies.Committed(driver.request, ())]
    fresh = make_shard()
    for record in driver.log:
        fresh.shard.restore(record)
    fresh.shard.restored(fresh.now)
    fresh.session = fresh.shard.attach(1 << 30, "producer")
    assert commit(fresh, settle, sequence=1) == [replies.Committed(fresh.request, ())]
    assert refused(commit(fresh, settle, sequence=2)).code == "stale_delivery"


def test_a_refused_commit_is_not_remembered(make_shard):
    driver = sequenced(make_shard)
    assert refused(commit(driver, [acked("q", (1, 1, 2))], sequence=1)).code == "stale_delivery"
    assert commit(driver, [acked("q", (1, 1, 1))], sequence=1) == [replies.Committed(driver.request, ())]


def test_what_is_remembered_of_commits_is_counted_by_queue(make_shard):
    driver = sequenced(make_shard)
    producers = driver.shard.state.producers
    commit(driver, [acked("q", (1, 1, 1))], put("r", b"x"), put("s", b"y"), sequence=1)
    assert producers.rows == 3
    commit(driver, [], put("r", b"x"), sequence=2, answered=1)
    assert producers.rows == 1


def test_a_sequence_needs_a_producer(driver):
    assert refused(commit(driver, [acked("q", (1, 1, 1))], sequence=1)).code == "invalid"
    assert driver.counts("q") == (0, 0, 3, 0)
