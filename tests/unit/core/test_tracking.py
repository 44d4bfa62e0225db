from __future__ import annotations

import struct

import pytest

from wherry.model import commands, replies
from wherry.model.fields import HEADER_BYTES_MAX, VALUE_BYTES_MAX
from wherry.wire import codec
from wherry_broker.core import tracking, watching
from wherry_broker.core.housekeeping import preamble, rehomed
from wherry_broker.core.memory import QUEUE_BYTES, TIMER_BYTES
from wherry_broker.core.options import DAY_MS, QueueOptions
from wherry_broker.core.shard import Shard

ACK, NACK, REJECT, RELEASE, EXTEND = range(5)


class Jobs:
    """Tracked messages of the queue `q`, with shorthand."""

    def __init__(self, driver):
        self.driver = driver

    def publish(self, *bodies, **more):
        return self.driver.publish(*bodies, track=True, **more)

    def settle(self, verb, *deliveries, results=(), **more):
        sizes = struct.pack(f">{len(results)}I", *map(len, results))
        return self.driver.settle(verb, *deliveries, results=sizes, block=b"".join(results), **more)

    def told(self, offset=1, wait_ms=0, queue="q", **more):
        """The answers that come at once to who asks how a message stands."""
        return [
            each
            for each in self.driver.submit(commands.Status, queue, offset, wait_ms, **more)
            if isinstance(each, replies.Told | replies.Error)
        ]

    def status(self, offset=1, **more):
        (told,) = self.told(offset, **more)
        assert isinstance(told, replies.Told), told
        return told.status

    def ended(self, offset=1):
        """(state, result) of a message that has left."""
        (told,) = self.told(offset)
        return told.status["state"], told.block


@pytest.fixture
def jobs(make_shard):
    return Jobs(make_shard())


def code_of(said):
    (reply,) = said
    assert isinstance(reply, replies.Error), reply
    return reply.code


# How messages end.


def test_an_ack_leaves_its_result(jobs):
    jobs.publish(b"a", b"b", b"c")
    jobs.driver.consume()
    jobs.settle(ACK, (1, 2, 1), results=[b"one", b""])
    jobs.settle(ACK, (3, 1, 1))
    assert [jobs.ended(offset) for offset in (1, 2, 3)] == [("settled", b"one"), ("settled", b""), ("settled", b"")]


def test_the_result_is_in_the_commit_of_the_settle(jobs):
    jobs.publish(b"a")
    jobs.driver.consume()
    jobs.driver.hold(commands.Settle, "q", ACK, 1, ((1, 1, 1),), results=struct.pack(">I", 2), block=b"ok")
    batch = jobs.driver.shard.take_batch()
    assert [type(record).__name__ for record in batch.records] == ["Removed", "Declared", "Published"]


def cancel(jobs):
    jobs.driver.submit(commands.Cancel, "q", ((1, 1),))


def purge(jobs):
    jobs.driver.submit(commands.Purge, "q")


def delete(jobs):
    jobs.driver.submit(commands.Delete, "q")


def expire(jobs):
    jobs.driver.wait(50)


def reject(jobs):
    jobs.driver.consume()
    jobs.settle(REJECT, (1, 1, 1), text="spam")


def exhaust(jobs):
    jobs.driver.consume()
    jobs.settle(NACK, (1, 1, 1), text="boom")


def overflow(jobs):
    jobs.driver.publish(b"b")


ENDS = {
    cancel: ("cancelled", "", ""),
    purge: ("purged", "", ""),
    delete: ("purged", "", ""),
    expire: ("expired", "", ""),
    overflow: ("dropped", "", ""),
    reject: ("dead", "rejected", "spam"),
    exhaust: ("dead", "attempts", "boom"),
}


@pytest.mark.parametrize("end", ENDS)
def test_any_end_is_remembered(make_shard, end):
    jobs = Jobs(make_shard(QueueOptions(max_messages=1, max_attempts=1, overflow="drop_oldest")))
    jobs.publish(b"a", ttl_ms=50)
    end(jobs)
    status = jobs.status()
    assert (status["state"], status.get("reason", ""), status.get("error", "")) == ENDS[end]
    assert status["tracked"]
    restarted = restart(jobs.driver)
    assert tracking.outcome_of(restarted.state, "q", 1) is not None


def restart(driver):
    fresh = Shard(2, lambda: 0.5)
    for record in driver.log:
        fresh.restore(record)
    fresh.restored(driver.now)
    return fresh


