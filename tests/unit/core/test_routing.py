from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry_broker.core import routing
from wherry_broker.core.batch import Envelope
from wherry_broker.core.effects import Delivery
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.records import Published, Routed
from wherry_broker.core.shard import Shard


@pytest.fixture
def driver(make_shard):
    """A shard with the queues `eu` and `all`, which take orders, and `other`, which takes none."""
    driver = make_shard()
    driver.submit(commands.Declare, "eu", {"bind": ["orders.eu.*"]})
    driver.submit(commands.Declare, "all", {"bind": ["orders.>"]})
    driver.submit(commands.Declare, "other", {})
    return driver


def publish(driver, *bodies, subject="orders.eu.created", **more):
    lengths = b"".join(len(body).to_bytes(4, "big") for body in bodies)
    return driver.submit(commands.PublishTopic, subject, lengths, block=b"".join(bodies), **more)


def ready(driver, *names):
    return [driver.info(name)["ready"] for name in names or ("eu", "all", "other")]


def bodies_of(driver, queue):
    (peeked,) = driver.submit(commands.Peek, queue, "")
    return peeked.block


def test_every_bound_queue_takes_it_and_the_log_has_it_once(driver):
    log = len(driver.log)
    (said,) = publish(driver, b"one", b"two")
    assert said == replies.Routed(driver.request, 2, "synced", False)
    assert ready(driver) == [2, 2, 0]
    assert bodies_of(driver, "eu") == bodies_of(driver, "all") == b"onetwo"
    (record,) = driver.log[log:]
    assert isinstance(record, Routed)
    assert record.subject == "orders.eu.created"
    eu, everything = (driver.shard.state.names[name].batch_at(1).block for name in ("eu", "all"))
    assert eu is not everything
    assert eu.data is everything.data is record.block.data


def test_a_subject_that_nobody_takes_is_an_error_unless_that_is_allowed(driver):
    (said,) = publish(driver, b"x", subject="orders")
    assert (said.code, said.retryable) == ("unroutable", False)
    assert "'orders'" in said.text
    assert publish(driver, b"x", subject="orders", allow_unroutable=True) == [replies.Routed(driver.request, 0)]
    assert ready(driver) == [0, 0, 0]


def test_bindings_change_while_it_runs(driver):
    driver.submit(commands.Alter, "other", {"bind": ["orders.eu.created", "orders.*.created"]})
    driver.submit(commands.Alter, "eu", {"bind": []})
    driver.submit(commands.Delete, "all")
    assert publish(driver, b"x")[0].queues == 1
    assert ready(driver, "eu", "other") == [0, 1]


def test_one_queue_that_is_full_refuses_it_for_all_and_is_named(driver):
    driver.submit(commands.Alter, "eu", {"max_messages": 3})
    publish(driver, b"1", b"2")
    log = len(driver.log)
    (said,) = publish(driver, b"3", b"4")
    assert (said.code, said.queue, said.bound, said.accepted) == ("busy", "eu", "max_messages", 0)
    assert said.retry_after_ms > 0
    assert ready(driver) == [2, 2, 0]
    assert len(driver.log) == log
    assert publish(driver, b"3")[0].queues == 2
    (said,) = publish(driver, *[b"x"] * 4)
    assert (said.code, said.queue) == ("too_large", "eu")


def test_nothing_is_dropped_for_what_another_queue_refuses(driver):
    driver.submit(commands.Alter, "all", {"max_messages": 2, "overflow": "drop_oldest"})
    driver.submit(commands.Alter, "eu", {"max_messages": 3})
    publish(driver, b"1", b"2")
    assert publish(driver, b"3", b"4")[0].code == "busy"
    assert bodies_of(driver, "all") == b"12"
    assert publish(driver, b"3")[0].queues == 2
    assert (bodies_of(driver, "eu"), bodies_of(driver, "all")) == (b"123", b"23")


