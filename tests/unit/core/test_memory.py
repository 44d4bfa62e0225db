"""The bound on what all that is stored takes: what is refused, what goes on, and what is told."""

from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry_broker.core import dedupe
from wherry_broker.core.bounds import COMMIT_PARTS
from wherry_broker.core.memory import BATCH_BYTES, QUEUE_BYTES, SPAN_BYTES, TIMER_BYTES, Memory, publish_bytes
from wherry_broker.core.producers import Producers
from wherry_broker.core.timers import Timers

SMALL = publish_bytes(100, 1, "", "")
BOUND = 64 * SMALL
RESERVE = BOUND // COMMIT_PARTS


def refusal(said):
    (error,) = said
    assert isinstance(error, replies.Error), error
    return error


@pytest.fixture
def full(make_shard):
    """A shard whose memory is full."""
    driver = make_shard(memory_bytes_max=BOUND)
    answer = driver.publish(bytes(100))[-1]
    while isinstance(answer, replies.Confirm):
        answer = driver.publish(bytes(100))[-1]
    assert (refusal([answer]).code, answer.bound) == ("busy", "memory")
    return driver


def held_bytes(driver):
    return driver.shard.state.memory.held_bytes


def test_a_publish_is_refused_before_the_bound_is_passed(full):
    assert BOUND - RESERVE - SMALL < held_bytes(full) <= BOUND - RESERVE
    assert full.info()["published"] == full.counts()[0] > 10


def test_deliveries_settles_and_admin_go_on(full):
    count = full.counts()[0]
    assert len(full.consume(credit=3)) == 3
    full.settle(Verb.ACK, (1, 1, 1))
    full.settle(Verb.REJECT, (2, 1, 1), text="no")
    full.settle(Verb.NACK, (3, 1, 1), text="later")
    assert full.counts() == (count - 3, 1, 0, 1)
    full.submit(commands.Alter, "q", {"max_attempts": 3})
    assert full.submit(commands.Redrive, "q", ((2, 1),))[-1].total == 1
    assert full.submit(commands.Cancel, "q", ((4, 1),))[-1].total == 1
    assert full.submit(commands.Peek, "q")[-1].lengths
    assert full.submit(commands.Purge, "q", ("ready", "delayed"))[-1].total == count - 2
    assert isinstance(full.publish(bytes(100))[-1], replies.Confirm)


def test_a_commit_that_settles_may_publish_while_others_may_not(full):
    full.consume(credit=1)
    row = ("next", (1).to_bytes(4, "big"), 0, "", 0, 0, 0, "")
    assert refusal(full.submit(commands.Declare, "next", {})).bound == "memory"
    full.submit(commands.Purge, "q", ("ready",))
    full.submit(commands.Declare, "next", {})
    while isinstance(full.publish(bytes(100))[-1], replies.Confirm):
        pass
    alone = full.submit(commands.Commit, (), (row,), block=b"x")
    assert refusal(alone).bound == "memory"
    both = full.submit(commands.Commit, (("q", Verb.ACK, 1, ((1, 1, 1),), None, ""),), (row,), block=b"x")
    assert isinstance(both[0], replies.Committed)
    assert full.counts("next") == (1, 0, 0, 0)


def test_a_message_for_several_queues_is_refused_as_a_whole(make_shard):
    driver = make_shard(memory_bytes_max=BOUND)
    for name in ("a", "b"):
        driver.submit(commands.Declare, name, {"bind": ["x"]})
    while isinstance(driver.publish(bytes(100), queue="a")[-1], replies.Confirm):
        pass
    error = refusal(driver.submit(commands.PublishTopic, "x", (1).to_bytes(4, "big"), block=b"x"))
    assert (error.bound, driver.counts("b")) == ("memory", (0, 0, 0, 0))


def test_all_queues_share_it(full):
    assert refusal(full.publish(b"x", queue="q", priority=3)).bound == "memory"
    assert refusal(full.submit(commands.Declare, "more", {})).bound == "memory"
    assert refusal(full.publish(b"x", queue="more")).bound == "memory"
    assert "more" not in full.shard.state.names
    assert refusal(full.submit(commands.Consume, 1, "more", 1)).bound == "memory"


def test_neighbours_that_would_be_joined_are_refused_each_for_itself(full):
    lengths = (100).to_bytes(4, "big")
    full.shard.submit_all(
        full.session, [commands.Publish(n, "q", lengths, block=bytes(100)) for n in (901, 902)], full.now
    )
    errors = full.commit()
    assert [(each.request, each.bound) for each in errors] == [(901, "memory"), (902, "memory")]


