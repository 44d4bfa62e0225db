"""What messages have sent, and how a cancel reaches all of it."""

from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry.wire.messages import pack_sizes
from wherry_broker.core.families import LINEAGE_MAX
from wherry_broker.core.shard import Shard

ACK, _, REJECT, _, _ = range(5)


@pytest.fixture
def shard(make_shard):
    """A shard whose queue `q` has one message, which is leased."""
    shard = make_shard()
    shard.publish(b"root", track=True)
    shard.consume(credit=1)
    return shard


def cancel(shard, *offsets, queue="q"):
    """How many messages a cancel removes, and what consumers are told: (number, deliveries)."""
    *told, done = shard.submit(commands.Cancel, queue, tuple((offset, 1) for offset in offsets))
    assert isinstance(done, replies.Done), done
    return done.total, {each.consumer: each.deliveries for each in told}


def refusal(said):
    (error,) = said
    assert isinstance(error, replies.Error), error
    return error.code, error.text


def restart(shard):
    fresh = Shard(2, lambda: 0.5)
    for record in shard.log:
        fresh.restore(record)
    fresh.restored(shard.now)
    shard.shard, shard.session = fresh, fresh.attach(1 << 20)


def test_a_cancel_reaches_what_a_message_has_sent_in_any_state(shard):
    for queue, more in (("ready", {}), ("delayed", {"delay_ms": 1_000}), ("leased", {}), ("dead", {}), ("other", {})):
        shard.publish(b"a", b"b", queue=queue, parent="" if queue == "other" else "q/1", **more)
    shard.consume(2, "leased")
    shard.consume(3, "dead")
    shard.settle(REJECT, (1, 2, 1), queue="dead")
    assert cancel(shard, 1) == (7, {1: ((1, 1, 1),), 2: ((1, 2, 1),)})
    left = {name: shard.counts(name) for name in ("q", "ready", "delayed", "leased", "dead", "other")}
    assert {name: counts for name, counts in left.items() if any(counts)} == {
        "dead": (0, 0, 0, 2),
        "other": (2, 0, 0, 0),
    }
    assert len(shard.shard.state.families) == 1  # the dead ones are there still


def test_it_reaches_what_those_have_sent_though_they_have_gone(shard):
    shard.publish(b"child", queue="child", parent="q/1")
    shard.consume(2, "child")
    shard.publish(b"grandchild", queue="grandchild", parent="child/1")
    shard.settle(ACK, (1, 1, 1), queue="child")
    shard.settle(ACK, (1, 1, 1))
    assert cancel(shard, 1) == (1, {})
    assert shard.counts("grandchild") == (0, 0, 0, 0)


def test_it_spares_what_others_have_sent(shard):
    shard.publish(b"two")
    for parent in ("q/1", "q/2"):
        shard.publish(b"x", queue="child", parent=parent)
    assert cancel(shard, 2) == (2, {})
    assert shard.counts("child") == (1, 0, 0, 0)
    assert cancel(shard, 1, queue="child") == (1, {})
    assert shard.counts() == (0, 0, 1, 0)


def test_all_of_it_is_one_commit(shard):
    shard.publish(b"x", queue="child", parent="q/1")
    shard.hold(commands.Cancel, "q", ((1, 1),))
    batch = shard.shard.take_batch()
    assert [record.queue for record in batch.records if type(record).__name__ == "Removed"] == [1, 2]


def test_nothing_is_stored_as_sent_by_what_has_ended(shard):
    cancel(shard, 1)
    code, text = refusal(shard.publish(b"late", queue="child", parent="q/1"))
    assert (code, text) == ("stale_delivery", "q/1 has ended: nothing can be published as sent by it any more")
    row = ("child", pack_sizes([4]), 0, "", 0, 0, 0, "")
    refused = shard.submit(commands.Commit, (), (row,), parents=("q/1",), block=b"late")
    assert refusal(refused)[0] == "stale_delivery"
    assert shard.counts("child") == (0, 0, 0, 0)
    shard.publish(b"dead")
    shard.consume(2, credit=1)
    shard.settle(REJECT, (2, 1, 1))
    for parent in ("q/2", "q/99", "gone/1"):
        assert refusal(shard.publish(b"late", queue="child", parent=parent))[0] == "stale_delivery"
    assert refusal(shard.publish(b"x", queue="child", parent="nobody"))[0] == "invalid"


