"""How tracked messages end, against a model that knows no ranges: each message and each request is one by itself.

Random ends of random neighbours, random requests that wait for them, restarts, and logs that were written again. After
every step all that was said is compared, and how each message ended.
"""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wherry.model import commands, replies
from wherry_broker.core import outcomes, residence, tracking, watching
from wherry_broker.core.batch import LEASED
from wherry_broker.core.housekeeping import preamble, rehomed
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard

ACK, REJECT = 0, 2
EXAMPLES, STEPS = 120, 30
TTL_MS = 1_000
WAITS_MAX = 12
LIVE = ("ready", "leased")
# The model counts no attempts: a consumer that is lost again and again must not make its messages dead.
DEFAULTS = QueueOptions(durability="synced", result_ttl_ms=TTL_MS, lease_ms=1_000_000, max_attempts=1_000_000)
FIRST = st.integers(1, 40)
COUNT = st.integers(1, 12)


def expanded(say):
    """(request, what is said of it) for each request that a reply answers."""
    if isinstance(say, replies.Returned):
        ends = list(accumulate(struct.unpack(f">{len(say.lengths) // 4}I", say.lengths), initial=0))
        requests = [first + place for first, count in say.requests for place in range(count)]
        results = [say.block[begin:end] for begin, end in pairwise(ends)]
        return [(request, ("settled", result)) for request, result in zip(requests, results, strict=True)]
    if isinstance(say, replies.Told):
        return [(say.request, (say.status["state"], say.block))]
    return [(say.request, (say.code, b""))]