def test_each_queue_says_what_the_publish_leaves_open(driver):
    driver.submit(commands.Alter, "eu", {"ttl_ms": 100, "priorities": 3})
    publish(driver, b"x", ttl_ms=500, priority=7, key="k")
    eu, everything = (driver.shard.state.names[name].batch_at(1).envelope for name in ("eu", "all"))
    assert (eu.expires_at_ms, eu.priority, eu.key) == (driver.now + 100, 2, "k")
    assert (everything.expires_at_ms, everything.priority, everything.key) == (driver.now + 500, 7, "k")
    driver.wait(100)
    assert ready(driver) == [0, 1, 0]


def test_a_time_to_live_of_one_queue_that_ends_before_the_delay_refuses_it_for_all(driver):
    driver.submit(commands.Alter, "eu", {"ttl_ms": 100})
    (said,) = publish(driver, b"x", delay_ms=100)
    assert (said.code, said.queue) == ("invalid", "eu")
    assert driver.counts("all") == (0, 0, 0, 0)
    assert publish(driver, b"x", delay_ms=99)[0].queues == 2
    assert driver.counts("all") == (0, 1, 0, 0)
    driver.wait(99)
    assert ready(driver) == [1, 1, 0]


def test_a_dedupe_key_lets_each_queue_store_it_once(driver):
    assert publish(driver, b"x", dedupe="k") == [replies.Routed(driver.request, 2, "synced", False)]
    driver.submit(commands.Alter, "other", {"bind": ["orders.>"]})
    assert publish(driver, b"x", dedupe="k") == [replies.Routed(driver.request, 3, "synced", False)]
    assert ready(driver) == [1, 1, 1]
    assert publish(driver, b"x", dedupe="k") == [replies.Routed(driver.request, 3, "synced", True)]
    assert ready(driver) == [1, 1, 1]


def test_a_queue_in_memory_takes_it_too_and_is_in_no_log(driver):
    driver.submit(commands.Declare, "memory", {"durability": "memory", "bind": ["orders.>"]})
    log = len(driver.log)
    assert publish(driver, b"x") == [replies.Routed(driver.request, 3, "memory", False)]
    (record,) = driver.log[log:]
    assert [target.queue for target in record.targets] == [1, 2]
    fresh = Shard(1, lambda: 0.5, QueueOptions(durability="synced"))
    for each in driver.log:
        fresh.restore(each)
    fresh.restored(driver.now)
    assert [fresh.state.names[name].messages_held for name in ("eu", "all", "memory")] == [1, 1, 0]


def test_it_is_confirmed_when_it_is_durable_and_delivered_to_all(driver):
    for number, name in enumerate(("eu", "all"), 1):
        driver.consume(number, name)
    driver.hold(commands.PublishTopic, "orders.eu.created", b"\0\0\0\1", block=b"x")
    driver.shard.dispatch(driver.now)
    assert driver.said() == []
    said = driver.commit()
    assert [each.data for each in said if isinstance(each, Delivery)] == [b"x", b"x"]
    assert replies.Routed(driver.request, 2, "synced") in said


def test_the_place_of_the_block_is_told_to_every_queue(driver):
    driver.hold(commands.PublishTopic, "orders.eu.created", b"\0\0\0\1", block=b"x")
    commit = driver.shard.take_batch()
    (record,) = commit.records
    record.block.checksum = 7
    driver.shard.committed(commit.mark, [(record.block, (3, 44))])
    blocks = [driver.shard.state.names[name].batch_at(1).block for name in ("eu", "all")]
    assert [(block.place, block.checksum) for block in blocks] == [((3, 44), 7)] * 2
    assert not driver.shard.ledger._twins


def test_lengths_that_do_not_add_up_are_refused(driver):
    (said,) = driver.submit(commands.PublishTopic, "orders.eu.created", b"\0\0\0\2", block=b"x")
    assert said.code == "invalid"


def test_too_many_queues_are_refused(driver, monkeypatch):
    monkeypatch.setattr(routing, "TARGETS_MAX", 1)
    (said,) = publish(driver, b"x")
    assert (said.code, said.bound) == ("too_large", "bind")


