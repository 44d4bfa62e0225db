from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry.model.fields import VALUE_BYTES_MAX
from wherry_broker.core import pager, storing, watching
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard

YEAR_MS = 365 * 86_400_000


class Stores:
    """A shard's stores, with shorthand."""

    def __init__(self, driver):
        self.driver = driver

    def ask(self, kind, *fields, store="s", **more):
        (reply,) = self.driver.submit(kind, store, *fields, **more)
        return reply

    def put(self, key, value, **more):
        return self.ask(commands.Put, key, block=value, **more)

    def get(self, *keys):
        reply = self.ask(commands.Fetch, keys)
        assert reply.answered == len(keys)
        return values_of(reply)

    def count(self, key, by=1, **more):
        return self.ask(commands.Increment, key, by, **more)

    def declare(self, **options):
        return self.ask(commands.Declare, {"kind": "store", **options})

    def watch(self, key="k", after=0, wait_ms=100, **more):
        return self.driver.submit(commands.Watch, "s", key, after, wait_ms, **more)


def values_of(reply):
    """Position of the key to (version, value)."""
    sizes = [int.from_bytes(reply.lengths[at : at + 4], "big") for at in range(0, len(reply.lengths), 4)]
    result, start = {}, 0
    for (position, version, _), size in zip(reply.values, sizes, strict=True):
        result[position] = (version, reply.block[start : start + size])
        start += size
    assert start == len(reply.block)
    return result


@pytest.fixture
def stores(make_shard):
    return Stores(make_shard())


def code_of(reply):
    assert isinstance(reply, replies.Error), reply
    return reply.code


# Values.


def test_a_value_takes_the_place_of_the_one_before(stores):
    assert stores.put("k", b"one") == replies.Done(1, 1)
    assert stores.put("l", b"") == replies.Done(2, 2)
    assert stores.put("k", b"two") == replies.Done(3, 3)
    assert stores.get("k", "nothing", "l") == {0: (3, b"two"), 2: (2, b"")}
    info = stores.driver.info("s")
    assert (info["ready"], info["bytes"], info["removed"]) == (2, 3, {"replaced": 1})


def test_a_put_is_one_record(stores):
    stores.put("k", b"one")
    before = len(stores.driver.log)
    stores.put("k", b"two")
    assert len(stores.driver.log) == before + 1


def test_a_key_that_is_asked_for_twice_is_told_twice(stores):
    stores.put("k", b"one")
    assert stores.get("k", "k") == {0: (1, b"one"), 1: (1, b"one")}


def test_values_are_unset(stores):
    for key in "abc":
        stores.put(key, b"x")
    assert stores.ask(commands.Unset, ("c", "a", "a", "nothing")).total == 2
    assert stores.get("a", "b", "c") == {1: (2, b"x")}
    assert stores.ask(commands.Unset, ("a",)).total == 0


def test_a_put_may_ask_for_a_version(stores):
    assert stores.put("k", b"mine", if_version=0).total == 1
    refused = stores.put("k", b"mine too", if_version=0)
    assert (refused.code, refused.text) == ("conflict", "key 'k' of store 's' has the version 1, not 0")
    assert stores.put("k", b"next", if_version=1).total == 2
    assert code_of(stores.put("k", b"late", if_version=1)) == "conflict"
    stores.ask(commands.Unset, ("k",))
    assert stores.put("k", b"late", if_version=2).text == "key 'k' of store 's' has no value, not 2"
    assert stores.put("k", b"again", if_version=0).total == 3


@pytest.mark.parametrize("command", [commands.Put, commands.Increment, commands.Watch])
def test_a_key_cannot_be_empty(stores, command):
    assert code_of(stores.ask(command, "")) == "invalid"


def test_a_value_has_a_limit(stores):
    assert stores.put("k", bytes(VALUE_BYTES_MAX)) == replies.Done(1, 1)
    assert code_of(stores.put("k", bytes(VALUE_BYTES_MAX + 1))) == "too_large"


