"""Publishes that are sent again under the sequence of their producer."""

from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry_broker.core import producers
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.records import Published, Sequenced
from wherry_broker.core.shard import Shard

PRODUCER = "4f2a"


@pytest.fixture(name="driver")
def _driver(make_shard):
    driver = make_shard()
    again(driver)
    return driver


def again(driver, producer=PRODUCER):
    """The client connects anew."""
    driver.session = driver.shard.attach(1 << 30, producer)


def restarted(driver, make_shard):
    """The broker starts again from its log, and the client connects anew."""
    fresh = make_shard()
    fresh.now, fresh.request = driver.now, driver.request
    for record in driver.log:
        fresh.shard.restore(record)
    fresh.shard.restored(fresh.now)
    again(fresh)
    return fresh


def row(driver, first, duplicate):
    return [replies.Confirm("synced", ((driver.request, first, duplicate),))]


def test_a_publish_that_is_sent_again_is_stored_once(driver):
    assert driver.publish(b"a", b"b", sequence=1) == row(driver, 1, False)
    again(driver)
    assert driver.publish(b"a", b"b", sequence=1) == row(driver, 1, True)
    assert driver.publish(b"c", sequence=2) == row(driver, 3, False)
    assert driver.counts() == (3, 0, 0, 0)


def test_it_is_known_after_a_restart(driver, make_shard):
    driver.publish(b"a", sequence=1)
    driver.publish(b"b", sequence=2)
    driver = restarted(driver, make_shard)
    assert driver.publish(b"a", sequence=1) == row(driver, 1, True)
    assert driver.publish(b"b", sequence=2) == row(driver, 2, True)
    assert driver.counts() == (2, 0, 0, 0)


def test_the_answer_waits_for_the_record_of_what_it_tells_of(driver):
    driver.hold(commands.Publish, "q", b"\0\0\0\1", sequence=1, block=b"a")
    driver.hold(commands.Publish, "q", b"\0\0\0\1", sequence=1, block=b"a")
    assert driver.said() == []
    assert driver.commit() == [
        replies.Confirm("synced", ((1, 1, False),)),
        replies.Confirm("synced", ((2, 1, True),)),
    ]


def test_both_facts_are_in_one_commit(driver):
    driver.hold(commands.Publish, "q", b"\0\0\0\1", sequence=1, block=b"a")
    kinds = [type(each) for each in driver.shard.take_batch().records]
    assert kinds[-2:] == [Published, Sequenced]


def test_a_publish_without_a_sequence_has_no_fact(driver):
    driver.publish(b"a")
    assert not any(isinstance(each, Sequenced) for each in driver.log)
    assert len(driver.shard.state.producers) == 0


def test_what_was_stored_in_part_is_answered_so(driver):
    driver.submit(commands.Declare, "q", {"max_messages": 2})
    (first,) = driver.publish(b"a", b"b", b"c", sequence=1, divisible=True)
    (second,) = driver.publish(b"a", b"b", b"c", sequence=1, divisible=True)
    for busy in (first, second):
        assert (busy.code, busy.first, busy.accepted, busy.durability, busy.retryable) == ("busy", 1, 2, "synced", True)
    assert driver.counts() == (2, 0, 0, 0)


def test_what_was_refused_is_not_known(driver):
    driver.submit(commands.Declare, "q", {"max_messages": 1})
    driver.publish(b"a", sequence=1)
    (busy,) = driver.publish(b"b", sequence=2)
    assert busy.code == "busy"
    driver.submit(commands.Purge, "q", ("ready",))
    assert driver.publish(b"b", sequence=2) == row(driver, 2, False)


def test_of_a_key_the_first_answer_counts(driver):
    assert driver.publish(b"a", dedupe="k", sequence=1) == row(driver, 1, False)
    assert driver.publish(b"b", dedupe="k", sequence=2) == row(driver, 1, True)
    driver.wait(QueueOptions().dedupe_window_ms)
    assert driver.publish(b"a", dedupe="k", sequence=1) == row(driver, 1, False)
    assert driver.publish(b"b", dedupe="k", sequence=2) == row(driver, 1, True)
    assert driver.counts() == (1, 0, 0, 0)


def test_answered_sequences_are_forgotten(driver):
    for sequence in range(1, 6):
        driver.publish(b"a", sequence=sequence, answered=sequence - 1)
    assert driver.shard.state.producers.rows == 1
    (refused,) = driver.publish(b"a", sequence=3)
    assert (refused.code, refused.text) == (
        "invalid",
        "sequence 3 was answered: the client has said so of all up to 4",
    )
    assert driver.counts() == (5, 0, 0, 0)


def test_a_producer_with_nothing_to_remember_is_none(driver):
    driver.publish(b"a", sequence=1, answered=1)
    assert len(driver.shard.state.producers) == driver.shard.state.producers.rows == 0


def test_a_sequence_needs_a_producer(driver):
    again(driver, "")
    (refused,) = driver.publish(b"a", sequence=1)
    assert (refused.code, refused.text) == ("invalid", "sequence 1 needs a producer, and HELLO named none")


def test_producers_do_not_know_each_other(driver):
    driver.publish(b"a", sequence=1)
    again(driver, "another")
    assert driver.publish(b"a", sequence=1) == row(driver, 2, False)