def test_what_is_dead_stays_so_for_those_who_ask_though_it_is_purged(jobs):
    jobs.publish(b"a")
    reject(jobs)
    jobs.driver.submit(commands.Purge, "q", ("dead",))
    status = jobs.status()
    assert (status["state"], status["error"]) == ("dead", "spam")


def test_a_redrive_takes_the_end_back(jobs):
    jobs.publish(b"a")
    reject(jobs)
    jobs.driver.submit(commands.Redrive, "q", ((1, 1),))
    assert tracking.outcome_of(jobs.driver.shard.state, "q", 1) is None
    assert jobs.status()["state"] == "leased"
    jobs.settle(ACK, (1, 1, 2), results=[b"at last"])
    assert jobs.ended() == ("settled", b"at last")


def test_a_redrive_to_another_queue_says_so(jobs):
    jobs.driver.submit(commands.Declare, "other", {})
    jobs.publish(b"a")
    reject(jobs)
    jobs.driver.submit(commands.Redrive, "q", ((1, 1),), "other")
    assert jobs.status()["state"] == "moved"
    (first,) = [batch.first for batch in jobs.driver.shard.state.names["other"].batches_since(0)]
    assert jobs.status(first, queue="other")["tracked"]


def test_an_end_is_forgotten_in_time(make_shard):
    jobs = Jobs(make_shard(QueueOptions(result_ttl_ms=2_000)))
    jobs.publish(b"a")
    purge(jobs)
    jobs.driver.wait(1_999)
    assert jobs.ended() == ("purged", b"")
    jobs.driver.wait(1)
    assert code_of(jobs.told()) == "not_found"


def test_a_day_is_the_default(jobs):
    jobs.publish(b"a")
    purge(jobs)
    jobs.driver.wait(DAY_MS - 1)
    assert jobs.ended() == ("purged", b"")


def test_messages_that_are_not_tracked_leave_nothing(jobs):
    jobs.driver.publish(b"a")
    jobs.driver.consume()
    jobs.settle(ACK, (1, 1, 1), results=[b"nobody will know"])
    assert code_of(jobs.told()) == "not_found"
    assert list(jobs.driver.shard.state.names) == ["q"]


def test_what_a_queue_in_memory_forgets_no_log_remembers(make_shard):
    jobs = Jobs(make_shard())
    jobs.driver.submit(commands.Declare, "q", {"durability": "memory"})
    jobs.publish(b"a")
    jobs.driver.consume()
    jobs.settle(ACK, (1, 1, 1), results=[b"ok"])
    assert jobs.ended() == ("settled", b"ok")
    assert {type(record).__name__ for record in jobs.driver.log} == {"Declared"}


def test_the_count_of_tracked_batches_is_right(jobs):
    queue = lambda: jobs.driver.shard.state.names["q"].tracked  # noqa: E731
    jobs.publish(b"a", b"b")
    jobs.driver.publish(b"c")
    assert queue() == 1
    assert restart(jobs.driver).state.names["q"].tracked == 1
    jobs.driver.submit(commands.Cancel, "q", ((1, 1),))
    assert queue() == 1
    jobs.driver.submit(commands.Cancel, "q", ((2, 1),))
    assert queue() == 0


def test_a_long_error_is_cut_and_the_line_stays_short(make_shard):
    jobs = Jobs(make_shard(QueueOptions(max_attempts=1)))
    jobs.publish(b"a")
    jobs.driver.consume()
    jobs.settle(NACK, (1, 1, 1), text="\x01" * 1024)
    status = jobs.driver.shard.state
    value = tracking.outcome_of(status, "q", 1)
    assert value.size <= tracking.HEAD_BYTES_MAX + 1
    assert tracking.read_outcome(value.data).status["error"] == "\x01" * tracking.ERROR_CHARACTERS


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"results": b"\0\0\0\x01", "block": b""}, "invalid"),
        ({"results": b"\0\0\0\x01" * 2, "block": b"ab"}, "invalid"),
        ({"results": b"\0\0\0", "block": b""}, "invalid"),
        ({"results": b"", "block": b"x"}, "invalid"),
        ({"results": struct.pack(">I", VALUE_BYTES_MAX + 1), "block": bytes(VALUE_BYTES_MAX + 1)}, "too_large"),
    ],
)
def test_results_that_cannot_be_are_refused(jobs, fields, code):
    jobs.publish(b"a")
    jobs.driver.consume()
    assert code_of(jobs.driver.settle(ACK, (1, 1, 1), **fields)) == code
    assert jobs.driver.counts() == (0, 0, 1, 0)


