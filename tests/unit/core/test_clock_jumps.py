"""A wall clock that was set between two starts of a broker: what waits is never made to wait longer than was asked."""

from __future__ import annotations

import random

import pytest

from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry.wire.messages import pack_sizes
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard

NOW_MS = 1_800_000_000_000
MINUTE, HOUR, YEAR = 60_000, 3_600_000, 365 * 86_400_000
BACKWARD = [-HOUR, -10 * YEAR]
FORWARD = [HOUR, 10 * YEAR]
JUMPS = BACKWARD + FORWARD


class Lives:
    """A core that is started again and again from the same log, each time with a clock that was set meanwhile."""

    def __init__(self) -> None:
        self.log = []
        self.now = NOW_MS
        self.epochs = []
        self._request = 0
        self._start()

    def _start(self) -> None:
        self.shard = Shard(0, random.Random(1).random, QueueOptions(durability="synced", retry_base_ms=0))
        for record in self.log:
            self.shard.restore(record, 1)
        self.shard.restored(self.now)
        self.log.append(self.shard.ledger.open(2, 1, self.now))
        self.epochs.append(self.shard.state.epoch)
        self.session = self.shard.attach(1 << 30)

    def jump(self, by_ms: int) -> None:
        """The process ends, the clock is set, and a new one begins."""
        self.now += by_ms
        self._start()

    def ask(self, kind, *fields, **more):
        """What is said to a command."""
        self._request += 1
        self.shard.submit(self.session, kind(self._request, *fields, **more), self.now)
        return self.wait(0)

    def publish(self, body=b"x", **more):
        said = self.ask(commands.Publish, "q", lengths=pack_sizes([len(body)]), block=body, **more)
        return next(each.confirms[0] for each in said if isinstance(each, replies.Confirm))

    def wait(self, ms):
        """Lets time pass; what is said meanwhile."""
        self.now += ms
        self.shard.tick(self.now)
        self.shard.dispatch(self.now)
        while batch := self.shard.take_batch():
            self.log += batch.records
            self.shard.committed(batch.mark)
        return [effect.say for effect in self.shard.take_effects()]

    def counts(self):
        """(ready, delayed, leased, dead)"""
        return tuple(self.shard.state.names["q"].counts)


@pytest.fixture
def lives() -> Lives:
    return Lives()


@pytest.mark.parametrize("jump", JUMPS)
def test_the_epoch_grows(lives, jump):
    lives.publish()
    lives.jump(jump)
    lives.jump(-jump)
    lives.jump(0)
    assert lives.epochs == sorted(set(lives.epochs))


@pytest.mark.parametrize("jump", BACKWARD)
def test_a_delay_is_not_longer_than_was_asked(lives, jump):
    lives.publish(delay_ms=MINUTE)
    lives.jump(jump)
    lives.wait(MINUTE - 1)
    assert lives.counts() == (0, 1, 0, 0)
    lives.wait(1)
    assert lives.counts() == (1, 0, 0, 0)


@pytest.mark.parametrize("jump", BACKWARD)
def test_a_back_off_is_not_longer_than_was_asked(lives, jump):
    lives.publish()
    lives.ask(commands.Consume, 0, "q", 1)
    lives.wait(10_000)
    lives.ask(commands.Settle, "q", Verb.NACK, lives.epochs[-1], ((1, 1, 1),), duration_ms=MINUTE, text="no")
    assert lives.counts() == (0, 1, 0, 0)
    lives.jump(jump)
    lives.wait(MINUTE)
    assert lives.counts() == (1, 0, 0, 0)


@pytest.mark.parametrize("jump", FORWARD)
def test_a_delay_whose_time_has_come_is_over(lives, jump):
    lives.publish(delay_ms=MINUTE)
    lives.jump(jump)
    assert lives.counts() == (1, 0, 0, 0)


@pytest.mark.parametrize("jump", BACKWARD)
def test_a_time_to_live_is_not_longer_than_was_asked(lives, jump):
    lives.publish(ttl_ms=MINUTE)
    lives.publish(ttl_ms=2 * MINUTE)
    lives.jump(jump)
    lives.wait(MINUTE - 1)
    assert lives.counts() == (2, 0, 0, 0)
    lives.wait(1)
    assert lives.counts() == (1, 0, 0, 0)
    lives.jump(jump)
    lives.wait(2 * MINUTE)
    assert lives.counts() == (0, 0, 0, 0)


@pytest.mark.parametrize("jump", BACKWARD)
def test_a_leased_message_expires_by_the_same_time(lives, jump):
    lives.publish(ttl_ms=MINUTE)
    lives.jump(jump)
    lives.ask(commands.Consume, 0, "q", 1)
    lives.wait(MINUTE // 4)
    assert lives.counts() == (0, 0, 1, 0)
    lives.now += MINUTE
    lives.ask(commands.Settle, "q", Verb.NACK, lives.epochs[-1], ((1, 1, 1),), text="too late")
    assert lives.counts() == (0, 0, 0, 0)


@pytest.mark.parametrize("jump", BACKWARD)
def test_a_dedupe_key_is_not_remembered_longer_than_its_window(lives, jump):
    window = QueueOptions().dedupe_window_ms
    assert lives.publish(dedupe="k")[1:] == (1, False)
    lives.wait(10)
    assert lives.publish(dedupe="m")[1:] == (2, False)
    lives.jump(jump)
    assert lives.publish(dedupe="k")[1:] == (1, True)
    lives.wait(window)
    assert lives.publish(dedupe="k")[1:] == (3, False)
    assert lives.publish(dedupe="k")[1:] == (3, True)
    lives.jump(0)
    assert lives.publish(dedupe="k")[1:] == (3, True)
    lives.wait(window)
    assert lives.publish(dedupe="m")[1:] == (4, False)
    assert list(lives.shard.state.names["q"].dedupe) == ["m"], "what is over is forgotten"


@pytest.mark.parametrize("jump", JUMPS)
def test_a_lease_is_as_long_as_it_was_asked_to_be(lives, jump):
    lives.publish()
    lives.jump(jump)
    lives.ask(commands.Consume, 0, "q", 1, lease_ms=MINUTE)
    lives.wait(MINUTE - 1)
    assert lives.shard.state.names["q"].span_at(1).attempt == 0
    lives.wait(1)
    assert lives.shard.state.names["q"].span_at(1).attempt == 1