def test_it_is_answered_though_the_queue_is_gone(driver):
    driver.publish(b"a", sequence=1)
    driver.submit(commands.Delete, "q")
    assert driver.publish(b"a", sequence=1) == [replies.Confirm("memory", ((driver.request, 1, True),))]
    assert not driver.shard.state.names


def test_it_is_answered_while_the_broker_shuts_down(driver):
    driver.publish(b"a", sequence=1)
    driver.shard.drain("bye", driver.now)
    assert driver.publish(b"a", sequence=1) == row(driver, 1, True)
    (refused,) = driver.publish(b"b", sequence=2)
    assert refused.code == "draining"


def test_one_that_is_not_heard_of_is_forgotten(driver, make_shard):
    driver.publish(b"a", sequence=1)
    driver.wait(producers.WINDOW_MS - 1)
    assert driver.publish(b"a", sequence=1) == row(driver, 1, True)
    driver.wait(1)
    again(driver, "another")
    driver.publish(b"b", sequence=1)
    assert len(driver.shard.state.producers) == 1
    driver = restarted(driver, make_shard)
    assert driver.publish(b"a", sequence=1) == row(driver, 3, False)


def test_what_is_in_memory_is_known_and_in_no_log(driver, make_shard):
    driver.submit(commands.Declare, "q", {"durability": "memory"})
    driver.publish(b"a", sequence=1)
    assert driver.publish(b"a", sequence=1) == [replies.Confirm("memory", ((driver.request, 1, True),))]
    assert not any(isinstance(each, Sequenced) for each in driver.log)
    assert driver.shard.take_batch(roll=True) is None or not driver.log[-1:]
    assert restarted(driver, make_shard).publish(b"a", sequence=1)[0].confirms[0][2] is False


def test_a_new_segment_restates_producers(driver, make_shard):
    driver.publish(b"a", sequence=1)
    driver.publish(b"b", dedupe="k", sequence=2)
    driver.submit(commands.Declare, "memory", {"durability": "memory"})
    driver.publish(b"c", queue="memory", sequence=3)
    driver.hold(commands.Declare, "more", {})
    commit = driver.shard.take_batch(roll=True)
    assert commit.preamble.producers == ((PRODUCER, 0, driver.now, ((1, 1, 1, 1), (2, 1, 2, 1))),)
    fresh = Shard(2, lambda: 0.5)
    fresh.restore(commit.preamble)
    fresh.restored(driver.now)
    assert list(fresh.state.producers.standing(lambda _: True)) == list(commit.preamble.producers)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ("SEQUENCES_MAX", "2 publishes that this producer has not answered are remembered, and 2 is the limit"),
        ("ROWS_MAX", "2 publishes of all producers are remembered, and 2 is the limit"),
    ],
)
def test_there_is_a_limit_to_what_is_remembered(driver, monkeypatch, limit, text):
    monkeypatch.setattr(producers, limit, 2)
    for sequence in (1, 2):
        driver.publish(b"a", sequence=sequence)
    (refused,) = driver.publish(b"a", sequence=3)
    assert (refused.code, refused.text, refused.retryable) == ("unavailable", text, True)
    assert driver.publish(b"a", sequence=1) == row(driver, 1, True)
    assert driver.counts() == (2, 0, 0, 0)


def test_there_is_a_limit_to_producers(driver, monkeypatch):
    monkeypatch.setattr(producers, "PRODUCERS_MAX", 1)
    driver.publish(b"a", sequence=1)
    again(driver, "another")
    (refused,) = driver.publish(b"a", sequence=1)
    assert (refused.code, refused.text) == ("unavailable", "1 producers are remembered, and 1 is the limit")
    driver.wait(producers.WINDOW_MS)
    assert driver.publish(b"a", sequence=1) == row(driver, 2, False)


def publishes(driver, *sequences, answered=0):
    """Single publishes that came together."""
    driver.request += len(sequences)
    given = [
        commands.Publish(number, "q", b"\0\0\0\1", sequence=sequence, answered=answered, block=b"x")
        for number, sequence in enumerate(sequences, driver.request - len(sequences) + 1)
    ]
    assert driver.shard.submit_all(driver.session, given, driver.now) == len(given)
    said = driver.commit()
    return [(first, duplicate) for each in said for _, first, duplicate in each.confirms]


def test_joined_publishes_are_known_one_by_one(driver, make_shard):
    driver.submit(commands.Declare, "q", {})
    assert publishes(driver, 1, 2, 3) == [(1, False), (2, False), (3, False)]
    assert [type(each) for each in driver.log[1:]] == [Published, Sequenced]
    assert publishes(driver, 2, 3, 4) == [(2, True), (3, True), (4, False)]
    driver = restarted(driver, make_shard)
    assert publishes(driver, 1, 4, 5, 6, answered=3) == [(1, True), (4, True), (5, False), (6, False)]
    assert driver.counts() == (6, 0, 0, 0)


def test_one_that_comes_twice_among_its_neighbours_is_stored_once(driver):
    driver.submit(commands.Declare, "q", {})
    assert publishes(driver, 1, 2, 2, 1) == [(1, False), (2, False), (2, True), (1, True)]


def test_those_with_and_without_a_sequence_are_not_joined(driver):
    driver.submit(commands.Declare, "q", {})
    assert publishes(driver, 1, 0, 0, 2) == [(1, False), (2, False), (3, False), (4, False)]
    assert driver.shard.state.producers.rows == 2
