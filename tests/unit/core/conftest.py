from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry_broker.core.batch import STATE_NAMES, Envelope
from wherry_broker.core.block import Block
from wherry_broker.core.effects import Delivery
from wherry_broker.core.homes import Homes
from wherry_broker.core.memory import Memory
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.producers import Producers
from wherry_broker.core.queue import Queue
from wherry_broker.core.shard import Shard
from wherry_broker.core.timers import Timers


def lengths_of(bodies):
    return b"".join(len(each).to_bytes(4, "big") for each in bodies)


def block_of(*bodies):
    return Block(lengths_of(bodies), b"".join(bodies))


class QueueDriver:
    """A queue by itself, with one consumer's worth of shorthand."""

    def __init__(self, options=None, **more):
        self.timers = Timers()
        self.queue = Queue(
            1, "q", options or QueueOptions(), 1, self.timers, Homes(), Memory(self.timers, Producers()), **more
        )

    def publish(self, *bodies, priority=0, expires_at_ms=0, ready_at_ms=0):
        envelope = Envelope(0, expires_at_ms, priority)
        self.queue.publish(self.queue.next_offset, block_of(*bodies), envelope, ready_at_ms)

    def lease(self, count, consumer, deadline_ms=100):
        turns, span, allowed = self.queue.head(0)
        return self.queue.lease(turns, min(count, len(span), allowed), consumer, 0, deadline_ms)

    def spans(self):
        return [(span.low, span.high, STATE_NAMES[span.state]) for span in self.queue.spans()]


class ShardDriver:
    """A shard with a clock, one session, and every commit made at once unless it is held up.

    Attributes:
        now: the time in milliseconds.
        log: every record that was taken.
    """

    def __init__(self, defaults=None, **more):
        logged = (defaults or QueueOptions()).changed({"durability": "synced"})
        self.shard = Shard(1, lambda: 0.5, logged, **more)
        self.now = 1000
        self.log = []
        self.request = 0
        self.session = self.shard.attach(1 << 30)

    def submit(self, kind, *fields, session=None, **more):
        """What is said at once to a command, with its commits and the dispatch after it."""
        self.hold(kind, *fields, session=session, **more)
        self.shard.dispatch(self.now)
        return self.commit()

    def hold(self, kind, *fields, session=None, **more):
        """Submits a command and commits nothing."""
        self.request += 1
        numbers = () if kind is commands.Credit else (self.request,)
        self.shard.submit(session or self.session, kind(*numbers, *fields, **more), self.now)

    def commit(self):
        while batch := self.shard.take_batch():
            self.log += batch.records
            self.shard.committed(batch.mark)
        return self.said()

    def said(self):
        return [effect.say for effect in self.shard.take_effects()]

    def publish(self, *bodies, queue="q", **more):
        fields = {"lengths": lengths_of(bodies), "block": b"".join(bodies), **more}
        return self.submit(commands.Publish, queue, **fields)

    def consume(self, number=1, queue="q", credit=1000, **more):
        return rows(self.submit(commands.Consume, number, queue, credit, **more))

    def settle(self, verb, *deliveries, queue="q", epoch=1, **more):
        return self.submit(commands.Settle, queue, verb, epoch, deliveries, **more)

    def wait(self, ms):
        self.now += ms
        self.shard.tick(self.now)
        self.shard.dispatch(self.now)
        return self.commit()

    def info(self, queue="q"):
        return next(each for each in self.submit(commands.Info, queue) if isinstance(each, replies.QueueInfo)).info

    def counts(self, queue="q"):
        return tuple(self.info(queue)[state] for state in STATE_NAMES)


def rows(said):
    """(first offset, count, attempt) of the deliveries among what was said."""
    return [each.row[:3] for each in said if isinstance(each, Delivery)]


@pytest.fixture
def make_queue():
    return QueueDriver


@pytest.fixture
def make_shard():
    return ShardDriver


@pytest.fixture(name="rows")
def _rows():
    return rows


@pytest.fixture(name="block_of")
def _block_of():
    return block_of
