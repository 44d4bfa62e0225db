"""Stores by the asyncio client against a broker, over real sockets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

import wherry
from patience import PATIENCE_S
from wherry.aio import store as aio_store
from wherry.conversation import storing
from wherry_broker.core.storing import FETCH_BYTES_MAX


@pytest.fixture
async def broker(running):
    async with wherry.connect(running.url) as broker:
        yield broker


@pytest.fixture
def store(broker):
    return broker.store("values")


async def test_values_are_kept_and_removed(store):
    assert await store.get("k") is None
    first = await store.put("k", b"one")
    assert await store.put("k", "two") > first
    await store.put("l", b"")
    assert await store.get("k") == b"two"
    assert await store.get_many(["k", "nothing", "l", "k"]) == {"k": b"two", "l": b""}
    assert await store.delete("k", "nothing") == 1
    assert await store.get("k") is None
    info = await store.info()
    assert (info.ready, info.options["kind"]) == (1, "store")


async def test_a_version_makes_a_lock(store):
    version = await store.put("lock", b"me", 60, if_version=0)
    with pytest.raises(wherry.Conflict, match="has the version 1, not 0"):
        await store.put("lock", b"you", if_version=0)
    entry = await store.entry("lock")
    assert (entry.key, entry.value, entry.version) == ("lock", b"me", version)
    assert timedelta(0) < entry.expires_at - datetime.now(UTC) <= timedelta(seconds=60)
    assert await store.put("lock", b"me again", if_version=version) == version + 1
    assert (await store.entry("lock")).expires_at is None


async def test_numbers_are_counted_by_many_at_once(store):
    sums = await asyncio.gather(*(store.increment("n") for _ in range(200)))
    assert sorted(sums) == list(range(1, 201))
    assert await store.increment("n", -300) == -100
    assert await store.get("n") == b"-100"
    await store.put("n", b"text")
    with pytest.raises(wherry.Invalid, match="no whole number"):
        await store.increment("n")


async def test_values_expire(store):
    await store.put("k", b"x", ttl=0.05)
    assert await store.expire("k", timedelta(hours=1))
    assert not await store.expire("nothing", 5)
    assert (await store.entry("k")).expires_at - datetime.now(UTC) > timedelta(minutes=59)
    assert await store.expire("k", None)
    assert (await store.entry("k")).expires_at is None


async def test_many_wait_for_a_value(store, running):
    async with wherry.connect(running.url) as other, asyncio.timeout(PATIENCE_S):
        waiting = [asyncio.create_task(each.watch("k", 60)) for each in [store, other.store("values")] * 3]
        await store.declare()
        await running.until(lambda: len(running.shard.state.names["values"].watches.get("k", ())) == 6)
        version = await store.put("k", b"here")
        assert [await each for each in waiting] == [wherry.Entry("k", b"here", version, None)] * 6
        assert await store.watch("k", 0) == wherry.Entry("k", b"here", version, None)


async def test_nothing_may_come(store, monkeypatch):
    monkeypatch.setattr(aio_store, "WAIT_SLICE_MS", 10)
    version = await store.put("k", b"old")
    assert await store.watch("k", 0.05, after=version) is None
    assert await store.watch("nothing", 0) is None


async def test_whoever_waits_is_told_that_the_store_is_gone(store, broker, running):
    await store.declare()
    waiting = asyncio.create_task(store.watch("k", 60))
    await running.until(lambda: running.shard.state.names["values"].watches)
    await broker.queue("values").delete()
    with pytest.raises(wherry.NotFound, match="was deleted"):
        await waiting


async def test_many_large_values_and_long_keys_are_told_in_parts(store):
    keys = [f"{number:0255}" for number in range(300)]
    values = {key: bytes([number % 256]) * (FETCH_BYTES_MAX // 100) for number, key in enumerate(keys)}
    await asyncio.gather(*(store.put(key, value) for key, value in values.items()))
    assert await store.get_many(keys) == values
    assert await store.delete(*keys) == 300


async def test_what_cannot_be_a_value_or_a_key_is_refused_here(store, broker):
    with pytest.raises(wherry.Invalid):
        broker.store("no/store")
    with pytest.raises(TypeError):
        await store.put("k", 5)
    with pytest.raises(wherry.TooLarge):
        await store.put("k", bytes(1_048_577))
    for key in ("", "ü" * 128, "\ud800"):
        with pytest.raises(wherry.Invalid):
            await store.get(key)
    with pytest.raises(TypeError):
        storing.check_key(5)
    with pytest.raises(ValueError, match="more than 0"):
        await store.put("k", b"x", ttl=0)


async def test_a_store_has_options_and_no_messages(store, broker):
    await store.declare(max_messages=1, ttl=60)
    await store.declare(max_messages=1)
    with pytest.raises(wherry.ExistsDifferently):
        await store.declare(max_messages=2)
    await store.put("a", b"x")
    with pytest.raises(wherry.Busy) as refused:
        await store.put("b", b"x")
    assert refused.value.bound == "max_messages"
    with pytest.raises(wherry.Invalid, match="is a store"):
        await broker.queue("values").publish(b"x")