def test_a_fetch_answers_so_many_bytes_at_a_time(stores, monkeypatch):
    monkeypatch.setattr(storing, "FETCH_BYTES_MAX", 5)
    for key, size in (("a", 3), ("b", 2), ("c", 1), ("d", 9)):
        stores.put(key, bytes(size))
    reply = stores.ask(commands.Fetch, ("a", "none", "b", "c", "d"))
    assert (list(values_of(reply)), reply.answered) == ([0, 2], 3)
    reply = stores.ask(commands.Fetch, ("c", "d"))
    assert (list(values_of(reply)), reply.answered) == ([0], 1)
    reply = stores.ask(commands.Fetch, ("d",))
    assert (list(values_of(reply)), reply.answered) == ([0], 1)


# Time.


def test_a_value_expires(stores):
    stores.declare(ttl_ms=1_000)
    stores.put("short", b"x", ttl_ms=10)
    stores.put("own", b"x")
    stores.driver.wait(10)
    assert list(stores.get("short", "own")) == [1]
    stores.driver.wait(990)
    assert stores.get("short", "own") == {}
    assert stores.driver.info("s")["removed"] == {"expired": 2}


def test_a_value_that_is_put_again_has_its_own_time_to_live(stores):
    stores.put("k", b"x", ttl_ms=10)
    stores.put("k", b"y")
    stores.driver.wait(YEAR_MS)
    assert stores.get("k") == {0: (2, b"y")}


@pytest.mark.parametrize(("before", "after"), [(10, 50), (50, 10), (0, 10), (10, 0)])
def test_another_time_to_live_counts_from_now(stores, before, after):
    stores.put("k", b"x", ttl_ms=before)
    stores.driver.wait(5)
    assert stores.ask(commands.Expire, "k", after).total == 1
    stores.driver.wait(after - 1 if after else YEAR_MS)
    assert stores.get("k")
    stores.driver.wait(1)
    assert bool(stores.get("k")) == (after == 0)


def test_a_value_that_is_not_there_has_no_time_to_live(stores):
    assert stores.ask(commands.Expire, "k", 10).total == 0


# Numbers.


def test_numbers_are_counted_up_and_down(stores):
    assert stores.count("k") == replies.Counted(1, 1, 1)
    assert stores.count("k", 41) == replies.Counted(2, 42, 2)
    assert stores.count("k", -50) == replies.Counted(3, -8, 3)
    assert stores.get("k") == {0: (3, b"-8")}


def test_a_number_keeps_its_time_to_live(stores):
    first = stores.count("k", ttl_ms=100)
    stores.driver.wait(60)
    assert stores.count("k", ttl_ms=100).expires_at_ms == first.expires_at_ms
    stores.driver.wait(40)
    assert stores.count("k").number == 1


@pytest.mark.parametrize("value", [b"", b"x", b"1.5", b" 1", b"+1", b"--1", b"1_000", "²".encode(), b"1" * 21])
def test_what_is_no_number_is_not_counted(stores, value):
    stores.put("k", value)
    assert code_of(stores.count("k")) == "invalid"
    assert stores.get("k") == {0: (1, value)}


def test_a_number_has_64_bits(stores):
    stores.put("k", b"%d" % ((1 << 63) - 2))
    assert stores.count("k").number == (1 << 63) - 1
    assert code_of(stores.count("k")) == "invalid"
    assert stores.count("l", -(1 << 63)).number == -(1 << 63)
    assert code_of(stores.count("l", -1)) == "invalid"


# Bounds.


def test_a_put_takes_only_what_it_adds(stores):
    stores.declare(max_messages=2, max_bytes=10)
    stores.put("a", b"12345")
    stores.put("b", b"12345")
    assert stores.put("a", b"54321").total == 3
    refused = stores.put("a", b"123456")
    assert (refused.code, refused.bound) == ("busy", "max_bytes")
    assert (stores.put("c", b"").bound, stores.get("a")) == ("max_messages", {0: (3, b"54321")})
    assert code_of(stores.put("a", bytes(11))) == "too_large"