def test_only_an_ack_has_results(jobs):
    jobs.publish(b"a")
    jobs.driver.consume()
    assert code_of(jobs.settle(NACK, (1, 1, 1), results=[b"x"])) == "invalid"


def test_a_stale_settle_leaves_no_result(jobs):
    jobs.publish(b"a")
    jobs.driver.consume()
    jobs.settle(ACK, (1, 1, 7), results=[b"late"])
    assert jobs.status()["state"] == "leased"


def test_a_full_disk_refuses_results_and_takes_acks(jobs):
    jobs.publish(b"a")
    jobs.driver.consume()
    jobs.driver.shard.state.homes.room_bytes = 3
    refused = jobs.settle(ACK, (1, 1, 1), results=[b"four"])
    assert (code_of(refused), refused[0].bound) == ("busy", "disk")
    jobs.settle(ACK, (1, 1, 1))
    assert jobs.ended() == ("settled", b"")


def test_the_log_keeps_room_for_the_ends_of_what_it_holds(jobs):
    homes = jobs.driver.shard.state.homes
    homes.current = 1
    jobs.driver.publish(b"a")
    plain = homes.owed_bytes
    jobs.publish(b"a")
    tracked = homes.owed_bytes - plain
    jobs.driver.consume()
    jobs.settle(ACK, (1, 2, 1))
    ((name, outcome),) = [(each.name, each) for each in jobs.driver.shard.state.queues.values() if each.is_store]
    assert name == "$results.synced"
    assert outcome.bytes_held < tracked
    assert homes.owed_bytes == plain


# Commits.


def commit(jobs, settles, results=(), publishes=(), tracked=b""):
    lengths = struct.pack(f">{len(results)}I", *map(len, results))
    rows = tuple((name, struct.pack(">I", len(body)), 0, "", 0, 0, 0, "") for name, body in publishes)
    block = b"".join([*(body for _, body in publishes), *results])
    return jobs.driver.submit(commands.Commit, settles, rows, tracked=tracked, results=lengths, block=block)


def test_a_commit_settles_with_results_and_publishes_what_is_tracked(jobs):
    jobs.publish(b"a", b"b", b"c")
    jobs.driver.consume()
    settles = (("q", ACK, 1, ((1, 2, 1),), None, ""), ("q", REJECT, 1, ((3, 1, 1),), None, "spam"))
    said = commit(jobs, settles, [b"one", b"two", b""], [("next", b"x"), ("next", b"y")], b"\1\0")
    assert isinstance(said[0], replies.Committed)
    assert [jobs.ended(offset) for offset in (1, 2, 3)] == [("settled", b"one"), ("settled", b"two"), ("dead", b"")]
    first = said[0].publishes[0][0]
    assert [jobs.status(offset, queue="next")["tracked"] for offset in (first, first + 1)] == [True, False]


@pytest.mark.parametrize(
    ("verb", "results", "tracked", "code"),
    [
        (ACK, [b"x", b"y"], b"", "invalid"),
        (NACK, [b"x"], b"", "invalid"),
        (ACK, [bytes(VALUE_BYTES_MAX + 1)], b"", "too_large"),
        (ACK, [], b"\1\1", "invalid"),
    ],
)
def test_results_of_a_commit_that_cannot_be_are_refused(jobs, verb, results, tracked, code):
    jobs.publish(b"a")
    jobs.driver.consume()
    settles = (("q", verb, 1, ((1, 1, 1),), None, ""),)
    assert code_of(commit(jobs, settles, results, [("next", b"x")], tracked)) == code
    assert jobs.status()["state"] == "leased"


def test_a_full_disk_refuses_a_commit_with_results(jobs):
    jobs.publish(b"a")
    jobs.driver.consume()
    jobs.driver.shard.state.homes.room_bytes = 3
    settles = (("q", ACK, 1, ((1, 1, 1),), None, ""),)
    (refused,) = commit(jobs, settles, [b"four"])
    assert (refused.code, refused.bound) == ("busy", "disk")


# Who asks, and who waits.