def test_a_full_disk_refuses_it(driver):
    homes = driver.shard.state.homes
    homes.room_bytes = 1_000_000
    (said,) = publish(driver, b"x" * 999_000)
    assert (said.code, said.bound) == ("busy", "disk")
    assert publish(driver, b"x" * 900_000)[0].queues == 2
    assert homes.room_bytes < 100_000


def test_to_each_queue_it_is_a_publish(block_of):
    targets = (routing.Target(1, 5, 0, 2), routing.Target(2, 9, 70, 0))
    block = block_of(b"one")
    one, two = Routed("s", 10, "k", 20, "d", targets, block).parts()
    assert one == Published(1, 5, Envelope(10, 0, 2, "k"), 20, "d", one.block)
    assert two == Published(2, 9, Envelope(10, 70, 0, "k"), 20, "d", two.block)
    assert len({id(each) for each in (block, one.block, two.block)}) == 3
    assert one.block.data is two.block.data is block.data


def test_draining_refuses_it(driver):
    driver.shard.drain("going", driver.now)
    assert publish(driver, b"x")[0].code == "draining"


def test_one_that_is_sent_again_under_its_sequence_is_stored_once(driver, make_shard):
    driver.session = driver.shard.attach(1 << 30, "producer")
    assert publish(driver, b"x", sequence=1) == [replies.Routed(driver.request, 2, "synced", False)]
    driver.submit(commands.Alter, "other", {"bind": ["orders.>"]})
    driver.submit(commands.Delete, "eu")
    assert publish(driver, b"x", sequence=1) == [replies.Routed(driver.request, 2, "synced", True)]
    fresh = make_shard()
    for record in driver.log:
        fresh.shard.restore(record)
    fresh.shard.restored(fresh.now)
    fresh.session = fresh.shard.attach(1 << 30, "producer")
    assert publish(fresh, b"x", sequence=1) == [replies.Routed(fresh.request, 2, "synced", True)]
    assert publish(fresh, b"x", sequence=2) == [replies.Routed(fresh.request, 2, "synced", False)]
    assert ready(fresh, "all", "other") == [2, 1]


def test_sent_again_with_a_dedupe_key_it_is_a_duplicate_if_it_was_one(driver):
    driver.session = driver.shard.attach(1 << 30, "producer")
    answers = [publish(driver, b"x", sequence=sequence, dedupe="k")[0].duplicate for sequence in (1, 2, 1, 2)]
    assert answers == [False, True, False, True]
    assert ready(driver) == [1, 1, 0]


def test_what_queues_share_is_in_memory_once(driver):
    memory, homes, before = driver.shard.state.memory, driver.shard.state.homes, driver.shard.state.memory.held_bytes
    homes.current = 1
    driver.publish(b"x" * 100_000, queue="other")
    alone = memory.held_bytes - before
    publish(driver, b"x" * 100_000)
    assert memory.held_bytes - before < 2 * alone + 10_000
    assert homes.resident_bytes == 200_000
    driver.submit(commands.Purge, "eu", ("ready",))
    assert homes.resident_bytes == 200_000
    driver.submit(commands.Purge, "all", ("ready",))
    assert homes.resident_bytes == 100_000
    driver.submit(commands.Purge, "other", ("ready",))
    assert (homes.resident_bytes, memory.held_bytes) == (0, before)


def test_a_part_of_what_queues_share_is_let_go_by_the_last_of_them_only(driver):
    publish(driver, *[b"x" * 1_000] * 10)
    held = driver.shard.state.memory.held_bytes
    for name in ("eu", "all"):
        driver.submit(commands.Cancel, name, ((1, 6),))
    eu, everything = (driver.shard.state.names[name].batch_at(7).block for name in ("eu", "all"))
    assert eu.data is everything.data
    assert driver.shard.state.memory.held_bytes == held
    driver.submit(commands.Purge, "eu", ("ready",))
    driver.submit(commands.Cancel, "all", ((7, 1),))
    assert driver.shard.state.names["all"].batch_at(8).block.size == 3_000
    assert driver.shard.state.memory.held_bytes < held - 7_000
