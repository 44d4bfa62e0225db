"""One brain, any log: the same commands at the same moments get the same answers from a broker without a log on the
disk and from one with a log in files. Durability is the only word in which they differ.

Beside that the log in files has a life of its own, which nobody must notice: segments of a few kilobytes begin and are
forgotten, batches are written again, and almost no bytes stay in memory. WHERRY_TEST_MODEL_STEPS counts, divided by
five; the long run is `make sim`.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from log_files import MemoryStore
from simulation.loop import VirtualClock, VirtualLoop
from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry_broker.core import housekeeping, pager
from wherry_broker.core.effects import Delivery
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard
from wherry_broker.log.file import FileLog
from wherry_broker.log.memory import MemoryLog
from wherry_broker.server.pump import Pump, restore

STEPS = int(os.environ.get("WHERRY_TEST_MODEL_STEPS", "15000")) // 5
STEPS_PER_EXAMPLE = 60
DEFAULTS = QueueOptions(max_messages=200, max_bytes=20_000, lease_ms=40, max_attempts=3, retry_base_ms=20)
SEGMENT_BYTES = 4_096


class AtOnceLog(FileLog):
    """The log in files without its threads; what it answers comes in a later turn of the loop, as ever."""

    def _start_threads(self):
        """None is needed."""

    def commit(self, commit, done):
        self._commit(commit, done, self._writer)

    def fetch(self, blocks, done):
        self._fetch(blocks, done)


class Listener:
    """A client that keeps what it hears."""

    def __init__(self):
        self.heard = []

    def say(self, says):
        self.heard += says

    def room_bytes(self):
        return 4_000

    def hold_reading(self, *, hold):
        assert not hold, "nothing is left waiting here"


class Side:
    """A broker with one of the logs, and two clients.

    Attributes:
        deliveries: all that were ever made, as (queue, first, count, attempt).
    """

    def __init__(self, log_of):
        self.clock = VirtualClock(1_000_000)
        self.loop = VirtualLoop(self.clock)
        self.log = log_of(self.loop)
        shard = Shard(
            1, random.Random(1).random, DEFAULTS.changed({"durability": self.log.level}), resident_bytes_max=100
        )
        restore(shard, self.log, self.clock)
        self.shard = shard
        self.pump = Pump(shard, self.log, self.clock, self.loop, 1 << 20)
        self.clients = []
        self.numbers = []
        for _ in range(2):
            self.clients.append(Listener())
            self.numbers.append(self.pump.attach(self.clients[-1]))

    def submit(self, which, command):
        self.pump.submit(self.numbers[which], [command])
        self.run()

    def leave(self, which):
        self.pump.detach(self.numbers[which])
        self.run()
        self.clients[which] = Listener()
        self.numbers[which] = self.pump.attach(self.clients[which])

    def wait(self, ms):
        """Lets time pass, one moment after the other."""
        end_ms = self.clock.steady_ms + ms
        while (next_ms := self.loop.next_ms()) is not None and next_ms <= end_ms:
            self.clock.steady_ms = max(self.clock.steady_ms, next_ms)
            self.run()
        self.clock.steady_ms = end_ms
        self.run()

    def run(self):
        self.loop.pass_time()
        while self.loop.ready:
            self.loop.run_one()

    def take_heard(self):
        """What each client has heard since the last time, in the words of the memory log."""
        heard = [[plain(say) for say in client.heard] for client in self.clients]
        for client in self.clients:
            client.heard = []
        return heard


def plain(value):
    if isinstance(value, replies.Queues):
        value = value._replace(memory_bytes=0)  # a log may have the bytes of a message in the place of the memory
    if isinstance(value, str):
        return "memory" if value == "synced" else value
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        kind = type(value)
        parts = [plain(each) for each in value]
        return kind(*parts) if hasattr(value, "_fields") else kind(parts)
    return value


NAMES = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["", "", "k", "l"])
SIZES = st.lists(st.sampled_from([0, 1, 30, 300]), min_size=1, max_size=6)
RANGES = st.lists(st.integers(0, 20), max_size=3, unique=True).map(
    lambda starts: tuple((3 * start + 1, 1 + start % 3) for start in sorted(starts))
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "max_messages": st.sampled_from([3, 20, 200]),
        "overflow": st.sampled_from(["busy", "drop_oldest"]),
        "ttl_ms": st.sampled_from([0, 50, 500]),
        "dead_max_messages": st.sampled_from([1, 100]),
        "ordered": st.booleans(),
        "key_max_leased": st.sampled_from([0, 1]),
        "max_leased": st.sampled_from([0, 3]),
        "dedupe_window_ms": st.sampled_from([0, 100, 10_000]),
        "bind": st.sampled_from([[], ["x.*"], ["x.>", "y"]]),
    },
)
PUBLISH = st.fixed_dictionaries(
    {
        "priority": st.sampled_from([0, 0, 0, 5]),
        "key": KEYS,
        "delay_ms": st.sampled_from([0, 0, 0, 30]),
        "ttl_ms": st.sampled_from([0, 0, 0, 60]),
        "dedupe": st.sampled_from(["", "", "d", "e"]),
    }
)
VALUE = st.binary(max_size=40)
STEP = st.one_of(
    *[st.tuples(st.just("publish"), NAMES, SIZES, PUBLISH, st.booleans())] * 3,
    *[st.tuples(st.just("settle"), st.integers(0, 9), st.sampled_from(list(Verb)), st.sampled_from([None, 0, 50]))] * 4,
    st.tuples(st.just("commit"), st.integers(0, 9), NAMES, SIZES),
    st.tuples(st.just("publish_topic"), st.sampled_from(["x.1", "y", "z"]), SIZES, KEYS, st.booleans()),
    st.tuples(st.just("consume"), st.integers(1, 4), NAMES, st.integers(0, 9), st.sampled_from([0, 25])),
    st.tuples(st.just("credit"), st.integers(1, 4), st.integers(0, 60)),
    st.tuples(st.just("stop"), st.integers(1, 4)),
    st.tuples(st.just("declare"), NAMES, OPTIONS),
    st.tuples(st.just("alter"), NAMES, OPTIONS),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("purge"), NAMES, st.lists(st.sampled_from(["ready", "delayed", "dead", "leased"]), max_size=2)),
    st.tuples(st.just("cancel"), NAMES, RANGES),
    st.tuples(st.just("redrive"), NAMES, RANGES, st.sampled_from(["", "a", "b"])),
    st.tuples(st.just("pause"), NAMES, st.booleans()),
    st.tuples(st.just("info"), NAMES),
    st.tuples(st.just("list_queues")),
    st.tuples(st.just("peek"), NAMES, st.sampled_from(["", "ready", "dead", "odd"]), st.integers(0, 40)),
    st.tuples(st.just("put"), st.sampled_from(["k", "l", "m"]), VALUE, st.sampled_from([0, 60])),
    st.tuples(st.just("fetch"), st.lists(st.sampled_from(["k", "l", "m"]), max_size=3)),
    st.tuples(st.just("unset"), st.sampled_from(["k", "l"])),
    st.tuples(st.just("increment"), st.sampled_from(["l", "n"]), st.integers(-3, 3)),
    st.tuples(st.just("leave")),
    *[st.tuples(st.just("wait"), st.sampled_from([1, 10, 40, 200]))] * 2,
)


class Both:
    """The same done to both sides, and the answers compared."""

    def __init__(self):
        self.sides = [
            Side(lambda _: MemoryLog()),
            Side(lambda loop: AtOnceLog(MemoryStore(), loop.call_soon, pytest.fail, segment_bytes=SEGMENT_BYTES)),
        ]
        self.request = 0
        self.queues = {}
        self.deliveries = []

    def take(self, which, step):
        self.do(which, *step)
        memory, files = [side.take_heard() for side in self.sides]
        assert files == memory, step
        for client, says in enumerate(memory):
            for say in says:
                if isinstance(say, Delivery):
                    self.deliveries.append((self.queues.get((client, say.consumer), "a"), say.row[:3]))

    def do(self, which, kind, *given):
        if kind == "wait":
            for side in self.sides:
                side.wait(*given)
        elif kind == "leave":
            for side in self.sides:
                side.leave(which)
        else:
            self.request += 1
            for side in self.sides:
                command = getattr(self, kind)(side.shard.state.epoch, *given)
                if command is not None:
                    side.submit(which, command)
            if kind == "consume":
                self.queues[which, given[0]] = given[1]

    def publish(self, _epoch, name, sizes, fields, divisible):
        return commands.Publish(self.request, name, **block_of(sizes, self.request), **fields, divisible=divisible)

    def settle(self, epoch, which, verb, duration_ms):
        if not self.deliveries:
            return None
        name, row = self.deliveries[-1 - which % len(self.deliveries)]
        if verb == Verb.EXTEND and not duration_ms:
            duration_ms = None
        return commands.Settle(self.request, name, verb, epoch, (row,), duration_ms, "because")

    def commit(self, epoch, which, name, sizes):
        lengths, block = block_of(sizes, self.request).values()
        settles = ()
        if self.deliveries:
            queue, row = self.deliveries[-1 - which % len(self.deliveries)]
            settles = ((queue, Verb.ACK, epoch, (row,), None, ""),)
        return commands.Commit(self.request, settles, ((name, lengths, 0, "", 0, 0, 0, ""),), block=block)

    def publish_topic(self, _epoch, subject, sizes, key, allowed):
        return commands.PublishTopic(
            self.request, subject, **block_of(sizes, self.request), key=key, allow_unroutable=allowed
        )

    def consume(self, _epoch, number, name, credit, lease_ms):
        return commands.Consume(self.request, number, name, credit, lease_ms)

    def credit(self, _epoch, number, total):
        return commands.Credit(number, total)

    def stop(self, _epoch, number):
        return commands.Stop(self.request, number)

    def declare(self, _epoch, name, options):
        return commands.Declare(self.request, name, options)

    def alter(self, _epoch, name, options):
        return commands.Alter(self.request, name, options)

    def delete(self, _epoch, name):
        return commands.Delete(self.request, name)

    def purge(self, _epoch, name, states):
        return commands.Purge(self.request, name, tuple(states))

    def cancel(self, _epoch, name, ranges):
        return commands.Cancel(self.request, name, ranges)

    def redrive(self, _epoch, name, ranges, to):
        return commands.Redrive(self.request, name, ranges, to)

    def pause(self, _epoch, name, paused):
        return commands.Pause(self.request, name, paused)

    def info(self, _epoch, name):
        return commands.Info(self.request, name)

    def list_queues(self, _epoch):
        return commands.ListQueues(self.request)

    def peek(self, _epoch, name, state, first):
        return commands.Peek(self.request, name, state, first)

    def put(self, _epoch, key, value, ttl_ms):
        return commands.Put(self.request, "store", key, ttl_ms, block=value)

    def fetch(self, _epoch, keys):
        return commands.Fetch(self.request, "store", tuple(keys))

    def unset(self, _epoch, key):
        return commands.Unset(self.request, "store", (key,))

    def increment(self, _epoch, key, by):
        return commands.Increment(self.request, "store", key, by)


def block_of(sizes, seed):
    lengths = b"".join(size.to_bytes(4, "big") for size in sizes)
    return {"lengths": lengths, "block": b"".join(bytes([seed % 256]) * size for size in sizes)}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(pager, "AHEAD_BYTES", 200)
    monkeypatch.setattr(housekeeping, "REHOME_BYTES", 500)


@given(st.lists(st.tuples(st.integers(0, 1), STEP), min_size=STEPS_PER_EXAMPLE // 2, max_size=STEPS_PER_EXAMPLE))
@settings(
    max_examples=max(1, STEPS // STEPS_PER_EXAMPLE),
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
def test_both_logs_give_the_same_answers(steps):
    both = Both()
    for which, step in steps:
        both.take(which, step)
    for side in both.sides:
        side.pump.close()


def test_the_log_in_files_is_as_busy_as_it_should_be():
    """Or the test above would say little: bytes are paged out and fetched, segments begin and are forgotten."""
    both = Both()
    draw = random.Random(3)
    both.take(0, ("consume", 1, "a", 5, 0))
    most_absent = 0
    for number in range(400):
        fields = {"priority": 0, "key": "", "delay_ms": 0, "ttl_ms": 0, "dedupe": ""}
        both.take(0, ("publish", "a", [300] * 3, fields, False))
        both.take(0, ("settle", len(both.deliveries) - 1 - number, draw.choice([Verb.ACK, Verb.NACK]), 0))
        both.take(0, ("credit", 1, 5 + 4 * number))
        most_absent = max(most_absent, both.sides[1].shard.state.names["a"].residence.absent)
    journal = both.sides[1].log._journal
    assert most_absent > 10
    assert journal.segment > journal.oldest > 3