def test_many_wait_for_one_end(jobs):
    other = jobs.driver.shard.attach(1 << 30)
    jobs.publish(b"a")
    assert jobs.told(wait_ms=1_000) == jobs.told(wait_ms=1_000, session=other) == []
    jobs.driver.consume()
    said = jobs.settle(ACK, (1, 1, 1), results=[b"ok"])
    assert [(each.status["state"], each.block) for each in said if isinstance(each, replies.Told)] == [
        ("settled", b"ok")
    ] * 2
    assert jobs.ended() == ("settled", b"ok")
    assert jobs.told(wait_ms=1_000)[0].block == b"ok"


def test_who_waits_for_too_long_is_told_how_it_stands(jobs):
    jobs.publish(b"a")
    assert jobs.told(wait_ms=50) == []
    (told,) = [each for each in jobs.driver.wait(50) if isinstance(each, replies.Told)]
    assert told.status["state"] == "ready"
    assert jobs.driver.shard.next_deadline_ms() is None


def test_a_dead_message_has_ended(jobs):
    jobs.publish(b"a")
    assert jobs.told(wait_ms=1_000) == []
    jobs.driver.consume()
    said = jobs.settle(REJECT, (1, 1, 1), text="spam")
    assert [each.status["state"] for each in said if isinstance(each, replies.Told)] == ["dead"]
    assert jobs.told(wait_ms=1_000)[0].status["state"] == "dead"


def test_nobody_waits_for_what_is_not_tracked(jobs):
    jobs.driver.publish(b"a")
    assert code_of(jobs.told(wait_ms=1)) == "invalid"
    assert jobs.status()["state"] == "ready"


@pytest.mark.parametrize(("queue", "offset"), [("q", 7), ("nowhere", 1)])
def test_an_unknown_message_is_not_found(jobs, queue, offset):
    jobs.publish(b"a")
    assert code_of(jobs.told(offset, queue=queue)) == "not_found"
    assert code_of(jobs.told(offset, 1_000, queue=queue)) == "not_found"


# Status and history.


def test_the_status_of_a_leased_message(jobs):
    worker = jobs.driver.shard.attach(1 << 30, name="worker-3")
    jobs.publish(b"a", b"b")
    jobs.driver.now += 5
    jobs.driver.submit(commands.Consume, 1, "q", 10, session=worker)
    jobs.settle(EXTEND, (1, 1, 1), progress=250, text="a quarter")
    status = jobs.status()
    assert {key: status[key] for key in ("state", "leased_by", "leased_at_ms", "progress", "note", "attempt")} == {
        "state": "leased",
        "leased_by": "worker-3",
        "leased_at_ms": 1005,
        "progress": 250,
        "note": "a quarter",
        "attempt": 1,
    }
    assert jobs.status(2)["progress"] is None
    jobs.settle(EXTEND, (1, 1, 1))
    assert jobs.status()["progress"] == 250
    jobs.settle(NACK, (1, 1, 1), duration_ms=0)
    assert jobs.status()["progress"] is None


def test_the_place_in_the_queue_and_when_it_comes_to_its_turn(jobs):
    for number in range(5):
        jobs.publish(b"x", priority=number == 4)
    assert [jobs.status(offset)["position"] for offset in range(1, 6)] == [1, 2, 3, 4, 0]
    assert jobs.status(1)["starts_in_ms"] is None
    for number in range(30):
        jobs.driver.publish(b"y", queue="q", priority=9)
        jobs.driver.consume(number + 1, credit=1)
        jobs.settle(ACK, (6 + number, 1, 1))
        jobs.driver.wait(100)
    status = jobs.status(4)
    assert status["position"] == 4
    assert status["starts_in_ms"] == pytest.approx(400, rel=0.2)


def test_a_history_tells_what_happened_with_times_and_names(make_shard):
    driver = make_shard()
    driver.session = driver.shard.attach(1 << 30, name="web")
    jobs = Jobs(driver)
    worker = driver.shard.attach(1 << 30, name="worker")
    jobs.publish(b"a")
    driver.now += 1
    driver.submit(commands.Consume, 1, "q", 10, session=worker)
    driver.now += 1
    jobs.settle(NACK, (1, 1, 1), duration_ms=0, text="boom")
    driver.now += 1
    jobs.settle(REJECT, (1, 1, 2), text="spam")
    driver.now += 1
    driver.submit(commands.Redrive, "q", ((1, 1),))
    driver.now += 1
    jobs.settle(ACK, (1, 1, 3))
    expected = [
        [1000, "published", "web", ""],
        [1001, "leased", "worker", ""],
        [1002, "failed", "worker", "boom"],
        [1002, "leased", "worker", ""],
        [1003, "dead", "worker", "spam"],
        [1004, "redriven", "", ""],
        [1004, "leased", "worker", ""],
        [1005, "settled", "worker", ""],
    ]
    assert jobs.status()["history"] == expected
    fresh = Shard(2, lambda: 0.5)
    for record in driver.log[:-2]:
        fresh.restore(record)
    fresh.restored(driver.now)
    (span,) = fresh.state.names["q"].spans()
    assert [event.what for event in span.history] == ["failed", "dead", "redriven"]


