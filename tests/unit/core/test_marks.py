"""What a delivery waits for: the commit without which its message could not be delivered as it is, and no later one."""

from __future__ import annotations

import pytest

from wherry.model import commands
from wherry.model.commands import Verb
from wherry_broker.core.options import QueueOptions

LENGTHS = bytes(4)


@pytest.fixture
def driver(make_shard):
    driver = make_shard(QueueOptions(retry_base_ms=0))
    driver.submit(commands.Declare, "q", {})
    return driver


def delivered(driver, rows):
    """What is delivered now, and what once the commit that is being gathered is durable."""
    driver.shard.dispatch(driver.now)
    now = rows(driver.said())
    return now, rows(driver.commit())


@pytest.mark.parametrize("settled", [False, True])
def test_a_message_does_not_wait_for_what_else_happens_to_its_queue(driver, rows, settled):
    driver.publish(b"a", b"b", b"c")
    driver.consume(credit=1)
    if settled:
        driver.hold(commands.Settle, "q", Verb.ACK, 1, ((1, 1, 1),))
    driver.hold(commands.Publish, "q", LENGTHS)
    driver.hold(commands.Credit, 1, 4)
    assert delivered(driver, rows) == ([(2, 2, 1)], [(4, 1, 1)])


def test_it_waits_while_the_commit_that_stores_it_is_on_its_way(driver, rows):
    driver.consume(credit=10)
    driver.hold(commands.Publish, "q", LENGTHS)
    batch = driver.shard.take_batch()
    driver.hold(commands.Publish, "q", LENGTHS)
    driver.shard.dispatch(driver.now)
    assert driver.said() == []
    driver.shard.committed(batch.mark)
    assert delivered(driver, rows) == ([(1, 1, 1)], [(2, 1, 1)])


@pytest.mark.parametrize("verb", [Verb.NACK, Verb.RELEASE])
def test_a_message_that_came_back_waits_for_the_record_of_that(driver, rows, verb):
    driver.publish(b"a")
    driver.publish(b"b")
    driver.consume(credit=1)
    driver.hold(commands.Settle, "q", verb, 1, ((1, 1, 1),))
    driver.hold(commands.Credit, 1, 3)
    assert delivered(driver, rows) == ([], [(1, 1, 2), (2, 1, 1)])


def test_what_follows_a_message_that_came_back_does_not_overtake_the_rest_of_its_batch(driver, rows):
    driver.publish(b"a", b"b")
    driver.publish(b"c")
    driver.consume(credit=1)
    driver.hold(commands.Settle, "q", Verb.NACK, 1, ((1, 1, 1),), 1_000)
    driver.hold(commands.Credit, 1, 3)
    assert delivered(driver, rows) == ([], [(2, 1, 1), (3, 1, 1)])


def test_no_consumer_gets_a_message_before_another_has_the_one_in_front_of_it(driver, rows):
    """A new consumer waits for what its number may have been told before, and so does what is delivered after it."""
    driver.publish(b"a")
    driver.publish(b"b")
    driver.consume(1, credit=0)
    driver.hold(commands.Publish, "other", LENGTHS)
    driver.hold(commands.Consume, 2, "q", 1)
    driver.hold(commands.Credit, 1, 1)
    assert delivered(driver, rows) == ([], [(1, 1, 1), (2, 1, 1)])


def test_a_dead_message_that_is_redriven_waits_for_that(driver, rows):
    driver.publish(b"a")
    driver.consume(credit=5)
    driver.settle(Verb.REJECT, (1, 1, 1))
    driver.hold(commands.Redrive, "q", ((1, 1),))
    now, then = delivered(driver, rows)
    assert (now, [row[:2] for row in then]) == ([], [(1, 1)])


def test_what_may_be_delivered_by_a_change_waits_for_it(driver, rows):
    driver.submit(commands.Alter, "q", {"paused": True})
    driver.publish(b"a")
    driver.consume(credit=5)
    driver.hold(commands.Alter, "q", {"paused": False})
    assert delivered(driver, rows) == ([], [(1, 1, 1)])


def test_in_order_by_key_the_next_one_waits_until_the_one_before_it_is_settled_for_good(driver, rows):
    """A crash would bring the first one back after the second one was delivered."""
    driver.submit(commands.Alter, "q", {"ordered": True})
    driver.publish(b"a", key="k")
    driver.publish(b"b", key="k")
    driver.consume(credit=5)
    driver.hold(commands.Settle, "q", Verb.ACK, 1, ((1, 1, 1),))
    assert delivered(driver, rows) == ([], [(2, 1, 1)])


def test_what_a_gate_lets_through_waits_for_what_it_has_counted(driver, rows):
    publishes = tuple((queue, LENGTHS, 0, "", 0, 0, 0, "") for queue in ("q", "work"))
    driver.submit(commands.Commit, (), publishes, gates=((0, "all", 1, False), (1, "all", 0, False)), block=b"")
    driver.consume(1, credit=5)
    driver.consume(2, queue="work", credit=5)
    driver.hold(commands.Settle, "work", Verb.ACK, 1, ((1, 1, 1),))
    assert delivered(driver, rows) == ([], [(1, 1, 1)])
