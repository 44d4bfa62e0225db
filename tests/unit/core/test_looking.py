"""What LISTQUEUES says of the broker, and INFO of the consumers of a queue."""

from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry_broker.core import view


@pytest.fixture
def driver(make_shard):
    return make_shard()


def listed(driver):
    (told,) = driver.submit(commands.ListQueues, "q")
    return told


def test_a_list_of_queues_says_how_the_broker_is(driver):
    before = listed(driver)
    assert before == replies.Queues(1, (), False, before.memory_bytes, 0, 1, "synced")
    driver.publish(b"x" * 1000)
    driver.shard.attach(1000)
    driver.shard.ledger.state.memory.bytes_max = 5000
    after = listed(driver)
    assert after.memory_bytes >= before.memory_bytes + 1000
    assert (after.memory_bytes_max, after.clients) == (5000, 2)


def test_an_info_tells_of_the_first_consumers(driver, monkeypatch):
    monkeypatch.setattr(view, "ATTACHED_MAX", 2)
    driver.publish(*([b"x"] * 6))
    other = driver.shard.attach(1000, name="worker/1")
    driver.submit(commands.Consume, 7, "q", 2, session=other)
    driver.consume(1, credit=5)
    driver.consume(2, credit=3)
    info = driver.info()
    assert (info["attached"], info["consumers"]) == ((("worker/1", 2, 0), ("", 4, 1)), 3)


def test_consumers_that_hold_very_many_spans_are_left_out(driver, monkeypatch):
    monkeypatch.setattr(view, "LOOK_SPANS_MAX", 2)
    for priority in range(5):
        driver.publish(b"x", priority=priority)
    for number in (1, 2, 3):
        driver.consume(number, credit=2)
    info = driver.info()
    assert (info["attached"], info["consumers"]) == ((("", 2, 0),), 3)