def test_a_history_keeps_the_newest(make_shard):
    jobs = Jobs(make_shard(QueueOptions(max_attempts=100)))
    jobs.publish(b"a")
    jobs.driver.consume()
    for attempt in range(1, 20):
        jobs.settle(NACK, (1, 1, attempt), duration_ms=0, text=f"no {attempt}")
    history = jobs.status()["history"]
    assert [event[1] for event in history[-2:]] == ["failed", "leased"]
    assert history[-2][3] == "no 19"
    assert len(history) == 9


def test_no_history_of_what_is_not_tracked(jobs):
    jobs.driver.publish(b"a")
    jobs.driver.consume()
    jobs.settle(NACK, (1, 1, 1), duration_ms=0)
    assert jobs.status()["history"] == ()


def test_publishes_of_one_turn_are_joined_only_when_both_are_tracked(jobs):
    shard, driver = jobs.driver.shard, jobs.driver
    plain = commands.Publish(1, "q", b"\0\0\0\x01", block=b"a")
    driver.publish(b"x")
    shard.submit_all(driver.session, [plain, plain, plain._replace(track=True), plain._replace(track=True)], driver.now)
    batches = list(shard.state.names["q"].batches_since(2))
    assert [(batch.block.count, batch.envelope.tracked) for batch in batches] == [(2, False), (2, True)]


# The results of many.


def results(jobs, *ranges, queue="q"):
    """[(result, the row that says why there is none)] of messages, over as many answers as it takes."""
    (reply,) = jobs.driver.submit(commands.ReadResults, queue, ranges)
    assert isinstance(reply, replies.Results), reply
    sizes = struct.unpack(f">{reply.answered}I", reply.lengths)
    rows = {place: row for place, *row in reply.unresulted}
    found, end = [], 0
    for place, size in enumerate(sizes):
        found.append((reply.block[end : end + size], rows.get(place)))
        end += size
    assert end == len(reply.block)
    return found


def test_results_come_in_the_order_of_the_request_with_why_there_is_none(jobs):
    jobs.publish(b"a", b"b", b"c", b"d", b"e")
    jobs.driver.consume(credit=4)
    jobs.settle(ACK, (1, 2, 1), results=[b"one", b"two"])
    jobs.settle(REJECT, (3, 1, 1), text="spam")
    jobs.driver.submit(commands.Cancel, "q", ((4, 1),))
    assert results(jobs, (3, 4), (1, 2)) == [
        (b"", ["dead", "rejected", "spam"]),
        (b"", ["cancelled", "", ""]),
        (b"", ["ready", "", ""]),
        (b"", ["", "", ""]),
        (b"one", None),
        (b"two", None),
    ]


def test_results_outlive_their_queue(jobs):
    jobs.publish(b"a", b"b")
    jobs.driver.consume()
    jobs.settle(ACK, (1, 1, 1), results=[b"one"])
    jobs.driver.submit(commands.Delete, "q")
    assert results(jobs, (1, 2)) == [(b"one", None), (b"", ["purged", "", ""])]


def test_an_answer_has_as_many_results_as_fit_and_at_least_one(jobs):
    half = VALUE_BYTES_MAX // 2
    jobs.publish(b"a", b"b", b"c")
    jobs.driver.consume()
    jobs.settle(ACK, (1, 3, 1), results=[b"x" * half, b"y" * (half - 8_192), b"z" * VALUE_BYTES_MAX])
    assert [len(result) for result, _ in results(jobs, (1, 3))] == [half, half - 8_192]
    assert [len(result) for result, _ in results(jobs, (3, 1))] == [VALUE_BYTES_MAX]