class Outcomes(RuleBasedStateMachine):
    """Drives a shard and the model.

    Attributes:
        ends: of each tracked message that has ended and is not forgotten, by offset: (state, result, forgotten at).
        live: the messages that have not ended, by offset: whether each is tracked.
        dead: the tracked messages that are dead, and can be redriven.
        waiting: who waits: (session, offset, until), by session and request.
        said: what was said to whom since the last comparison: by session and request.
        expected: the same, of what is known at once.
    """

    def __init__(self):
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(outcomes, "BATCH_BYTES_MAX", 600)
        self.patches.setattr(residence, "COMPACT_BYTES_MIN", 4)
        self.patches.setattr(watching, "WATCHES_MAX", WAITS_MAX)
        self.now = 1_000
        self.log = []
        self.ends, self.live, self.dead = {}, {}, set()
        self.next_offset, self.request, self.epoch = 1, 0, 1
        self.begin(Shard(1, lambda: 0.5, DEFAULTS))

    def begin(self, shard):
        self.shard = shard
        self.waiting, self.said, self.expected = {}, {}, {}
        self.sessions = [shard.attach(1 << 30) for _ in range(2)]
        self.submit(commands.Consume, 1, "q", 24)

    @initialize()
    def start(self):
        for _ in range(3):
            self.publish(12, True)

    def submit(self, kind, *fields, session=0, requests=1, **more):
        """Submits a command that stands for so many requests; returns the first one."""
        self.request += requests
        first = self.request - requests + 1
        numbers = () if kind is commands.Credit else (first,)
        self.shard.submit(self.sessions[session], kind(*numbers, *fields, **more), self.now)
        self.turn()
        return first

    def turn(self):
        self.shard.dispatch(self.now)
        while commit := self.shard.take_batch():
            self.log += commit.records
            self.shard.committed(commit.mark)
        for effect in self.shard.take_effects():
            if isinstance(effect.say, replies.Returned | replies.Told | replies.Error):
                for request, what in expanded(effect.say):
                    key = self.sessions.index(effect.session), request
                    assert key not in self.said, "it is said twice"
                    self.said[key] = what

    # Messages.

    @rule(count=COUNT, tracked=st.sampled_from([True, True, True, False]))
    def publish(self, count, tracked):
        self.submit(commands.Publish, "q", (1).to_bytes(4, "big") * count, block=b"x" * count, track=tracked)
        for _ in range(count):
            self.live[self.next_offset] = tracked
            self.next_offset += 1

    publish_more = publish

    @rule(more=st.integers(1, 20))
    def credit(self, more):
        self.submit(commands.Credit, 1, more)

    @rule(first=FIRST, count=COUNT, size=st.integers(0, 90), verb=st.sampled_from([ACK, REJECT]))
    def settle(self, first, count, size, verb):
        """Ends those of some messages that are leased, with results of different lengths."""
        rows, bodies = [], []
        for span in self.shard.state.names["q"].spans(first, first + count) if self.has_queue() else ():
            low, high = max(first, span.low), min(first + count, span.high)
            if span.state == LEASED:
                rows.append((low, high - low, span.attempt + 1))
                bodies += [bytes([65 + offset % 26]) * (size * (offset % 3)) for offset in range(low, high)]
        if not rows:
            return
        offsets = [low + place for low, number, _ in rows for place in range(number)]
        results = struct.pack(f">{len(bodies)}I", *map(len, bodies)) if verb == ACK else b""
        block = b"".join(bodies) if verb == ACK else b""
        for offset, body in zip(offsets, bodies, strict=True):
            self.end(offset, *(("settled", body) if verb == ACK else ("dead", b"")))
        self.submit(commands.Settle, "q", verb, self.epoch, tuple(rows), results=results, block=block)

    settle_more = settle_yet_more = settle

    def has_queue(self):
        return "q" in self.shard.state.names

    def end(self, offset, state, result=b""):
        if self.live.pop(offset):
            self.ends[offset] = state, result, self.now + TTL_MS
        if state == "dead":
            self.dead.add(offset)

    @rule(first=FIRST, count=COUNT)
    def cancel(self, first, count):
        for offset in range(first, first + count):
            if offset in self.live:
                self.end(offset, "cancelled")
            self.dead.discard(offset)  # what has died has ended, however it goes
        if self.has_queue():
            self.submit(commands.Cancel, "q", ((first, count),))

    @rule(first=FIRST, count=COUNT)
    def redrive(self, first, count):
        if not self.has_queue():
            return
        tracked = {offset: span.batch.envelope.tracked for offset in self.dead for span in [self.span(offset)]}
        for offset in self.dead & set(range(first, first + count)):
            self.dead.discard(offset)
            self.ends.pop(offset, None)
            self.live[offset] = tracked[offset]
        self.submit(commands.Redrive, "q", ((first, count),))

    redrive_more = redrive

    def span(self, offset):
        return self.shard.state.names["q"].span_at(offset)

    # Who asks.

    @rule(session=st.integers(0, 1), first=FIRST, count=COUNT, wait_ms=st.sampled_from([0, 50, 400, 5_000]))
    def await_some(self, session, first, count, wait_ms):
        self.turn_and_forget()
        for place in range(count):
            self.ask(session, self.request + 1 + place, first + place, wait_ms)
        self.submit(commands.Await, "q", first, count, wait_ms, session=session, requests=count)

    await_more = await_yet_more = await_some

    @rule(session=st.integers(0, 1), offset=FIRST, wait_ms=st.sampled_from([0, 50, 5_000]))
    def status(self, session, offset, wait_ms):
        self.ask(session, self.request + 1, offset, wait_ms)
        self.submit(commands.Status, "q", offset, wait_ms, session=session)

    def ask(self, session, request, offset, wait_ms):
        answer = None
        if offset in self.ends and offset not in self.dead:
            answer = self.ends[offset][:2]
        elif offset in self.dead:
            answer = "dead", b""
        elif offset not in self.live:
            answer = "not_found", b""
        elif wait_ms and not self.live[offset]:
            answer = "invalid", b""
        elif wait_ms and sum(1 for of, _ in self.waiting if of == session) >= WAITS_MAX:
            answer = "unavailable", b""
        elif wait_ms:
            self.waiting[session, request] = offset, self.now + wait_ms
        else:
            answer = "live", b""
        if answer is not None:
            self.expected[session, request] = answer

    @rule(first=FIRST, count=COUNT)
    def read_results(self, first, count):
        self.request += 1
        self.shard.submit(self.sessions[0], commands.ReadResults(self.request, "q", ((first, count),)), self.now)
        (reply,) = [each.say for each in self.shard.take_effects() if isinstance(each.say, replies.Results)]
        ends = list(accumulate(struct.unpack(f">{reply.answered}I", reply.lengths), initial=0))
        assert reply.answered == count
        lacking = {place: state for place, state, *_ in reply.unresulted}
        for place, (begin, end) in enumerate(pairwise(ends)):
            state, result, _ = self.ends.get(first + place, ("", b"", 0))
            assert reply.block[begin:end] == (result if state == "settled" else b"")
            assert (place not in lacking) == (state == "settled")

    # Time, restarts and logs.

    @rule(ms=st.sampled_from([1, 49, 50, 300, 700]))
    def wait(self, ms):
        self.now += ms
        self.turn_and_forget()

    def turn_and_forget(self):
        for offset in [offset for offset, (*_, until) in self.ends.items() if until <= self.now]:
            del self.ends[offset]
        self.shard.tick(self.now)
        self.turn()

    @rule(session=st.integers(0, 1))
    def detach(self, session):
        self.shard.detach(self.sessions[session], self.now)
        self.waiting = {key: wait for key, wait in self.waiting.items() if key[0] != session}
        self.sessions[session] = self.shard.attach(1 << 30)
        self.turn()
        if session == 0:
            self.submit(commands.Consume, 1, "q", 24)

    @rule(rewrite=st.booleans())
    def restart(self, rewrite):
        """The log is read; before that, perhaps, what is alive was written again, and the rest of it forgotten."""
        if rewrite:
            state = self.shard.state
            moved = [rehomed(batch) for queue in state.queues.values() for batch in queue.batches_since(0)]
            self.log = [preamble(state), *moved]
        self.epoch += 1
        fresh = Shard(self.epoch, lambda: 0.5, DEFAULTS)
        for record in self.log:
            fresh.restore(record)
        fresh.restored(self.now)
        self.begin(fresh)

    @invariant()
    def all_is_said_and_no_more(self):
        for key, (offset, until) in list(self.waiting.items()):
            if offset in self.ends:
                self.expected[key] = self.ends[offset][:2]
            elif until <= self.now:
                self.expected[key] = "live", b""
            else:
                continue
            del self.waiting[key]
        said = {
            key: ("live" if what[0] in ("ready", "leased") else what[0], what[1]) for key, what in self.said.items()
        }
        assert said == self.expected
        self.said, self.expected = {}, {}

    @invariant()
    def each_end_is_remembered(self):
        for offset in range(1, self.next_offset):
            kept = tracking.outcome_of(self.shard.state, "q", offset)
            found = None if kept is None else tracking.read_outcome(kept.data)
            wanted = self.ends.get(offset)
            assert (found and (found.status["state"], found.result)) == (wanted and wanted[:2])

    @invariant()
    def nobody_is_counted_who_waits_no_more(self):
        for place, number in enumerate(self.sessions):
            session = self.shard._sessions[number]
            assert session.awaited == sum(1 for of, _ in self.waiting if of == place)
            assert sum(wait.left for wait in session.waits) == session.awaited

    def teardown(self):
        try:
            self.all_is_forgotten()
        finally:
            self.patches.undo()

    def all_is_forgotten(self):
        """Once all outcomes are forgotten, nothing is left that takes memory."""
        for session in self.sessions:
            self.shard.detach(session, self.now)
        if self.has_queue():
            session = self.shard.attach(1 << 30)
            self.shard.submit(session, commands.Delete(1, "q"), self.now)
        self.now += TTL_MS
        self.shard.tick(self.now)
        state = self.shard.state
        stores = [queue for queue in state.queues.values() if isinstance(queue, outcomes.Outcomes)]
        assert all(not store.waits and not store._kept and not store.messages_held for store in stores)
        empty = Shard(1, lambda: 0.5, DEFAULTS)
        for fact in tracking.store_facts(empty.state, "synced") if stores else ():
            empty.restore(fact)
        assert state.memory._held == empty.state.memory._held


TestOutcomes = Outcomes.TestCase
TestOutcomes.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