def test_a_publish_that_is_said_again_is_stored_though_its_parent_has_ended_since(make_shard):
    shard = make_shard()
    shard.session = shard.shard.attach(1 << 20, "p")
    shard.publish(b"root")
    fields = {"queue": "child", "parent": "q/1", "sequence": 1}
    (first,) = shard.publish(b"x", **fields)
    cancel(shard, 1)
    (again,) = shard.publish(b"x", **fields)
    assert (type(again), again.confirms[0][1:]) == (replies.Confirm, (first.confirms[0][1], True))


def test_publishes_that_come_together_are_one_batch_when_they_have_one_parent(shard):
    shard.publish(b"two")
    shard.submit(commands.Declare, "child", {})
    given = [
        commands.Publish(100 + number, "child", pack_sizes([1]), parent=parent, block=b"x")
        for number, parent in enumerate(["q/1", "q/1", "q/2", "q/9", "q/9"])
    ]
    shard.shard.submit_all(shard.session, given, shard.now)
    said = shard.commit()
    assert [each.request for each in said if isinstance(each, replies.Error)] == [103, 104]
    batches = shard.shard.state.names["child"].batches_since(0)
    assert [(batch.block.count, batch.envelope.lineage) for batch in batches] == [(2, ((1, 1),)), (1, ((1, 2),))]


def test_a_commit_says_of_each_publish_who_sent_it(shard):
    rows = tuple((name, pack_sizes([1]), 0, "", 0, 0, 0, "") for name in ("child", "free"))
    shard.submit(commands.Commit, (), rows, parents=("q/1", ""), block=b"xy")
    assert cancel(shard, 1)[0] == 2
    assert shard.counts("free") == (1, 0, 0, 0)
    refused = shard.submit(commands.Commit, (), rows, parents=("q/1",), block=b"xy")
    assert refusal(refused) == ("invalid", "1 publishes are said to be sent by others or not, which is not all")


def test_what_waits_at_a_gate_is_cancelled_and_does_not_die_of_it(shard):
    rows = tuple((name, pack_sizes([1]), 0, "", 0, 0, 0, "") for name in ("then", "work"))
    gates = ((0, "all", 1, True), (1, "all", 0, False))
    shard.submit(commands.Commit, (), rows, gates=gates, tracked=b"\1\1", parents=("q/1", "q/1"), block=b"xy")
    assert cancel(shard, 1)[0] == 3
    assert shard.counts("then") == shard.counts("work") == (0, 0, 0, 0)
    for queue in ("then", "work"):
        (told,) = shard.submit(commands.Status, queue, 1)
        assert told.status["state"] == "cancelled"


def test_it_is_remembered_over_a_restart(shard):
    shard.publish(b"x", queue="child", parent="q/1")
    restart(shard)
    shard.publish(b"y", queue="child", parent="child/1")
    assert cancel(shard, 1)[0] == 3
    restart(shard)
    assert shard.counts("child") == (0, 0, 0, 0)


def test_a_message_knows_its_first_ancestor_and_the_nearest(make_shard):
    shard = make_shard()
    shard.publish(b"0", queue="a")
    for number in range(1, 2 * LINEAGE_MAX):
        shard.publish(b"%d" % number, queue="a", parent=f"a/{number}")
    last = shard.shard.state.names["a"].batch_at(2 * LINEAGE_MAX)
    nearest = range(LINEAGE_MAX + 1, 2 * LINEAGE_MAX)
    assert last.envelope.lineage == ((1, 1), *((1, offset) for offset in nearest))
    assert cancel(shard, 1, queue="a")[0] == 2 * LINEAGE_MAX
    assert len(shard.shard.state.families) == 0


def test_what_is_moved_keeps_its_ancestors(shard):
    shard.publish(b"x", queue="child", parent="q/1")
    shard.consume(2, "child")
    shard.settle(REJECT, (1, 1, 1), queue="child")
    shard.submit(commands.Declare, "other", {})
    shard.submit(commands.Redrive, "child", ((1, 1),), "other")
    assert cancel(shard, 1)[0] == 2