def test_a_header_of_results_is_never_too_long(make_shard):
    jobs = Jobs(make_shard(QueueOptions(max_attempts=1)))
    jobs.publish(*[b"a"] * 1_000)
    jobs.driver.consume()
    jobs.settle(REJECT, (1, 1_000, 1), text="x" * 1_024)
    (reply,) = jobs.driver.submit(commands.ReadResults, "q", ((1, 1_000),))
    assert 0 < reply.answered < 1_000
    assert len(codec.encode(reply)) < HEADER_BYTES_MAX
    jobs.publish(*[b"a"] * 10_000)
    (reply,) = jobs.driver.submit(commands.ReadResults, "q", ((1_001, 10_000),))
    assert len(codec.encode(reply)) < HEADER_BYTES_MAX


def test_a_message_stands_in_a_request_for_results_once(jobs):
    jobs.publish(b"a")
    assert code_of(jobs.driver.submit(commands.ReadResults, "q", ((1, 1), (1, 1)))) == "invalid"


# Many ends, each with an answer of its own.


def awaited(driver, offset, total, wait_ms=0, queue="q"):
    """What is said to who asks for the results of neighbours: (request, block or state or code) of each answer."""
    said = driver.submit(commands.Await, queue, offset, total, wait_ms)
    return [answer_of(each) for each in said if type(each) in {replies.Returned, replies.Told, replies.Error}]


def answer_of(say):
    if isinstance(say, replies.Returned):
        ((request, count),) = say.requests
        assert (count, len(say.block)) == (1, int.from_bytes(say.lengths, "big"))
        return request, say.block
    return say.request, say.status["state"] if isinstance(say, replies.Told) else say.code


def test_each_of_many_that_ended_is_told_on_its_own(jobs):
    jobs.publish(*[b"a"] * 3)
    jobs.driver.consume()
    jobs.settle(ACK, (1, 1, 1), results=[b"one"])
    jobs.settle(REJECT, (2, 1, 1))
    (first, one), (second, dead), (third, live), (fourth, unknown) = awaited(jobs.driver, 1, 4)
    assert (one, dead, live, unknown) == (b"one", "dead", "leased", "not_found")
    assert [second, third, fourth] == [first + 1, first + 2, first + 3]


def test_who_waits_for_many_hears_of_each_when_it_ends(jobs):
    jobs.publish(*[b"a"] * 3)
    jobs.driver.consume()
    assert awaited(jobs.driver, 1, 3, wait_ms=1_000) == []
    said = jobs.settle(ACK, (1, 2, 1), results=[b"one", b"two"])
    (returned,) = [each for each in said if isinstance(each, replies.Returned)]
    ((first, count),) = returned.requests
    assert (count, returned.lengths, returned.block) == (2, struct.pack(">2I", 3, 3), b"onetwo")
    (late,) = [each for each in jobs.driver.wait(1_000) if isinstance(each, replies.Told)]
    assert answer_of(late) == (first + 2, "leased")


def test_what_ends_in_the_last_moment_of_a_wait_is_told_as_any_other_end(jobs):
    """Between the settle and the dispatch that tells of it, the time of the wait is over."""
    jobs.publish(*[b"a"] * 3)
    jobs.driver.consume()
    assert awaited(jobs.driver, 1, 3, wait_ms=50) == []
    sizes = struct.pack(">I", 2)
    jobs.driver.hold(commands.Settle, "q", ACK, 1, ((2, 1, 1),), results=sizes, block=b"ok")
    told = [answer_of(each) for each in jobs.driver.wait(50) if isinstance(each, replies.Told | replies.Returned)]
    first = min(told)[0]
    assert dict(told) == {first: "leased", first + 1: b"ok", first + 2: "leased"}
    session = jobs.driver.shard._sessions[jobs.driver.session]
    assert (session.waits, session.awaited) == ({}, 0)


def outcomes_of(jobs):
    """The batches of outcomes: (key, how many, how many are left)."""
    store = jobs.driver.shard.state.names["$results.synced"]
    return [(each.envelope.key, each.block.count, sum(map(len, each.spans))) for each in store.batches_since(0)]


def test_neighbours_that_end_together_are_remembered_together(jobs):
    jobs.publish(*[b"a"] * 7)
    jobs.driver.consume(credit=6)
    jobs.settle(ACK, (1, 2, 1), (4, 2, 1), results=[b"one", b"", b"four", b"five"])
    jobs.settle(REJECT, (3, 1, 1))
    assert outcomes_of(jobs) == [("q/1", 2, 2), ("q/4", 2, 2), ("q/3", 1, 1)]
    assert [jobs.ended(offset)[1] for offset in (1, 2, 4, 5)] == [b"one", b"", b"four", b"five"]