def test_the_oldest_values_make_room_but_not_the_one_that_is_replaced(stores):
    stores.declare(max_messages=3, max_bytes=10, overflow="drop_oldest")
    for key in "abc":
        stores.put(key, b"123")
    assert stores.put("a", b"1234567").total == 4
    assert stores.get("a", "b", "c") == {0: (4, b"1234567"), 2: (3, b"123")}
    assert stores.driver.info("s")["removed"] == {"dropped": 1, "replaced": 1}


# A store is no queue.


def test_a_store_takes_no_messages_and_delivers_none(stores):
    stores.put("k", b"x")
    assert code_of(stores.driver.publish(b"m", queue="s")[0]) == "invalid"
    assert code_of(stores.driver.submit(commands.Consume, 1, "s", 10)[0]) == "invalid"
    stores.driver.publish(b"m", queue="q")
    stores.driver.consume(2)
    stores.driver.settle(2, (2, 1, 1))
    assert code_of(stores.driver.submit(commands.Redrive, "q", ((2, 1),), "s")[0]) == "invalid"


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        (commands.Put, ("k",)),
        (commands.Fetch, (("k",),)),
        (commands.Unset, (("k",),)),
        (commands.Increment, ("k",)),
        (commands.Expire, ("k",)),
        (commands.Watch, ("k",)),
    ],
)
def test_a_queue_is_no_store(stores, make_shard, command, fields):
    stores.driver.publish(b"m")
    assert code_of(stores.ask(command, *fields, store="q")) == "invalid"
    strict = Stores(make_shard(auto_declare=False))
    assert code_of(strict.ask(command, *fields)) == "not_found"


def test_a_store_cannot_be_bound(stores):
    assert code_of(stores.declare(bind=("a.>",))) == "invalid"
    stores.declare()
    assert code_of(stores.ask(commands.Alter, {"bind": ("a.>",)})) == "invalid"


def test_what_it_is_never_changes(stores):
    stores.declare()
    assert code_of(stores.ask(commands.Alter, {"kind": "queue"})) == "invalid"
    assert code_of(stores.ask(commands.Declare, {"kind": "queue"})) == "exists_differently"


# Watches.


def test_a_watch_is_answered_when_the_value_comes(stores):
    assert stores.watch() == []
    told = stores.driver.submit(commands.Put, "s", "k", block=b"x")
    assert values_of(told[1]) == {0: (1, b"x")}
    assert told[1].request == 1
    assert stores.driver.wait(1_000) == []
    assert stores.driver.shard.next_deadline_ms() is None


def test_a_watch_of_an_old_version_is_answered_at_once(stores):
    stores.put("k", b"x")
    (reply,) = stores.watch()
    assert values_of(reply) == {0: (1, b"x")}
    assert stores.watch(after=1) == []
    _done, reply = stores.driver.submit(commands.Put, "s", "k", block=b"y")
    assert (reply.request, values_of(reply)) == (3, {0: (2, b"y")})


def test_a_watch_is_over_in_time(stores):
    assert stores.watch(wait_ms=0) == [replies.Values(1, (), b"", 1)]
    assert stores.watch(wait_ms=50) == []
    assert stores.driver.wait(49) == []
    assert stores.driver.wait(1) == [replies.Values(2, (), b"", 1)]


def test_many_may_watch_and_only_what_is_newer_counts(stores):
    other = stores.driver.shard.attach(1 << 30)
    stores.put("k", b"x")
    stores.watch(after=1)
    stores.watch(after=1, session=other)
    stores.watch(after=7)
    stores.watch("l")
    told = stores.driver.submit(commands.Put, "s", "k", block=b"y")
    assert [each.request for each in told if isinstance(each, replies.Values)] == [2, 3]


def test_a_watch_is_told_what_is_there_when_it_is_told(stores):
    stores.watch()
    stores.driver.hold(commands.Put, "s", "k", block=b"1")
    stores.driver.hold(commands.Put, "s", "k", block=b"2")
    stores.driver.shard.dispatch(stores.driver.now)
    told = [each for each in stores.driver.commit() if isinstance(each, replies.Values)]
    assert [values_of(each) for each in told] == [{0: (2, b"2")}]


