"""Gates: a message waits until others have ended, and nothing that happens to the log makes it wait for ever."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry_broker.core import gates, housekeeping
from wherry_broker.core.records import Removed, Tallied

QUEUE = {"retry_base_ms": 0, "max_attempts": 2}


def put(queue, *bodies, dedupe="", delay_ms=0):
    lengths = b"".join(len(each).to_bytes(4, "big") for each in bodies)
    return (queue, lengths, 0, "", delay_ms, 0, 0, dedupe), b"".join(bodies)


def commit(driver, *puts, gates=(), settles=()):
    rows, blocks = zip(*puts, strict=True) if puts else ((), ())
    said = driver.submit(commands.Commit, settles, rows, gates=gates, block=b"".join(blocks))
    return next(each for each in said if isinstance(each, replies.Committed | replies.Error))


def gated(driver, count, *, strict=False, name="all"):
    """A message in `done` that waits for `count` messages in `work`, which are leased to consumer 1."""
    bodies = [b"%d" % each for each in range(count)]
    said = commit(
        driver, put("done", b"then"), put("work", *bodies), gates=((0, name, count, strict), (1, name, 0, False))
    )
    assert isinstance(said, replies.Committed), said
    driver.consume(queue="work")
    return said.publishes[1][0]


def gate(driver, name="all"):
    (said,) = driver.submit(commands.ReadGate, name)
    return said


@pytest.fixture
def driver(make_shard):
    driver = make_shard()
    for name in ("work", "done"):
        driver.submit(commands.Declare, name, QUEUE)
    return driver


def test_it_waits_until_all_have_ended(driver):
    first = gated(driver, 3)
    assert driver.counts("done") == (0, 1, 0, 0)
    driver.settle(Verb.ACK, (first, 2, 1), queue="work")
    assert driver.counts("done") == (0, 1, 0, 0)
    assert gate(driver)[1:] == ("done", 1, 1, 0, False, (("work", first, 3),), False)
    driver.settle(Verb.ACK, (first + 2, 1, 1), queue="work")
    assert driver.counts("done") == (1, 0, 0, 0)
    assert driver.consume(2, queue="done") == [(1, 1, 1)]
    assert gate(driver)[3:5] == (0, 0)
    driver.settle(Verb.ACK, (1, 1, 1), queue="done")
    assert gate(driver).code == "not_found"


def test_the_last_end_and_what_it_lets_through_are_one_entry(driver):
    first = gated(driver, 1)
    driver.hold(commands.Settle, "work", Verb.ACK, 1, ((first, 1, 1),))
    batch = driver.shard.take_batch()
    assert [type(record) for record in batch.records] == [Removed, Tallied]
    driver.shard.committed(batch.mark)


def end(driver, how, offset):
    match how:
        case "rejected":
            driver.settle(Verb.REJECT, (offset, 1, 1), queue="work", text="bad")
        case "cancelled":
            driver.submit(commands.Cancel, "work", ((offset, 1),))
        case "attempts":
            driver.settle(Verb.NACK, (offset, 1, 1), queue="work", text="bad")
            driver.settle(Verb.NACK, (offset, 1, 2), queue="work", text="bad")
        case "deleted":
            driver.submit(commands.Delete, "work")


FATES = [
    ("rejected", "is dead: bad"),
    ("attempts", "is dead: bad"),
    ("cancelled", "was cancelled"),
    ("deleted", "went with its queue"),
]


@pytest.mark.parametrize(("how", "fate"), FATES)
def test_at_a_strict_gate_the_first_that_fails_makes_it_dead(driver, how, fate):
    first = gated(driver, 2, strict=True)
    end(driver, how, first)
    assert driver.counts("done") == (0, 0, 0, 1)
    (peeked,) = driver.submit(commands.Peek, "done", "dead")
    assert peeked.details[0][3:5] == ("gate", f"work/{first}, which it waited for, {fate}")
    assert driver.info("done")["ended"] == {}


@pytest.mark.parametrize("how", [how for how, _ in FATES if how != "deleted"])
def test_otherwise_it_goes_on_and_can_tell(driver, how):
    first = gated(driver, 2)
    end(driver, how, first)
    assert driver.counts("done") == (0, 1, 0, 0)
    driver.settle(Verb.ACK, (first + 1, 1, 1), queue="work")
    assert driver.counts("done") == (1, 0, 0, 0)
    assert gate(driver)[3:5] == (0, 1)


def test_a_message_that_died_is_counted_once(driver):
    first = gated(driver, 2)
    end(driver, "rejected", first)
    (error,) = driver.submit(commands.Redrive, "work", ((first, 1),))
    assert error.text == f"work/{first} was counted at gate 'all' when it died; another queue may take it"
    driver.submit(commands.Declare, "elsewhere", QUEUE)
    driver.submit(commands.Redrive, "work", ((first, 1),), "elsewhere")
    assert driver.counts("elsewhere") == (1, 0, 0, 0)
    assert gate(driver)[3:5] == (1, 1)


def test_what_counts_may_come_later_and_from_several_queues(driver):
    commit(driver, put("done", b"then"), gates=((0, "all", 3, False),))
    for queue in ("a", "a", "b"):
        commit(driver, put(queue, b"x"), gates=((0, "all", 0, False),))
    assert gate(driver).members == (("a", 1, 2), ("b", 1, 1))
    for number, queue, count in ((1, "a", 2), (2, "b", 1)):
        driver.consume(number, queue=queue)
        driver.settle(Verb.ACK, (1, count, 1), queue=queue)
    assert driver.counts("done") == (1, 0, 0, 0)


def test_a_message_may_count_for_several_gates(driver):
    said = commit(
        driver,
        put("done", b"one"),
        put("done", b"two"),
        put("work", b"x"),
        gates=((0, "a", 1, True), (1, "b", 1, True), (2, "a", 0, False), (2, "b", 0, False)),
    )
    assert isinstance(said, replies.Committed)
    commit(driver, put("work", b"y"), gates=((0, "b", 0, False),))
    assert gate(driver, "b").members == (("work", 1, 2),)
    driver.submit(commands.Cancel, "done", ((1, 1),))
    driver.consume(queue="work")
    driver.settle(Verb.ACK, (1, 1, 1), queue="work")
    assert driver.counts("done") == (1, 0, 0, 0)


def test_members_are_told_in_rows_that_the_wire_can_hold():
    members = [(1, 1 + 6_000 * n, 6_000) for n in range(3)]
    assert gates.joined([(1, 1, 2), (1, 3, 1), (2, 4, 1), (1, 9, 1)]) == [(1, 1, 3), (2, 4, 1), (1, 9, 1)]
    assert gates.joined(members) == members


def test_gates_nest(driver):
    """What waits at one gate counts for another, and fails it when it dies at its own."""
    commit(driver, put("done", b"last"), gates=((0, "outer", 1, True),))
    said = commit(
        driver,
        put("done", b"inner"),
        put("work", b"x"),
        gates=((0, "inner", 1, True), (0, "outer", 0, False), (1, "inner", 0, False)),
    )
    assert isinstance(said, replies.Committed)
    driver.consume(queue="work")
    driver.settle(Verb.REJECT, (1, 1, 1), queue="work", text="bad")
    assert driver.counts("done") == (0, 0, 0, 2)


@pytest.mark.parametrize(
    ("puts", "gates", "code", "text"),
    [
        ([put("r", b"x")], [(0, "all", 1, False)], "invalid", "a message waits at gate 'all' already"),
        ([put("r", b"x")] * 2, [(0, "g", 1, False), (1, "g", 2, False)], "invalid", "'g' already"),
        ([put("r", b"x", b"y")], [(0, "g", 1, False)], "invalid", "publish 0 has 2 messages"),
        ([put("r", b"x", delay_ms=5)], [(0, "g", 1, False)], "invalid", "a delay of its own"),
        ([put("r", b"x")], [(0, "g", 0, False)], "not_found", "no gate 'g'"),
        ([put("r", b"x")], [(1, "g", 1, False)], "invalid", "publish 1, and there are 1"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_of_it_is_there(driver, puts, gates, code, text):
    gated(driver, 1)
    driver.submit(commands.Declare, "r", {})
    before = len(driver.log)
    said = commit(driver, *puts, gates=tuple(gates))
    assert (said.code, text in said.text) == (code, True), said
    assert len(driver.log) == before


def test_a_duplicate_counts_for_nothing(driver):
    commit(
        driver, put("done", b"then"), put("work", b"x", dedupe="k"), gates=((0, "all", 1, False), (1, "all", 0, False))
    )
    commit(
        driver, put("done", b"then"), put("work", b"x", dedupe="k"), gates=((0, "two", 1, False), (1, "two", 0, False))
    )
    assert gate(driver, "two").members == ()


def test_what_waits_may_expire(driver):
    row, block = put("done", b"then")
    row = (*row[:6], 500, row[7])
    driver.submit(commands.Commit, (), (row,), gates=((0, "all", 5, False),), block=block)
    driver.wait(501)
    assert driver.counts("done") == (0, 0, 0, 0)
    assert gate(driver).code == "not_found"


VERBS = st.sampled_from([Verb.ACK, Verb.ACK, Verb.NACK, Verb.REJECT])
STEPS = st.lists(st.tuples(st.integers(0, 11), VERBS) | st.sampled_from(["join", "roll", "cancel"]), max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.booleans())
def test_a_log_that_has_forgotten_its_beginning_counts_the_same(make_shard, steps, strict):
    """Whatever was published and ended before the oldest segment that is left, and whatever after it."""
    driver = make_shard()
    for name in ("work", "done"):
        driver.submit(commands.Declare, name, QUEUE)
    first = gated(driver, 6, strict=strict)
    commit(driver, put("done", b"and then"), gates=((0, "other", 99, False),))
    left = 0  # the place in the log at which what is left of it begins
    kept = []
    for step in steps:
        if step == "join":
            names = ("all",) if place_of(driver) % 2 else ("all", "other")
            commit(driver, put("work", b"more"), gates=tuple((0, name, 0, False) for name in names))
            driver.shard.dispatch(driver.now)
        elif step == "roll":
            queues = driver.shard.state.queues.values()
            moved = [housekeeping.rehomed(batch) for queue in queues for batch in queue.batches_since(0)]
            left, kept = len(driver.log), [housekeeping.preamble(driver.shard.state), *moved]
        elif step == "cancel":
            driver.submit(commands.Cancel, "work", ((first, 1),))
        else:
            place, verb = step
            span = driver.shard.state.names["work"].span_at(first + place)
            attempt = span.attempt + 1 if span is not None else 1
            driver.settle(verb, (first + place, 1, attempt), queue="work")
    again = make_shard()
    for record in [*kept, *driver.log[left:]]:
        again.shard.restore(without_bytes(record))
    again.shard.restored(driver.now)
    assert told(again) == told(driver)


def place_of(driver):
    return driver.shard.state.names["work"].next_offset


def without_bytes(record):
    """A record as a log has it: no state of the first shard comes along with a block."""
    if hasattr(record, "block"):
        block = record.block
        return record._replace(block=type(block)(block.lengths, block.data))
    return record


def told(driver):
    """What is known of the gate and of its message."""
    state = driver.shard.state
    ready, delayed, leased, dead = state.names["done"].counts
    gates = {name: row[1:] for name, *row in state.gates.standing(state.queues)}
    return (ready + leased, delayed, dead, gates)
