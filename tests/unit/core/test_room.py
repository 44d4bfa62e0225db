"""A log that has little room left: what is refused, what is not, and what the cleaning may still write."""

from __future__ import annotations

from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry_broker.core import bounds
from wherry_broker.core.homes import SETTLE_BYTES
from wherry_broker.core.records import Rehomed


def refusals(said):
    return [(each.code, each.bound) for each in said if isinstance(each, replies.Error)]


def test_a_full_disk_refuses_what_fills_it(make_shard, block_of):
    driver = make_shard()
    homes = driver.shard.state.homes
    driver.publish(b"one")
    driver.consume()
    homes.room_bytes = 0
    assert refusals(driver.publish(b"two")) == [("busy", "disk")]
    assert refusals(driver.submit(commands.Declare, "other", {})) == [("busy", "disk")]
    assert refusals(driver.submit(commands.Declare, "q", {})) == []
    assert refusals(driver.settle(Verb.ACK, (1, 1, 1))) == []
    homes.room_bytes = 10_000
    assert refusals(driver.publish(b"two")) == []
    assert homes.room_bytes == 10_000 - bounds.log_cost(block_of(b"two"))


def test_what_settles_will_need_is_known(make_shard):
    driver = make_shard()
    homes = driver.shard.state.homes
    homes.current = 1
    driver.publish(b"one", b"two")
    driver.publish(b"three")
    driver.consume()
    assert homes.owed_bytes == 3 * SETTLE_BYTES
    driver.settle(Verb.ACK, (1, 2, 1))
    assert homes.owed_bytes == SETTLE_BYTES
    driver.hold(commands.Declare, "other", {})
    assert driver.shard.take_batch().owed_bytes == SETTLE_BYTES


def garbage(make_shard):
    """One message of 5,000 bytes in a segment that is otherwise settled, and one in the next."""
    driver = make_shard()
    driver.shard.ledger.open(1, 1, driver.now)
    driver.publish(bytes(5_000))
    driver.hold(commands.Declare, "other", {})
    driver.shard.committed(driver.shard.take_batch(roll=True).mark)
    driver.publish(bytes(5_000))
    return driver


def moved(driver):
    batch = driver.shard.take_batch(log_bytes=20_000, slack_bytes=1_000)
    return [type(record) for record in batch.records] if batch else []


def test_a_disk_that_gets_full_is_cleaned_sooner(make_shard):
    driver = garbage(make_shard)
    homes = driver.shard.state.homes
    assert moved(driver) == []
    homes.reserve_bytes, homes.room_bytes = 10_000, 9_000
    assert moved(driver) == [Rehomed]


def test_cleaning_does_not_fill_the_disk(make_shard):
    driver = garbage(make_shard)
    homes = driver.shard.state.homes
    homes.reserve_bytes, homes.room_bytes = 10_000, -1
    assert moved(driver) == []
    homes.room_bytes = 0
    assert moved(driver) == [Rehomed]