def test_a_batch_of_outcomes_is_short(jobs):
    jobs.publish(*[b"a"] * 9)
    jobs.driver.consume()
    jobs.settle(ACK, (1, 9, 1), results=[b"x" * 30_000] * 9)
    assert [count for _, count, _ in outcomes_of(jobs)] == [2, 2, 2, 2, 1]
    assert all(jobs.ended(offset) == ("settled", b"x" * 30_000) for offset in range(1, 10))


def test_what_is_redriven_leaves_the_outcomes_of_its_neighbours(jobs):
    jobs.publish(*[b"a"] * 3)
    jobs.driver.consume()
    jobs.settle(REJECT, (1, 3, 1))
    jobs.driver.submit(commands.Redrive, "q", ((2, 1),))
    assert outcomes_of(jobs) == [("q/1", 3, 2)]
    moved = [rehomed(batch) for queue in jobs.driver.shard.state.queues.values() for batch in queue.batches_since(0)]
    fresh = Shard(2, lambda: 0.5)
    for record in (preamble(jobs.driver.shard.state), *moved):
        fresh.restore(record)
    remembered = [tracking.outcome_of(fresh.state, "q", offset) is not None for offset in (1, 2, 3)]
    assert remembered == [True, False, True]


def test_outcomes_give_back_all_the_memory_that_they_took(jobs):
    jobs.publish(*[b"a"] * 3)
    jobs.driver.consume()
    jobs.settle(REJECT, (1, 3, 1))
    jobs.driver.submit(commands.Redrive, "q", ((2, 1),))  # one in the middle: what is left is two spans
    jobs.driver.submit(commands.Delete, "q")
    jobs.driver.wait(DAY_MS)
    state = jobs.driver.shard.state
    assert list(state.names) == ["$results.synced"]
    assert state.memory.held_bytes == QUEUE_BYTES + TIMER_BYTES * state.timers.entries


def test_an_outcome_of_an_older_log_is_a_batch_of_one(jobs):
    jobs.publish(b"a", b"b")
    jobs.driver.consume()
    jobs.settle(ACK, (2, 1, 1), results=[b"two"])
    record = jobs.driver.log[-1]
    assert (record.envelope.key, record.block.count) == ("q/2", 1)
    head, _, result = record.block.data.partition(b"\n")
    assert (head.startswith(b'{"state":"settled"'), result) == (True, b"two")


def test_as_many_are_waited_for_as_there_is_room_for(jobs, monkeypatch):
    monkeypatch.setattr(watching, "WATCHES_MAX", 2)
    jobs.publish(*[b"a"] * 4)
    refused = awaited(jobs.driver, 1, 4, wait_ms=1_000)
    assert refused == [(jobs.driver.request + 2, "unavailable"), (jobs.driver.request + 3, "unavailable")]
    late = [answer_of(each) for each in jobs.driver.wait(1_000) if isinstance(each, replies.Told)]
    assert late == [(jobs.driver.request, "ready"), (jobs.driver.request + 1, "ready")]


def test_who_has_gone_waits_for_nothing(jobs):
    other = jobs.driver.shard.attach(1 << 30)
    jobs.publish(*[b"a"] * 3)
    jobs.driver.submit(commands.Await, "q", 1, 3, 1_000, session=other)
    assert jobs.driver.shard.next_deadline_ms() is not None
    jobs.driver.shard.detach(other, jobs.driver.now)
    store = jobs.driver.shard.state.names["$results.synced"]
    assert (store.waits, jobs.driver.shard.next_deadline_ms()) == ({}, None)


def test_to_wait_for_what_is_not_tracked_is_refused_for_each(make_shard):
    driver = make_shard()
    driver.publish(b"a", b"b")
    assert [code for _, code in awaited(driver, 1, 2, wait_ms=1_000)] == ["invalid", "invalid"]


@pytest.mark.parametrize(("number", "total"), [(1, 10_001), (0xFFFF_FFFF, 2)])
def test_no_more_are_awaited_than_have_numbers(jobs, number, total):
    jobs.driver.request = number - 1
    assert awaited(jobs.driver, 1, total) == [(number, "invalid")]
