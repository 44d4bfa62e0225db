"""Keys: their turns, their order, their limits; against the formulas that protocol.md gives."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.model import commands
from wherry.model.commands import Verb
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.rates import BURST_MS, Bucket
from wherry_broker.core.turns import QUANTUM

HOUR_MS = 3_600_000


def keys_of(driver, said):
    """The key of each message that was delivered, in order."""
    return [row[6] for row in (each.row for each in said if hasattr(each, "row")) for _ in range(row[1])]


def delivered(driver, credit, number=1):
    return keys_of(driver, driver.submit(commands.Consume, number, "q", credit))


def runs(keys):
    return [(key, len(list(group))) for key, group in groupby(keys)]


# Turns.


def test_a_million_of_one_tenant_do_not_delay_ten_of_another(make_shard):
    driver = make_shard(QueueOptions(max_messages=2_000_000))
    for _ in range(100):
        driver.publish(*[b"x"] * 10_000, key="large")
    driver.publish(*[b"y"] * 10, key="small")
    keys = delivered(driver, 1_000)
    assert "small" in keys[: QUANTUM + 1]
    assert keys.index("small") + 9 == max(at for at, key in enumerate(keys) if key == "small")


@given(weights=st.lists(st.integers(1, 5), min_size=2, max_size=5))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shares_are_as_the_weights_say(make_shard, weights):
    names = [f"key-{number}" for number in range(len(weights))]
    driver = make_shard(QueueOptions(key_weights=dict(zip(names, weights, strict=True))))
    rounds = 3
    for name in names:
        driver.publish(*[b"x"] * 1_000, key=name)
    keys = delivered(driver, rounds * QUANTUM * sum(weights))
    assert [keys.count(name) for name in names] == [rounds * QUANTUM * weight for weight in weights]
    assert [count // QUANTUM for _, count in runs(keys)] == weights * rounds


def test_messages_without_a_key_take_turns_with_the_keys(make_shard):
    driver = make_shard()
    driver.publish(*[b"x"] * 100)
    driver.publish(*[b"x"] * 100, key="k")
    assert runs(delivered(driver, 4 * QUANTUM)) == [("", QUANTUM), ("k", QUANTUM)] * 2


def test_one_key_alone_is_not_cut(make_shard, rows):
    driver = make_shard()
    driver.publish(*[b"x"] * 5_000, key="k")
    assert rows(driver.submit(commands.Consume, 1, "q", 10_000)) == [(1, 5_000, 1)]


def test_keys_that_have_nothing_left_leave_nothing(make_shard):
    driver = make_shard(QueueOptions(key_max_leased=5, key_rate_per_s=10, ttl_ms=50))
    for number in range(1_000):
        driver.publish(b"x", key=str(number))
    queue = driver.shard.state.names["q"]
    driver.consume(credit=500)
    for first in range(1, 501):
        driver.settle(Verb.ACK, (first, 1, 1))
    driver.wait(HOUR_MS)  # the other half expires
    driver.publish(b"x", key="last")
    driver.consume(2, credit=1)
    assert [len(turns._lanes) <= 1 for turns in queue._turns] == [True]
    assert len(queue.keys._keys) <= 1
    assert len(driver.shard.state.timers) == 1 + 1  # the lease and the expiry of the last one


# Order.


def test_an_ordered_key_is_delivered_one_at_a_time_whatever_fails(make_shard, rows):
    driver = make_shard(QueueOptions(ordered=True, retry_base_ms=1_000, max_attempts=2))
    driver.publish(b"1", b"2", b"3", key="k")
    driver.publish(b"4", key="other")
    driver.publish(b"5", b"6")
    assert sorted(driver.consume()) == [(1, 1, 1), (4, 1, 1), (5, 2, 1)]  # no order among what has no key
    assert rows(driver.settle(Verb.NACK, (1, 1, 1), duration_ms=50)) == []
    assert rows(driver.wait(49)) == []
    assert rows(driver.wait(1)) == [(1, 1, 2)]
    assert rows(driver.settle(Verb.RELEASE, (1, 1, 2))) == [(1, 1, 3)]
    assert rows(driver.settle(Verb.NACK, (1, 1, 3), duration_ms=50)) == [(2, 1, 1)]  # the first one is dead
    assert rows(driver.settle(Verb.ACK, (2, 1, 1))) == [(3, 1, 1)]


def test_an_ordered_key_waits_for_its_lease_in_another_priority(make_shard, rows):
    driver = make_shard(QueueOptions(ordered=True))
    driver.publish(b"1", key="k")
    assert driver.consume() == [(1, 1, 1)]
    assert rows(driver.publish(b"2", key="k", priority=9)) == []
    assert rows(driver.settle(Verb.ACK, (1, 1, 1))) == [(2, 1, 1)]


def test_a_lost_consumer_lets_an_ordered_key_go_on(make_shard, rows):
    driver = make_shard(QueueOptions(ordered=True))
    driver.publish(b"1", b"2", key="k")
    other = driver.shard.attach(1 << 30)
    assert rows(driver.submit(commands.Consume, 1, "q", 9, session=other)) == [(1, 1, 1)]
    assert driver.consume() == []
    driver.shard.detach(other, driver.now)
    assert rows(driver.wait(0)) == [(1, 1, 2)]


def test_order_holds_from_when_it_is_asked_for(make_shard, rows):
    driver = make_shard()
    driver.publish(b"1", b"2", b"3", key="k")
    assert driver.consume(credit=2) == [(1, 2, 1)]
    driver.submit(commands.Alter, "q", {"ordered": True})
    assert driver.consume(2) == []
    driver.settle(Verb.ACK, (1, 1, 1))
    assert rows(driver.settle(Verb.ACK, (2, 1, 1))) == [(3, 1, 1)]


# Limits.


def test_so_many_of_a_key_are_leased_at_a_time(make_shard, rows):
    driver = make_shard(QueueOptions(key_max_leased=2))
    driver.publish(*[b"x"] * 5, key="k")
    driver.publish(*[b"x"] * 5)
    assert sorted(driver.consume()) == [(1, 2, 1), (6, 5, 1)]
    assert rows(driver.settle(Verb.ACK, (1, 1, 1))) == [(3, 1, 1)]


def deliveries_over(driver, milliseconds):
    """(time, count) of all that is delivered, the clock moved to each deadline of the core; settled at once."""
    found, end = [], driver.now + milliseconds
    said = driver.submit(commands.Consume, 1, "q", 1 << 40)
    while True:
        got = [each for each in said if hasattr(each, "row")]
        found += [(driver.now, each.row[6], each.row[1]) for each in got]
        for each in got:
            driver.settle(Verb.ACK, each.row[:3])
        due = driver.shard.next_deadline_ms()
        if due is None or due > end:
            return found
        said = driver.wait(due - driver.now)


@pytest.mark.parametrize("rate", [0.5, 3, 100, 2_500])
@pytest.mark.parametrize("option", ["rate_per_s", "key_rate_per_s"])
def test_a_rate_is_kept_and_used_up(make_shard, option, rate):
    driver = make_shard(QueueOptions(**{option: rate}))
    for _ in range(5):
        driver.publish(*[b"x"] * 5_000, key="k")
    milliseconds = 10_000
    found = deliveries_over(driver, milliseconds)
    total, burst = sum(count for _, _, count in found), max(1, int(rate * BURST_MS / 1_000))
    assert rate * milliseconds / 1_000 <= total <= rate * milliseconds / 1_000 + burst
    for start in range(0, len(found), max(1, len(found) // 50)):
        since = found[start][0]
        within = sum(count for at, _, count in found if since <= at < since + 1_000)
        assert within <= rate + burst


def test_each_key_has_its_own_rate(make_shard):
    driver = make_shard(QueueOptions(key_rate_per_s=10))
    for key in ("a", "b", ""):
        driver.publish(*[b"x"] * 100, key=key)
    found = deliveries_over(driver, 5_000)
    totals = {each: sum(count for _, key, count in found if key == each) for each in ("a", "b", "")}
    assert totals == {"a": 51, "b": 51, "": 100}


def test_a_rate_that_is_raised_holds_at_once(make_shard, rows):
    driver = make_shard(QueueOptions(rate_per_s=0.001))
    driver.publish(b"1", b"2", b"3")
    assert driver.consume() == [(1, 1, 1)]
    assert rows(driver.submit(commands.Alter, "q", {"rate_per_s": 0})) == [(2, 2, 1)]
    assert driver.shard.next_deadline_ms() == driver.now + QueueOptions().lease_ms


@given(rate=st.floats(0.01, 10_000), steps=st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 50)), max_size=30))
def test_a_bucket_never_gives_more_than_its_rate_and_one_burst(rate, steps):
    bucket, now, since, taken = Bucket(rate), 10**12, 10**12, 0
    burst = max(1, int(rate * BURST_MS / 1_000))
    for wait, wanted in steps:
        now += wait
        count = min(wanted, bucket.available(now))
        bucket.take(count, now)
        taken += count
        assert taken <= burst + rate * (now - since) / 1_000 * (1 + 1e-6) + 1e-3
        assert bucket.available(bucket.next_ms()) >= 1