def test_what_could_never_fit_is_too_large(make_shard):
    driver = make_shard(memory_bytes_max=100_000)
    error = refusal(driver.publish(bytes(100_000)))
    assert (error.code, error.bound, error.retryable) == ("too_large", "memory", False)


def test_a_queue_that_drops_its_oldest_drops_none_for_the_memory_of_others(make_shard):
    driver = make_shard(memory_bytes_max=BOUND)
    driver.submit(commands.Declare, "ring", {"overflow": "drop_oldest", "max_messages": 5})
    for _ in range(7):
        driver.publish(bytes(100), queue="ring")
    assert driver.info("ring")["removed"] == {"dropped": 2}
    while isinstance(driver.publish(bytes(100), queue="other")[-1], replies.Confirm):
        pass
    assert refusal(driver.publish(bytes(100), queue="ring")).bound == "memory"
    assert (driver.counts("ring"), driver.info("ring")["removed"]) == ((5, 0, 0, 0), {"dropped": 2})


def test_it_says_when_to_come_back_by_what_is_freed_in_all_queues(full):
    count = full.counts()[0]
    assert refusal(full.publish(bytes(100))).retry_after_ms == 1_000
    full.consume(credit=count)
    for offset in range(1, count + 1):
        full.wait(100)
        full.settle(Verb.ACK, (offset, 1, 1))
        while isinstance(full.publish(bytes(100))[-1], replies.Confirm):
            pass
        full.submit(commands.Credit, 1, 10_000)
    hint_ms = refusal(full.publish(bytes(100))).retry_after_ms
    assert 20 < hint_ms <= 100  # what one message takes is freed every 100 ms, and less than that is missing


def test_a_queue_and_its_messages_give_everything_back(make_shard):
    driver = make_shard()
    for number in range(30):
        driver.publish(b"x" * 9, b"y", key=f"k{number}", dedupe=f"d{number}", ttl_ms=50 if number % 2 else 0)
    driver.submit(commands.Alter, "q", {"ordered": True, "key_rate_per_s": 0.5})
    driver.consume(credit=10)
    driver.settle(Verb.NACK, (1, 1, 1), text="x" * 40)
    driver.wait(60)
    assert held_bytes(driver) > QUEUE_BYTES + 15 * (BATCH_BYTES + SPAN_BYTES)
    driver.submit(commands.Delete, "q")
    assert held_bytes(driver) == TIMER_BYTES * driver.shard.state.timers.entries


def test_dedupe_keys_whose_window_has_passed_are_forgotten_when_memory_is_short(make_shard):
    driver = make_shard(memory_bytes_max=BOUND)
    driver.submit(commands.Declare, "q", {"dedupe_window_ms": 5_000})
    number = 0
    while isinstance(driver.publish(b"x", dedupe=f"a key of some length {number}")[-1], replies.Confirm):
        number += 1
    driver.submit(commands.Purge, "q", ("ready",))
    assert len(driver.shard.state.names["q"].dedupe) == number
    while isinstance(driver.publish(bytes(100), queue="other")[-1], replies.Confirm):
        pass
    driver.wait(5_000)
    assert len(driver.shard.state.names["q"].dedupe) == 0
    assert isinstance(driver.publish(bytes(100), queue="other")[-1], replies.Confirm)


def test_a_queue_remembers_a_bounded_number_of_dedupe_keys(make_shard, monkeypatch):
    monkeypatch.setattr(dedupe, "KEYS_MAX", 3)
    driver = make_shard()
    driver.submit(commands.Declare, "q", {"dedupe_window_ms": 10_000})
    for number in range(3):
        driver.publish(b"x", dedupe=f"k{number}")
        driver.wait(1_000)
    error = refusal(driver.publish(b"x", dedupe="more"))
    assert (error.code, error.bound, error.retry_after_ms) == ("busy", "dedupe_keys", 7_000)
    assert driver.publish(b"x", dedupe="k1")[-1].confirms[0][2] is True
    assert isinstance(driver.publish(b"x")[-1], replies.Confirm)
    driver.wait(7_000)
    assert isinstance(driver.publish(b"x", dedupe="more")[-1], replies.Confirm)


def test_what_is_moved_out_of_memory_counts_as_neither_freed_nor_taken():
    memory = Memory(Timers(), Producers(), 1_000)
    memory.take(950)
    memory.observe(0)
    memory.shift(-40)
    memory.observe(1_000)
    assert (memory.held_bytes, memory.freed_per_second) == (910, 0.0)
    for now_ms in (2_000, 3_000):
        memory.free(10)
        memory.observe(now_ms)
    assert memory.held_bytes == 890
    assert memory.freed_per_second == pytest.approx(20, rel=0.1)