def test_a_value_that_has_gone_before_anybody_was_told_is_not_told(stores):
    stores.watch()
    stores.driver.hold(commands.Put, "s", "k", block=b"1")
    stores.driver.hold(commands.Unset, "s", ("k",))
    stores.driver.shard.dispatch(stores.driver.now)
    assert [type(each) for each in stores.driver.commit()] == [replies.Done, replies.Done]
    assert values_of(stores.driver.submit(commands.Put, "s", "k", block=b"2")[-1]) == {0: (2, b"2")}


def test_no_watch_is_told_before_the_value_is_durable(stores):
    stores.watch()
    stores.driver.hold(commands.Put, "s", "k", block=b"1")
    stores.driver.shard.dispatch(stores.driver.now)
    assert stores.driver.said() == []
    assert len(stores.driver.commit()) == 2


def test_watches_end_with_their_session(stores):
    other = stores.driver.shard.attach(1 << 30)
    stores.watch(session=other)
    stores.driver.shard.detach(other, stores.driver.now)
    assert stores.driver.shard.next_deadline_ms() is None
    assert [type(each) for each in stores.driver.submit(commands.Put, "s", "k", block=b"1")] == [replies.Done]


def test_watches_of_a_deleted_store_are_refused(stores):
    stores.watch()
    stores.watch("l")
    _done, *errors = stores.driver.submit(commands.Delete, "s")
    assert [(each.request, each.code) for each in errors] == [(1, "not_found"), (2, "not_found")]
    assert stores.driver.shard.next_deadline_ms() is None


def test_one_connection_has_so_many_watches(stores, monkeypatch):
    monkeypatch.setattr(watching, "WATCHES_MAX", 1)
    stores.watch()
    assert code_of(stores.watch("l")[0]) == "unavailable"
    stores.driver.wait(100)
    assert stores.watch("l") == []


# The log.


def test_a_restart_keeps_values_versions_and_times_to_live(stores):
    stores.put("a", b"1")
    stores.put("a", b"2")
    stores.put("b", b"x", ttl_ms=1_000)
    stores.put("c", b"x", ttl_ms=1_000)
    stores.put("d", b"x")
    stores.ask(commands.Expire, "b", 5_000)
    stores.ask(commands.Unset, ("d",))
    fresh = Shard(2, lambda: 0.5)
    for record in stores.driver.log:
        fresh.restore(record)
    fresh.restored(stores.driver.now)
    fresh.tick(stores.driver.now + 1_000)
    store = fresh.state.names["s"]
    assert {key: store.value(key) and store.value(key).first for key in "abcd"} == {
        "a": 2,
        "b": 3,
        "c": None,
        "d": None,
    }
    assert store.counts == [2, 0, 0, 0]


def test_a_value_that_only_the_log_has_is_fetched(make_shard):
    stores = Stores(make_shard(resident_bytes_max=10))
    driver = stores.driver
    stores.put("k", b"41")
    driver.publish(bytes(pager.AHEAD_BYTES // 2), queue="q")  # memory is full
    batch = driver.shard.state.names["s"].value("k")
    batch.block.place = (1, 0)
    page_out = driver.shard.state.names["s"].residence.page_out
    page_out(batch)
    assert driver.submit(commands.Fetch, "s", ("k",)) == []
    assert driver.submit(commands.Increment, "s", "k") == []
    assert driver.submit(commands.Watch, "s", "k", 0, 100) == []
    (wanted,) = driver.shard.ledger.pager.take_wanted()
    driver.shard.fetched([wanted], [b"41"], driver.now)
    driver.shard.dispatch(driver.now)
    fetched, counted, watched = driver.commit()
    assert (values_of(fetched), counted.number, values_of(watched)) == ({0: (1, b"41")}, 42, {0: (2, b"42")})


def test_a_store_of_a_queue_in_memory_logs_nothing(make_shard):
    stores = Stores(make_shard(QueueOptions()))
    stores.declare(durability="memory")
    before = len(stores.driver.log)
    stores.put("k", b"x")
    stores.ask(commands.Expire, "k", 10)
    assert stores.driver.log[before:] == []
    stores.driver.wait(10)
    assert stores.get("k") == {}
