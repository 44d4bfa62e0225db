"""The core against the model: random commands, random time, random commits; everything is compared after every step.

WHERRY_TEST_MODEL_STEPS is the number of steps in all; since some examples end early, about one in six is not made. The
long run is `make sim`.

A failure prints the shortest list of steps found that fails, and a `@reproduce_failure` line that replays it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model import Consumer, Model, bodies_of, expanded, seen
from store_rules import StoreRules

from durable import durable_state
from wherry.model import commands, replies
from wherry_broker.core import bounds, dispatch, index, lane, memory, records, residence, timers, turns, view
from wherry_broker.core.batch import DEAD, DELAYED, GONE, LEASED, STATE_NAMES
from wherry_broker.core.effects import Delivery
from wherry_broker.core.families import LINEAGE_MAX
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.outbox import Outbox
from wherry_broker.core.policies import Policies, Policy
from wherry_broker.core.shard import Shard

STEPS = int(os.environ.get("WHERRY_TEST_MODEL_STEPS", "15000"))
STEPS_PER_EXAMPLE = 50
SPAN_BYTES_MAX = 8
PRODUCER_WINDOW_MS = 120
PRODUCER = "p"
"""All sessions are of one producer, as those of a client are that connects anew."""
NAMES = st.sampled_from(["a", "b"])
NAMES_AND_STORE = st.sampled_from(["a", "b", "s"])
VERBS = {"ack": 0, "nack": 1, "reject": 2, "release": 3, "extend": 4}
# The default bounds are so large that nothing would ever meet them.
DEFAULTS = QueueOptions(
    max_messages=16,
    max_bytes=48,
    lease_ms=40,
    max_attempts=2,
    retry_base_ms=20,
    retry_cap_ms=30,
    durability="synced",
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "max_messages": st.sampled_from([2, 9, 20, 40]),
        "max_bytes": st.sampled_from([5, 30, 60, 200]),
        "overflow": st.sampled_from(["busy", "drop_oldest"]),
        "lease_ms": st.sampled_from([10, 25, 1000]),
        "max_attempts": st.integers(1, 4),
        "retry_base_ms": st.sampled_from([0, 1, 10]),
        "retry_factor": st.sampled_from([1.0, 2.5]),
        "retry_cap_ms": st.sampled_from([0, 15, 1000]),
        "ttl_ms": st.sampled_from([0, 0, 20, 200]),
        "priorities": st.sampled_from([1, 3, 10]),
        "dedupe_window_ms": st.sampled_from([0, 30, 1000]),
        "dead_max_messages": st.sampled_from([0, 1, 4]),
        "max_leased": st.sampled_from([0, 2, 5]),
        "ordered": st.booleans(),
        "key_max_leased": st.sampled_from([0, 0, 1, 3]),
        "key_weights": st.sampled_from([{}, {"k": 3}]),
        "paused": st.sampled_from([False] * 7 + [True]),
        "bind": st.sampled_from([(), ("s.*",), (">",), ("*.a", "t"), ("s.a", "t.>")]),
    },
)
STORE_OPTIONS = ("max_messages", "max_bytes", "overflow", "ttl_ms")
POLICIES = st.lists(st.tuples(st.sampled_from(["a", "*", ">", "b", "a.b"]), OPTIONS), max_size=2)
RARELY = st.sampled_from([False] * 4 + [True])
RANGES = st.lists(st.integers(0, 30), max_size=3, unique=True).map(
    lambda starts: tuple((3 * start + 1, 1 + start % 3) for start in starts)
)
BODIES = st.lists(st.integers(0, 6), min_size=1, max_size=8)


def offsets_of(ranges):
    return [offset for first, count in sorted(ranges) for offset in range(first, first + count)]


def detailed(message):
    """What a peek shows of a message beside that."""
    due = message["due"] if message["state"] in ("leased", "delayed") else 0
    return (message["state"], due, message["expires_at"], *(message["failure"] or ("", "", 0)))


class Spy(Outbox):
    """An outbox that keeps a list of what was said since somebody looked."""

    def __init__(self):
        super().__init__()
        self.said = []

    def hold(self, effect, mark):
        self.said.append(effect)
        super().hold(effect, mark)


def restored(log, epoch, now):
    fresh = Shard(epoch, lambda: 0.5, DEFAULTS, producer_window_ms=PRODUCER_WINDOW_MS)
    for record in log:
        fresh.restore(record)
    fresh.restored(now)
    return fresh


class CoreMachine(StoreRules, RuleBasedStateMachine):
    """Drives a shard and the model with the same commands.

    Attributes:
        log: every record so far.
        taken: how many of them were taken out as batches; the rest waits.
        marks: for each queue's name, the commit that the newest record of a queue of that name is in.
        held: what was said and is not out yet: (effect, the commit that it must wait for), in order.
        in_flight: the mark of the commit that is under way; 0 when none is.
        delivered: all deliveries ever made, as (queue, first, count, attempt, epoch).
    """

    def __init__(self):
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        # Small, so that the sweeps and the cutting of spans happen within the few messages of an example.
        for module, name in ((index, "HOLES_MIN"), (lane, "GARBAGE_MIN"), (timers, "GARBAGE_MIN")):
            self.patches.setattr(module, name, 2)
        self.patches.setattr(dispatch, "SPAN_BYTES_MAX", SPAN_BYTES_MAX)
        self.patches.setattr(residence, "COMPACT_BYTES_MIN", 4)
        self.patches.setattr(turns, "QUANTUM", 2)
        self.jitter = 0.5
        self.defaults = DEFAULTS
        self.now = 1_000_000
        self.model = Model(1, self.now, SPAN_BYTES_MAX, PRODUCER_WINDOW_MS)
        self.begin(Shard(1, lambda: self.jitter, DEFAULTS, producer_window_ms=PRODUCER_WINDOW_MS))
        self.log = []
        self.taken = 0
        self.batches = [0]
        self.request = 0
        self.delivered = []
        self.policies = []
        self.sessions = []
        self.sent = []
        self.sequence = 0

    def begin(self, new):
        self.shard = new
        self.spy = self.shard.ledger._outbox = Spy()
        self.marks = {}
        self.held = []
        self.in_flight = self.committed = 0
        self.sessions = []

    # What every step does.

    def submit(self, session, kind, *fields, **more):
        """Submits a command; returns it and its reply, once the deliveries that came along are checked."""
        self.request += 1
        command = kind(self.request, *fields, **more)
        self.advance(0)
        self.shard.submit(session, command, self.now)
        return command, *self.settle_step(getattr(command, "queue", None))

    def settle_step(self, name=None):
        """Takes note of records and effects that came; returns the replies among these."""
        return [effect.say for effect in self.effects_of_step(name)]

    def effects_of_step(self, name):
        self.take_note_of_records()
        said, self.spy.said = self.spy.said, []
        others = []
        for effect in said:
            if isinstance(effect.say, Delivery):
                self.take_delivery(effect)
            else:
                self.held.append((effect, self.marks.get(name, 0)))
                others.append(effect)
        return others

    def take_note_of_records(self):
        for record in self.shard.ledger._records[len(self.log) - self.taken :]:
            self.log.append(record)
            if isinstance(record, records.Declared):
                self.names = {**getattr(self, "names", {}), record.queue: record.name}
            targets = record.targets if isinstance(record, records.Routed) else (record,)
            if not isinstance(record, records.Sequenced):
                self.marks |= {self.names[target.queue]: self.spy.gathering for target in targets}
        for queue in self.model.queues.values():
            core = self.shard.state.names.get(queue.name)
            if core is not None:
                queue.drop_dead({offset for span in core.dead() for offset in range(span.low, span.high)})

    def take_delivery(self, effect):
        say = effect.say
        queue = self.model.consumers[effect.session, say.consumer].queue
        self.model.deliver(effect.session, say.consumer, say.lease_ms, expanded((say.row,), say.lengths, say.data))
        self.delivered.append((queue.name, *say.row[:3], self.model.epoch))
        self.held.append((effect, self.marks.get(queue.name, 0)))

    def advance(self, ms):
        self.now += ms
        self.shard.tick(self.now)
        self.model.tick(self.now)
        self.watches_over(self.effects_of_step("s"))

    def model_queue(self, name):
        if name not in self.model.queues:
            self.model.declare(name, self.base(name))
        return self.model.queues[name]

    def refused(self, reply, code):
        assert isinstance(reply, replies.Error), reply
        assert (reply.request, reply.code) == (self.request, code), reply

    # Sessions and time.

    @initialize(options=st.tuples(OPTIONS, OPTIONS), credit=st.sampled_from([0, 3, 100]), eager=st.integers(0, 3))
    def start(self, options, credit, eager):
        self.eager = bool(eager)
        self.attach(10_000)
        for number, name in enumerate("ab"):
            self.declare(0, name, options[number])
            self.store(0, name, [1, 2, 1, 2])
            self.consume(0, 1 + number, name, credit, 0)
        self.declare_store({name: options[0][name] for name in STORE_OPTIONS if name in options[0]})

    @rule(room=st.sampled_from([1, 6, 20, 10_000]))
    def attach(self, room):
        number = self.shard.attach(room, PRODUCER)
        assert number not in self.model.rooms
        self.model.rooms[number] = room
        self.sessions.append(number)

    @precondition(lambda self: len(self.sessions) > 1)
    @rule(which=st.integers(0, 9), really=RARELY)
    def detach(self, which, really):
        if not really:
            return
        session = self.sessions.pop(which % len(self.sessions))
        self.advance(0)
        self.shard.detach(session, self.now)
        self.model.detach(session)
        assert self.settle_step() == []

    @rule(which=st.integers(0, 9), room=st.sampled_from([0, 6, 20, 10_000, 10_000]))
    def make_room(self, which, room):
        session = self.session(which)
        self.shard.make_room(session, room)
        self.model.rooms[session] = room
        self.pump()

    def session(self, which):
        return self.sessions[which % len(self.sessions)]

    @rule(ms=st.sampled_from([1, 1, 3, 3, 9, 10, 11, 20, 40, 150]))
    def wait(self, ms):
        self.advance(ms)
        self.pump()

    @rule(early=st.sampled_from([0, 1]))
    def wait_for_deadline(self, early):
        moment = self.shard.next_deadline_ms()
        if moment is not None:
            self.advance(max(0, moment - early - self.now))

    def pump(self):
        """What follows a command in the broker; in one example of four it has to be a step of its own."""
        if self.eager:
            self.dispatch()

    @rule()
    def dispatch(self):
        self.advance(0)
        self.shard.dispatch(self.now)
        self.watches_told(self.effects_of_step("s"))
        assert self.model.idle() == [], "could be delivered something"

    # Commands.

    @rule(
        which=st.integers(0, 9),
        name=NAMES,
        sizes=BODIES,
        priority=st.sampled_from([0, 0, 0, 1, 2, 3]),
        delay_ms=st.sampled_from([0, 0, 0, 1, 10, 30]),
        at=st.sampled_from([None, None, -5, 0, 15]),
        ttl_ms=st.sampled_from([0, 0, 0, 1, 12, 40]),
        dedupe=st.sampled_from(["", "", "k", "l"]),
        key=st.sampled_from(["", "", "k", "l"]),
        divisible=st.booleans(),
        sound=st.sampled_from([True] * 15 + [False]),
        behind=st.sampled_from([None, None, 0, 1, 5]),
    )
    def publish(self, which, name, sizes, at, **fields):
        self.store(which, name, sizes, at_ms=0 if at is None else self.now + at, **fields)
        self.pump()

    @rule(
        which=st.integers(0, 9),
        name=NAMES,
        parent=st.tuples(NAMES, st.integers(0, 9)),
        sizes=BODIES,
        delay_ms=st.sampled_from([0, 0, 10]),
        ttl_ms=st.sampled_from([0, 0, 12]),
        dedupe=st.sampled_from(["", "", "k"]),
        divisible=st.booleans(),
    )
    def publish_as_child(self, which, name, parent, sizes, **fields):
        """A message sends others; or one does that has ended, or never was."""
        of, newest = parent
        queue = self.model.queues.get(of)
        sender = queue.messages[-1 - newest] if queue is not None and newest < len(queue.messages) else None
        lineage = None
        if sender is not None and sender["state"] != "dead":
            lineage = (*sender["lineage"], (queue, sender["offset"]))
            lineage = lineage if len(lineage) <= LINEAGE_MAX else (lineage[0], *lineage[1 - LINEAGE_MAX :])
        offset = sender["offset"] if sender is not None else 77
        self.store(which, name, sizes, parent=f"{of}/{offset}", lineage=lineage, **fields)
        self.pump()

    def store(self, which, name, sizes, *, sound=True, behind=None, lineage=(), **fields):
        if behind is not None:
            self.sequence += 1
            fields |= {"sequence": self.sequence, "answered": max(0, self.sequence - 1 - behind)}
        lengths = b"".join(size.to_bytes(4, "big") for size in sizes)
        block = b"".join(bytes([65 + (self.request + number) % 26]) * size for number, size in enumerate(sizes))
        fields["block"] = block if sound else block + b"!"
        command, reply = self.submit(self.session(which), commands.Publish, name, lengths, **fields)
        queue = self.model_queue(name)
        if not sound and isinstance(reply, replies.Error):
            self.refused(reply, "invalid")
            return
        before = queue.next_offset
        expected = queue.publish(bodies_of(lengths, block), command, self.now, lineage)
        if command.sequence and expected[0] == "confirm":
            self.model.producer.remember(command, (queue, expected[1], queue.next_offset - before), self.now)
        elif command.sequence and expected[4]:
            self.model.producer.remember(command, (queue, *expected[3:]), self.now)
        self.sent += [command] if command.sequence else []
        if expected[0] == "confirm":
            assert reply == replies.Confirm("synced", ((self.request, *expected[1:]),))
            assert sound or expected[2]
            return
        if expected[1] == "stale_delivery":  # it is of the parent's queue that something is said
            self.held[-1] = (self.held[-1][0], self.marks.get(command.parent.partition("/")[0], 0))
        self.refused(reply, expected[1])
        assert (reply.bound, reply.first, reply.accepted) == expected[2:]
        assert reply.retryable == (reply.code == "busy")
        if reply.code == "busy":
            assert bounds.RETRY_AFTER_FLOOR_MS <= reply.retry_after_ms <= bounds.RETRY_AFTER_CEILING_MS

    @rule(
        which=st.integers(0, 9),
        subject=st.sampled_from(["s.a", "s.a", "s.b", "t", "t.a.b"]),
        sizes=BODIES,
        priority=st.sampled_from([0, 0, 1, 9]),
        delay_ms=st.sampled_from([0, 0, 0, 10, 30]),
        ttl_ms=st.sampled_from([0, 0, 12, 40]),
        dedupe=st.sampled_from(["", "", "k", "l"]),
        key=st.sampled_from(["", "k"]),
        allow_unroutable=st.booleans(),
    )
    def publish_topic(self, which, subject, sizes, **fields):
        lengths = b"".join(size.to_bytes(4, "big") for size in sizes)
        block = b"".join(bytes([97 + (self.request + number) % 26]) * size for number, size in enumerate(sizes))
        command, reply = self.submit(
            self.session(which), commands.PublishTopic, subject, lengths, block=block, **fields
        )
        bound = [queue.name for queue in self.model.bound(subject)]
        answer, *expected = self.model.topic(bodies_of(lengths, block), command, self.now)
        if answer == "error":
            self.refused(reply, expected[0])
            assert reply.queue in expected[1]
            assert (reply.first, reply.accepted) == (0, 0)
        else:
            waits_for = max((self.marks.get(name, 0) for name in bound), default=max(self.marks.values(), default=0))
            self.held[-1] = (self.held[-1][0], waits_for)
            assert reply == replies.Routed(self.request, expected[0], "synced" if bound else "", expected[1])
        self.pump()

    publish_to_topic_more = publish_topic
    publish_more, publish_yet_more = publish, publish  # more names, more weight

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 9), newest=st.integers(0, 4))
    def publish_again(self, which, newest):
        """What was sent is sent again, as by a client that has lost its connection before the answer."""
        old = self.sent[-1 - newest % len(self.sent)]
        known = self.model.producer.known(old.sequence, self.now)
        if known is None and old.sequence > self.model.producer.answered:
            return  # it was refused, or its producer is forgotten: it would count as new
        _, *fields = old
        _, reply = self.submit(self.session(which), type(old), *fields)
        if known is None:
            self.refused(reply, "invalid")
        elif type(old) is commands.Commit:
            self.check_committed_again(old, known, reply)
        else:
            self.check_published_again(old, known, reply)

    def check_committed_again(self, old, known, reply):
        rows = [
            (first, not stored or not row[7], self.level_of(queue))
            for (queue, first, stored), row in zip(known, old.publishes, strict=True)
        ]
        assert reply == replies.Committed(self.request, tuple(rows))

    def level_of(self, queue):
        return "synced" if self.model.queues.get(queue.name) is queue else "memory"

    def check_published_again(self, old, known, reply):
        queue, first, stored = known
        if 0 < stored < len(old.lengths) // 4:
            self.refused(reply, "busy")
            assert (reply.first, reply.accepted) == (first, stored)
        else:
            assert reply == replies.Confirm(
                self.level_of(queue), ((self.request, first, not stored or not old.dedupe),)
            )

    publish_yet_again = publish_again

    @precondition(lambda self: self.delivered)
    @rule(
        which=st.integers(0, 9),
        newest=st.integers(0, 6),
        verb=st.sampled_from([*VERBS, "ack", "nack"]),
        cut=st.sampled_from([(0, 0), (0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (-1, -1)]),
        wrong=st.sampled_from([(0, 0)] * 8 + [(1, 0), (-1, 0), (0, 1), (0, -1)]),
        duration_ms=st.sampled_from([None, None, 0, 10, 30]),
        text=st.sampled_from(["", "boom"]),
        jitter=st.sampled_from([0.0, 0.5, 0.99]),
        two=st.booleans(),
        old=RARELY,
    )
    def settle(self, which, newest, verb, cut, wrong, duration_ms, text, jitter, two, old):
        known = self.delivered if old else [each for each in self.delivered if self.is_live(*each)] or self.delivered
        name, _, _, _, epoch = known[-1 - newest % len(known)]
        same = [each for each in known if each[0] == name and each[4] == epoch][-1 - newest :]
        deliveries, used = [], set()
        for _, first, count, attempt, _ in same[: 2 if two else 1]:
            low, high = max(1, first + cut[0]), first + count - cut[1]
            if low < high and used.isdisjoint(range(low, high)):
                used.update(range(low, high))
                deliveries.append((low, high - low, max(0, attempt + wrong[0])))
        self.jitter = jitter
        command, reply = self.submit(
            self.session(which),
            commands.Settle,
            name,
            VERBS[verb],
            epoch + wrong[1],
            tuple(deliveries),
            duration_ms,
            text,
        )
        if name not in self.model.queues:
            self.refused(reply, "not_found")
            return
        if verb == "extend" and duration_ms == 0:
            self.refused(reply, "invalid")
            return
        stale = self.model.queues[name].settle(verb, command, self.model.epoch, self.now, jitter)
        self.take_note_of_records()
        assert reply == replies.Settled(((self.request, stale),))
        self.pump()

    @rule(
        which=st.integers(0, 9),
        settles=st.lists(
            st.tuples(st.integers(0, 6), st.sampled_from([*VERBS, "ack", "ack", "ack", "nack"]), RARELY, RARELY),
            max_size=3,
        ),
        publishes=st.lists(
            st.tuples(
                NAMES,
                st.lists(st.integers(0, 6), min_size=1, max_size=3),
                st.sampled_from([0, 0, 0, 1, 3]),
                st.sampled_from(["", "k"]),
                st.sampled_from([0, 0, 10]),
                st.sampled_from([0, 0, 12]),
                st.sampled_from(["", "", "k", "l"]),
            ),
            max_size=3,
        ),
        jitter=st.sampled_from([0.0, 0.5, 0.99]),
        behind=st.sampled_from([None, None, 0, 2]),
    )
    def commit_together(self, which, settles, publishes, jitter, behind):
        """A COMMIT: all of it happens, or nothing."""
        self.jitter = jitter
        rows = [self.settle_row(*each) for each in settles if self.delivered]
        stored, block = [], b""
        for name, sizes, priority, key, delay_ms, ttl_ms, dedupe in publishes:
            bodies = [bytes([97 + (self.request + len(stored)) % 26]) * size for size in sizes]
            lengths = b"".join(size.to_bytes(4, "big") for size in sizes)
            command = commands.Publish(0, name, lengths, priority, key, delay_ms, 0, ttl_ms, dedupe)
            stored.append((name, bodies, command))
            block += b"".join(bodies)
        asked = [(row[0], list(VERBS)[row[1]], commands.Settle(0, *row)) for row in rows]
        numbers = ()
        if behind is not None:
            self.sequence += 1
            numbers = (self.sequence, max(0, self.sequence - 1 - behind))
        whole, reply = self.submit(
            self.session(which),
            commands.Commit,
            tuple(rows),
            tuple(each[1:9] for *_, each in stored),
            *numbers,
            block=block,
        )
        self.sent += [whole] if whole.sequence else []
        for name in self.shard.state.names:  # one that is published to may have been declared
            self.model_queue(name)
        known = [each for each in stored if each[0] in self.model.queues]
        if known == stored:
            reasons, answer = self.model.commit(asked, stored, jitter)
            self.take_note_of_records()
        else:  # refused before it could declare them all
            reasons, answer = self.model.commit_reasons(asked, known), ()
            assert reasons
        if reasons:
            assert (reply.code, reply.queue) in reasons, (reply, reasons)
            return
        assert reply == replies.Committed(self.request, answer)
        if whole.sequence and (asked or stored):
            done = [
                (self.model.queues[name], first, 0 if duplicate else len(bodies))
                for (name, bodies, _), (first, duplicate, _) in zip(stored, answer, strict=True)
            ]
            self.model.producer.remember(whole, done, self.now)
        names = [name for name, *_ in (*asked, *stored)]
        mark = max((self.marks.get(name, 0) for name in names), default=0)
        self.held[-1] = (self.held[-1][0], mark)
        self.marks.update(dict.fromkeys(names, mark))
        self.pump()

    def settle_row(self, newest, verb, old, wrong):
        """A settle of a commit, of a delivery that mostly runs still."""
        known = self.delivered if old else [each for each in self.delivered if self.is_live(*each)] or self.delivered
        name, first, count, attempt, epoch = known[-1 - newest % len(known)]
        return (name, VERBS[verb], epoch, ((first, count, attempt + wrong),), None, "boom")

    def is_live(self, name, first, count, attempt, epoch):
        queue = self.model.queues.get(name)
        messages = [queue.at(offset) for offset in range(first, first + count)] if queue else []
        return epoch == self.model.epoch and any(
            message and message["state"] == "leased" and message["attempt"] + 1 == attempt for message in messages
        )

    settle_more, settle_yet_more, settle_still_more = settle, settle, settle

    @rule(
        which=st.integers(0, 9),
        number=st.integers(1, 5),
        name=NAMES,
        credit=st.integers(0, 12),
        lease_ms=st.sampled_from([0, 0, 10, 30, 500]),
    )
    def consume(self, which, number, name, credit, lease_ms):
        session = self.session(which)
        taken = (session, number) in self.model.consumers
        if not taken:
            from_model = self.model_consumer(session, number, name, credit, lease_ms)
        _, reply = self.submit(session, commands.Consume, number, name, credit, lease_ms)
        if taken:
            self.refused(reply, "invalid")
        else:
            assert reply == replies.Done(self.request)
            assert from_model not in self.model.idle()

    def model_consumer(self, session, number, name, credit, lease_ms):
        self.advance(0)
        self.model.consumers[session, number] = Consumer(self.model_queue(name), credit, lease_ms)
        return session, number

    @rule(which=st.integers(0, 9), number=st.integers(1, 5), more=st.integers(-2, 20))
    def credit(self, which, number, more):
        session = self.session(which)
        consumer = self.model.consumers.get((session, number))
        total = max(0, (consumer.granted if consumer else 0) + more)
        self.advance(0)
        self.shard.submit(session, commands.Credit(number, total), self.now)
        if consumer:
            consumer.granted = max(consumer.granted, total)
        assert self.settle_step() == []
        self.pump()

    @rule(which=st.integers(0, 9), number=st.integers(1, 5))
    def stop(self, which, number):
        session = self.session(which)
        consumer = self.model.consumers.pop((session, number), None)
        _, reply = self.submit(session, commands.Stop, number)
        if consumer is None:
            self.refused(reply, "not_found")
        else:
            assert reply == replies.Done(self.request, consumer.delivered)

    @rule(which=st.integers(0, 9), name=NAMES, options=st.one_of(st.just({}), OPTIONS))
    def declare(self, which, name, options):
        exists = name in self.model.queues
        if not exists:
            self.model.declare(name, {**self.base(name), **options})
        queue = self.model.queues[name]
        _, reply = self.submit(self.session(which), commands.Declare, name, options)
        if any(queue.options[key] != value for key, value in options.items()):
            self.refused(reply, "exists_differently")
        else:
            queue.asked |= options.keys()
            assert (reply.request, reply.created) == (self.request, not exists)
            self.check_info(queue, reply.info)

    @rule(policies=POLICIES, really=RARELY)
    def reconfigure(self, policies, really):
        if not really:
            return
        self.policies = policies
        self.advance(0)
        self.shard.reconfigure(Policies(DEFAULTS, [Policy(*each) for each in policies]), self.now)
        self.model.reconfigure(self.base)
        assert self.settle_step() == []
        self.pump()

    def base(self, name):
        """The options of a queue of that name that asks for none."""
        options = DEFAULTS.as_map()
        for pattern, more in self.policies:
            if pattern in (name, "*", ">"):
                options |= more
        return options | ({"kind": "store", "bind": ()} if name == "s" else {})

    @rule(which=st.integers(0, 9), name=NAMES_AND_STORE, options=OPTIONS)
    def alter(self, which, name, options):
        _, reply = self.submit(self.session(which), commands.Alter, name, options)
        if name not in self.model.queues:
            self.refused(reply, "not_found")
            return
        if name == "s" and options.get("bind"):
            self.refused(reply, "invalid")
            return
        self.model.queues[name].alter(options)
        self.model.queues[name].asked |= options.keys()
        self.settle_step()
        assert (reply.request, reply.created) == (self.request, False)
        self.check_info(self.model.queues[name], reply.info)
        self.pump()

    @rule(which=st.integers(0, 9), name=NAMES_AND_STORE)
    def info(self, which, name):
        _, reply = self.submit(self.session(which), commands.Info, name)
        if name in self.model.queues:
            self.check_info(self.model.queues[name], reply.info)
        else:
            self.refused(reply, "not_found")

    def check_info(self, queue, info):
        expected = queue.info(len(self.model.consumers_of(queue)), self.now)
        expected["attached"] = self.model.attached(queue)[: view.ATTACHED_MAX]
        expected["policies"] = tuple(pattern for pattern, _ in self.policies if pattern in (queue.name, "*", ">"))
        assert {key: value for key, value in info.items() if not key.endswith("_rate")} == expected

    @rule(which=st.integers(0, 9))
    def list_queues(self, which):
        _, reply = self.submit(self.session(which), commands.ListQueues)
        self.held[-1] = (self.held[-1][0], max(self.marks.values(), default=0))
        queues = sorted(self.model.queues.values(), key=lambda each: each.name)
        rows = tuple(each.row(len(self.model.consumers_of(each))) for each in queues)
        told = replies.Queues(self.request, rows, False, reply.memory_bytes, 0, len(self.sessions), "synced")
        assert reply == told

    @rule(
        which=st.integers(0, 9),
        name=NAMES_AND_STORE,
        states=st.lists(st.sampled_from([*STATE_NAMES, "odd"]), max_size=3),
    )
    def purge(self, which, name, states):
        _, reply = self.submit(self.session(which), commands.Purge, name, tuple(states))
        queue = self.model.queues.get(name)
        if queue is None:
            self.refused(reply, "not_found")
        elif {"leased", "odd"} & set(states):
            self.refused(reply, "invalid")
        else:
            gone = queue.where(*states)
            for message in gone:
                queue.remove(message, "purged")
            assert reply == replies.Done(self.request, len(gone))

    @rule(which=st.integers(0, 9), name=NAMES, really=RARELY)
    def delete(self, which, name, really):
        if not really:
            return
        _, *said = self.submit(self.session(which), commands.Delete, name)
        if name not in self.model.queues:
            self.refused(said[0], "not_found")
            return
        held, stopped = self.model.delete(name)
        assert said[-1] == replies.Done(self.request, held)
        assert [(each.consumer, each.code) for each in said[:-1]] == [(number, "not_found") for _, number in stopped]

    @rule(which=st.integers(0, 9), name=NAMES, paused=st.sampled_from([True, False, False, False]))
    def pause(self, which, name, paused):
        _, reply = self.submit(self.session(which), commands.Pause, name, paused)
        if name not in self.model.queues:
            self.refused(reply, "not_found")
            return
        queue = self.model.queues[name]
        if queue.options["paused"] != paused:
            queue.options["paused"] = paused
            queue.asked.add("paused")
        assert reply == replies.Done(self.request)
        self.pump()

    @rule(
        which=st.integers(0, 9),
        name=NAMES_AND_STORE,
        state=st.sampled_from([*STATE_NAMES, "", "odd"]),
        first=st.integers(0, 30),
        limit=st.integers(0, 12),
    )
    def peek(self, which, name, state, first, limit):
        _, reply = self.submit(self.session(which), commands.Peek, name, state, first, limit)
        queue = self.model.queues.get(name)
        if queue is None or state == "odd":
            self.refused(reply, "not_found" if queue is None else "invalid")
            return
        there = [each for each in queue.where(*([state] if state else STATE_NAMES)) if each["offset"] >= first]
        assert expanded(reply.spans, reply.lengths, reply.block) == [seen(each) for each in there[:limit]]
        details = [detail for row, detail in zip(reply.spans, reply.details, strict=True) for _ in range(row[1])]
        assert details == [detailed(each) for each in there[:limit]]
        rest = [each["offset"] for each in there[limit:]]
        assert (reply.next_offset > 0) >= bool(rest)
        assert not rest or reply.next_offset <= rest[0]

    @rule(which=st.integers(0, 9), name=NAMES_AND_STORE, ranges=RANGES)
    def cancel(self, which, name, ranges):
        *told, reply = self.submit(self.session(which), commands.Cancel, name, ranges)[1:]
        queue = self.model.queues.get(name)
        if queue is None:
            self.refused(reply, "not_found")
            return
        offsets = offsets_of(ranges)
        sent = [
            (other, message)
            for other in self.model.queues.values()
            for message in other.messages
            if message["state"] != "dead" and any((queue, offset) in message["lineage"] for offset in offsets)
        ]
        here = [(queue, message) for offset in offsets if (message := queue.at(offset)) is not None]
        gone = {(of.name, message["offset"]): (of, message) for of, message in (*sent, *here)}
        held = {}
        for of, message in gone.values():
            if message["state"] == "leased":
                held.setdefault(message["holder"], set()).add((message["offset"], message["attempt"] + 1))
            of.remove(message, "cancelled")
        self.take_note_of_records()
        assert reply == replies.Done(self.request, len(gone))
        found = {}
        for session, say in self.cancellations(told):
            deliveries = {(low + n, attempt) for low, count, attempt in say.deliveries for n in range(count)}
            found.setdefault((session, say.consumer), set()).update(deliveries)
        assert found == held
        self.pump()

    def cancellations(self, told):
        assert all(type(say) is replies.Cancelled for say in told)
        return [(effect.session, effect.say) for effect, _ in self.held if any(effect.say is say for say in told)]

    @rule(which=st.integers(0, 9), name=NAMES, ranges=RANGES, to=st.sampled_from(["", "", "a", "b"]))
    def redrive(self, which, name, ranges, to):
        _, reply = self.submit(self.session(which), commands.Redrive, name, ranges, to)
        queue, target = self.model.queues.get(name), self.model.queues.get(to or name)
        if queue is None or target is None:
            self.refused(reply, "not_found")
            return
        there = [message for offset in offsets_of(ranges) if (message := queue.at(offset)) is not None]
        dead = [message for message in there if message["state"] == "dead"]
        if dead and target is not queue and not target.fits([each["body"] for each in dead]):
            self.refused(reply, "too_large" if target.never_fits([each["body"] for each in dead]) else "busy")
            return
        if target is queue:
            dead = [each for each in dead if not each["expires_at"] or each["expires_at"] > self.now]
        for message in dead:
            queue.redrive(message, target, self.now)
        assert reply == replies.Done(self.request, len(dead))
        self.pump()

    # Commits.

    @precondition(lambda self: not self.in_flight)
    @rule()
    def take_batch(self):
        batch = self.shard.take_batch()
        waiting = self.log[self.taken :]
        assert (batch is None) == (not waiting)
        if batch is not None:
            assert list(batch.records) == waiting
            self.in_flight = batch.mark
            self.taken = len(self.log)
            self.batches.append(self.taken)

    @precondition(lambda self: self.in_flight)
    @rule()
    def commit(self):
        self.shard.committed(self.in_flight)
        self.committed, self.in_flight = self.in_flight, 0

    @rule()
    def take_effects(self):
        out = self.shard.take_effects()
        waits = {id(effect): mark for effect, mark in self.held}
        assert all(waits[id(effect)] <= self.committed for effect in out), "let out before its record was durable"
        free = {id(effect) for effect in out}
        for session, consumer in self.consumers_among(out):
            said = self.said_of(session, consumer, [effect for effect, _ in self.held])
            got = self.said_of(session, consumer, out)
            assert got == said[: len(got)], "out of order"
        self.held = [each for each in self.held if id(each[0]) not in free]

    def consumers_among(self, effects):
        return {(each.session, each.say.consumer) for each in effects if hasattr(each.say, "consumer")}

    def said_of(self, session, consumer, effects):
        return [
            id(each) for each in effects if each.session == session and getattr(each.say, "consumer", 0) == consumer
        ]

    def finish(self):
        """Commits everything; nothing may be held back then."""
        if self.in_flight:
            self.commit()
        self.take_batch()
        if self.in_flight:
            self.commit()
        self.take_effects()
        assert self.held == []

    @rule(cut=st.integers(0, 50))
    def replay(self, cut):
        restored(self.log[: self.batches[-1 - cut % len(self.batches)]], 9, self.now)  # any prefix can be read
        self.advance(0)
        fresh = restored(self.log, 9, self.now)
        assert durable_state(fresh.state, self.now) == durable_state(self.shard.state, self.now)
        assert fresh.leased == 0

    @rule(really=RARELY)
    def restart(self, really):
        if not really:
            return
        self.finish()
        self.advance(0)
        epoch = self.model.epoch + 1
        fresh = Shard(epoch, lambda: self.jitter, DEFAULTS, producer_window_ms=PRODUCER_WINDOW_MS)
        for record in self.log:
            fresh.restore(record)
        self.begin(fresh)
        self.taken = len(self.log)
        self.shard.restored(self.now)
        self.model.restart(epoch)
        self.policies = []
        self.attach(10_000)
        assert self.settle_step() == []

    # Invariants.

    @invariant()
    def queues_agree(self):
        assert set(self.shard.state.names) == set(self.model.queues)
        for name, queue in self.shard.state.names.items():
            self.check_queue(queue, self.model.queues[name])

    def check_queue(self, core, queue):
        found = []
        counts, sizes = [0, 0, 0, 0], [0, 0, 0, 0]
        for span in core.spans():
            assert span.low < span.high
            assert span.state != GONE
            assert (span.consumer is not None) == (span.state == LEASED)
            assert span.consumer is None or span in span.consumer.spans
            assert bool(span.timer) == (span.state in (DELAYED, LEASED))
            counts[span.state] += len(span)
            sizes[span.state] += span.size()
            for offset in range(span.low, span.high):
                due = span.due_ms if span.timer else 0
                found.append((offset, STATE_NAMES[span.state], span.attempt, span.released, span.failure, due))
        fields = ("offset", "state", "attempt", "released", "failure", "due")
        assert found == [tuple(each[field] for field in fields) for each in queue.messages]
        assert (core.counts, core.sizes) == (counts, sizes)
        assert sizes == [queue.size(state) for state in STATE_NAMES]
        before = queue.held_before
        assert core.messages_held <= max(core.options.max_messages, before.get("messages", 0))
        assert core.bytes_held <= max(core.options.max_bytes, before.get("bytes", 0))
        assert counts[DEAD] <= core.options.dead_max_messages
        assert not core.options.max_leased or counts[LEASED] <= max(core.options.max_leased, before.get("leased", 0))
        assert core.next_offset == queue.next_offset
        assert (core.removed, core.ended) == (queue.removed, queue.ended)

    @invariant()
    def memory_agrees(self):
        """What is counted as taken is what there is, counted one by one."""
        state = self.shard.state
        producers = state.producers
        told = memory.PRODUCER_BYTES * len(producers) + memory.SEQUENCE_BYTES * producers.rows
        of_queues = sum(map(self.memory_of, state.queues.values()))
        blocks = [batch.block for queue in state.queues.values() for batch in queue.batches_since(0)]
        # What several queues share is there once.
        of_queues += sum({id(each.shared or each): len(each.data) for each in blocks if each.data is not None}.values())
        assert state.memory.held_bytes == of_queues + memory.TIMER_BYTES * state.timers.entries + told

    def memory_of(self, queue):
        spans = list(queue.spans())
        lanes = sum(len(each._lanes) for each in queue._turns)
        limited = len(queue.keys._keys) if queue.keys else 0
        return (
            memory.QUEUE_BYTES
            + sum(memory.batch_bytes(batch) for batch in queue.batches_since(0))
            + sum(memory.SPAN_BYTES + memory.story_bytes(span) for span in spans)
            + sum(memory.DEDUPE_BYTES + memory.text_bytes(key) for key in queue.dedupe)
            + memory.LANE_BYTES * lanes
            + memory.LIMITED_BYTES * limited
        )

    @invariant()
    def families_agree(self):
        """All that was sent by others is known by each of its ancestors, and nothing else is."""
        expected = {}
        for queue in self.shard.state.queues.values():
            for batch in queue.batches_since(0):
                for ancestor in batch.envelope.lineage:
                    expected.setdefault(ancestor, set()).add(batch)
        families = self.shard.state.families
        assert {known: set(families.descendants(known[0], ((known[1], 1),))) for known in expected} == expected
        assert len(families) == len(expected)

    @invariant()
    def time_agrees(self):
        assert self.shard.next_deadline_ms() == self.model.next_moment()

    @invariant()
    def consumers_agree(self):
        found = {
            (number, consumer.number): (consumer.granted, consumer.delivered, session.room_bytes)
            for number, session in self.shard._sessions.items()
            for consumer in session.consumers.values()
        }
        assert found == {
            key: (each.granted, each.delivered, self.model.rooms[key[0]]) for key, each in self.model.consumers.items()
        }

    def teardown(self):
        self.patches.undo()


CoreMachine.TestCase.settings = settings(
    max_examples=max(1, STEPS // STEPS_PER_EXAMPLE),
    stateful_step_count=STEPS_PER_EXAMPLE,
    deadline=None,
    report_multiple_bugs=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TestCore = CoreMachine.TestCase


def test_every_command_is_held_against_a_model():
    """A new verb of the core comes with its place here, in store_rules.py, or in a model of its own."""
    reading = {
        "ReadGate",
        "Status",
        "ReadResults",
        "Await",
        "ListSchedules",
    }  # they change nothing, and have tests of their own
    names = {kind.__name__ for kind in Shard(1, lambda: 0.5)._commands} - reading
    folder = Path(__file__).parent
    sources = "".join(
        (folder / name).read_text("utf-8") for name in ("test_core_model.py", "store_rules.py", "test_schedules.py")
    )
    assert {name for name in names if not re.search(rf"commands\.{name}\b", sources)} == set()
