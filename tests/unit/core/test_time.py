"""Delays, times to live, back-off and places in the line, in virtual time: how far, how many, and at what cost."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from statistics import fmean

import pytest

from wherry.model import commands
from wherry.model.fields import DURATION_MAX_MS
from wherry_broker.core import lane, timers
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard

FAR = QueueOptions(durability="memory", max_messages=1_000_000)
LAST_MS = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() * 1000)
LENGTHS = (1).to_bytes(4, "big")


def publish_all(shard, session, now, moments):
    """One message for each moment; 0 is at once."""
    for request, moment in enumerate(moments, 1):
        command = commands.Publish(request, "q", LENGTHS, at_ms=moment, block=b"x")
        shard.submit(session, command, now)
    shard.take_effects()
    return shard.state.names["q"]


def test_a_message_may_wait_a_hundred_years_or_until_the_last_one(make_shard):
    driver = make_shard()
    driver.publish(b"a", delay_ms=DURATION_MAX_MS)
    driver.publish(b"b", at_ms=LAST_MS)
    for due_ms, counts in ((driver.now + DURATION_MAX_MS, (1, 1, 0, 0)), (LAST_MS, (2, 0, 0, 0))):
        assert driver.shard.next_deadline_ms() == due_ms
        before = driver.counts()
        driver.wait(due_ms - 1 - driver.now)
        assert driver.counts() == before
        driver.wait(1)
        assert driver.counts() == counts
    assert driver.shard.next_deadline_ms() is None


@pytest.mark.parametrize("seed", range(3))
def test_each_of_many_is_ready_at_its_own_moment_and_in_its_own_place(seed):
    chance = random.Random(seed)
    shard, now = Shard(1, lambda: 0.5, FAR), 1_000
    session = shard.attach(1 << 30)
    moments = [now + chance.randrange(1, 50_000) for _ in range(5_000)]
    queue = publish_all(shard, session, now, moments)
    while (due_ms := shard.next_deadline_ms()) is not None:
        now = max(due_ms, now + chance.randrange(2_000))
        shard.tick(now)
        assert queue.counts[0] == sum(moment <= now for moment in moments)
    order = [queue.lease(*queue.head(now)[:1], 1, Holder(), now, 10).low for _ in range(5_000)]
    assert order == list(range(1, 5_001))


class Holder:
    """As much of a consumer as a lease needs."""

    def __init__(self):
        self.spans = {}


@pytest.mark.parametrize("kind", ["delay", "ttl"])
def test_a_timed_message_costs_the_same_in_a_long_queue(monkeypatch, kind):
    def work_of(count):
        """Steps on heaps for each message, from its publish until its moment has passed."""
        steps = [0]

        def counted(step):
            def call(*arguments):
                steps[0] += 1
                return step(*arguments)

            return call

        with monkeypatch.context() as patch:
            for module in (timers, lane):
                for name in ("heappush", "heappop"):
                    patch.setattr(module, name, counted(getattr(module, name)))
            shard, now = Shard(1, lambda: 0.5, FAR), 1_000
            session, chance = shard.attach(1 << 30), random.Random(count)
            for request in range(1, count + 1):
                duration = {f"{kind}_ms": chance.randrange(1, 1_000_000)}
                shard.submit(session, commands.Publish(request, "q", LENGTHS, block=b"x", **duration), now)
            shard.tick(now + 1_000_000)
        assert shard.state.names["q"].counts == ([count, 0, 0, 0] if kind == "delay" else [0, 0, 0, 0])
        return steps[0] / count

    assert work_of(20_000) == work_of(1_000) <= 4


def test_times_to_live_end_anywhere_in_the_queue_and_the_rest_keeps_its_order():
    chance = random.Random(7)
    shard, now = Shard(1, lambda: 0.5, FAR), 1_000
    session = shard.attach(1 << 30)
    ends = {}
    for request in range(1, 2_001):
        ttl_ms = chance.choice([0, chance.randrange(1, 5_000)])
        shard.submit(session, commands.Publish(request, "q", LENGTHS, ttl_ms=ttl_ms, block=b"x"), now)
        ends[request] = now + ttl_ms if ttl_ms else LAST_MS
    queue = shard.state.names["q"]
    for _ in range(12):
        now += chance.randrange(600)
        shard.tick(now)
        left = [offset for span in queue.spans() for offset in range(span.low, span.high)]
        assert left == [offset for offset, end in ends.items() if end > now]
    assert queue.removed == {"expired": sum(end <= now for end in ends.values())}


def test_a_nacked_message_keeps_its_place_in_its_priority(make_shard, rows):
    driver = make_shard()
    for priority in (5, 5, 1, 5, 9, 1):
        driver.publish(b"x", priority=priority)
    assert driver.consume(credit=2) == [(5, 1, 1), (1, 1, 1)]
    driver.settle(commands.Verb.NACK, (1, 1, 1), duration_ms=0)
    driver.settle(commands.Verb.NACK, (5, 1, 1), duration_ms=50)
    driver.publish(b"x", priority=9)
    found = rows(driver.submit(commands.Consume, 2, "q", 3))
    assert found == [(7, 1, 1), (1, 1, 2), (2, 1, 1)]
    driver.wait(50)
    assert rows(driver.submit(commands.Consume, 3, "q", 9)) == [(5, 1, 2), (4, 1, 1), (3, 1, 1), (6, 1, 1)]


RETRY = QueueOptions(durability="memory", retry_base_ms=100, retry_factor=3.0, retry_cap_ms=5_000, max_attempts=100)


def back_offs(draws, attempts):
    """The delays after each of so many failed attempts of a message, with these draws for jitter."""
    draws, now = iter(draws), 1_000
    shard = Shard(1, lambda: next(draws), RETRY)
    session = shard.attach(1 << 30)
    shard.submit(session, commands.Publish(1, "q", LENGTHS, block=b"x"), now)
    shard.submit(session, commands.Consume(2, 1, "q", attempts + 1), now)
    for attempt in range(1, attempts + 1):
        shard.dispatch(now)
        shard.submit(session, commands.Settle(2 + attempt, "q", commands.Verb.NACK, 1, ((1, 1, attempt),)), now)
        due_ms = shard.next_deadline_ms()
        yield 0 if due_ms is None else due_ms - now
        now = now if due_ms is None else due_ms


@pytest.mark.parametrize("draw", [0.0, 0.25, 0.5, 0.999])
def test_the_back_off_is_drawn_from_zero_to_its_formula(draw):
    longest = [min(5_000, 100 * 3**failed) for failed in range(9)]
    assert longest[3:5] == [2_700, 5_000]
    assert list(back_offs([draw] * 9, 9)) == [int(draw * most) for most in longest]


def test_the_jitter_is_full_and_even():
    chance = random.Random(3)
    found = [list(back_offs(iter(chance.random, None), 4)) for _ in range(1_500)]
    for failed, delays in enumerate(zip(*found, strict=True)):
        most = 100 * 3**failed
        assert 0 <= min(delays) < most / 50
        assert most * 0.98 < max(delays) < most
        assert fmean(delays) == pytest.approx(most / 2, rel=0.05)
