"""Joined publishes say and store what the same publishes say and store one by one."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model import commands, replies
from wherry.wire.messages import pack_lengths
from wherry_broker.core.joining import ALONE_BYTES_MIN, JOINED_WEIGHT_MAX, Together, joined
from wherry_broker.core.shard import Shard

NOW_MS = 1_000_000


def publish(request, bodies=(b"x",), queue="q", **more):
    return commands.Publish(request, queue, pack_lengths(bodies), block=b"".join(bodies), **more)


def flat(items):
    return [each for item in items for each in (item.publishes if type(item) is Together else [item])]


def test_neighbours_with_one_envelope_are_joined():
    given_commands = [publish(1), publish(2), publish(3, (b"yy", b"z"))]
    assert list(joined(given_commands)) == [Together(given_commands)]


def test_one_alone_stays_as_it_is():
    assert list(joined([publish(1)])) == [publish(1)]
    assert list(joined([])) == []


@pytest.mark.parametrize(
    "other",
    [
        publish(2, queue="other"),
        publish(2, priority=1),
        publish(2, key="k"),
        publish(2, delay_ms=5),
        publish(2, at_ms=NOW_MS + 5),
        publish(2, ttl_ms=5),
        publish(2, dedupe="d"),
        publish(2, (bytes(ALONE_BYTES_MIN),)),
        publish(2)._replace(block=b"longer than its length"),
        commands.Credit(1, 5),
        commands.Info(2, "q"),
    ],
)
def test_what_differs_is_not_joined_and_keeps_its_place(other):
    before, after = publish(1), publish(3)
    assert list(joined([before, other, after])) == [before, other, after]


def test_a_joined_batch_has_a_limit():
    many = [publish(number, (bytes(100),)) for number in range(1, 2_000)]
    items = list(joined(many))
    assert flat(items) == many
    weights = [sum(len(each.block) + 64 for each in item.publishes) for item in items]
    assert max(weights) <= JOINED_WEIGHT_MAX
    assert all(low + high > JOINED_WEIGHT_MAX for low, high in pairwise(weights))


def outcome(shard, number, submit):
    """What was said of each request, and what is stored, message by message."""
    submit(number)
    while (batch := shard.take_batch()) is not None:
        shard.committed(batch.mark)
    said = []
    for _, say in shard.take_effects():
        said += [(say.durability, *row) for row in say.confirms] if type(say) is replies.Confirm else [say]
    stored = []
    for name, queue in sorted(shard.state.names.items()):
        for span in queue.spans():
            batch = span.batch
            lengths, data = batch.block.cut(span.low - batch.first, span.high - batch.first)
            stored += [(name, span.state, span.due_ms, batch.envelope, span.low, lengths, data)]
        stored.append((name, queue.counts, queue.sizes, queue.next_offset))
    return said, [merged(stored)]


def merged(stored):
    """Neighbours with the same state and envelope as one, since how they are batched says nothing."""
    result = []
    for row in stored:
        last = result[-1] if result else None
        if last is not None and len(row) == len(last) == 7 and row[:4] == last[:4]:
            result[-1] = (*last[:5], last[5] + row[5], last[6] + row[6])
        else:
            result.append(row)
    return result


publishes = st.builds(
    lambda bodies, queue, priority, delay_ms, dedupe, divisible, cut: publish(
        0, bodies, queue, priority=priority, delay_ms=delay_ms, dedupe=dedupe, divisible=divisible
    )._replace(**({"block": b""} if cut else {})),
    st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=3),
    st.sampled_from(["q", "q", "q", "new"]),
    st.sampled_from([0, 0, 0, 9]),
    st.sampled_from([0, 0, 0, 7]),
    st.sampled_from(["", "", "", "key"]),
    st.booleans(),
    st.sampled_from([False] * 9 + [True]),
)


@given(st.lists(publishes, max_size=12), st.sampled_from([1_000, 6]), st.sampled_from(["busy", "drop_oldest"]))
def test_joined_is_the_same_as_one_by_one(commands_given, max_messages, overflow):
    numbered = [each._replace(request=number) for number, each in enumerate(commands_given, 1)]
    outcomes = []
    for together in (True, False):
        shard = Shard(1, random.Random(0).random)
        number = shard.attach(1_000_000)
        options = {"max_messages": max_messages, "overflow": overflow, "priorities": 9}
        shard.submit(number, commands.Declare(99, "q", options), NOW_MS)

        def submit(number, shard=shard, together=together):
            if together:
                shard.submit_all(number, numbered, NOW_MS)
            else:
                for each in numbered:
                    shard.submit(number, each, NOW_MS)

        outcomes.append(outcome(shard, number, submit))
    assert outcomes[0] == outcomes[1]
