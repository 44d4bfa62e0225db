from __future__ import annotations

from itertools import repeat

import pytest

import wherry
from wherry.conversation import transaction
from wherry.conversation.leased import Leased
from wherry.conversation.transaction import Draft
from wherry.delivery import Delivery, columns
from wherry.model import commands, replies
from wherry.wire import codec
from wherry.wire.framing import PREFIX_BYTES
from wherry.wire.messages import pack_sizes

FRAME_BYTES = 1_000
PLAIN = (0, "", 0, 0, 0, "")


class Settler:
    """What a message is settled by; it counts what is finished."""

    def __init__(self):
        self.done = []

    def finished(self, message):
        self.done.append(message.id)


@pytest.fixture
def settler():
    return Settler()


@pytest.fixture
def draft():
    return Draft(FRAME_BYTES)


def messages(settler, first=1, count=3, queue="q", attempt=1, epoch=7):
    delivery = Delivery(queue, epoch, (first, count, attempt, 0, 0, 0, ""))
    return Leased.many(delivery, range(first, first + count), repeat(b""), repeat(b""), settler)


def test_settles_of_a_kind_share_a_row(draft, settler):
    one, two, three = messages(settler)
    (other,) = messages(settler, 9, 1, attempt=2)
    (elsewhere,) = messages(settler, 1, 1, queue="r")
    draft.ack(one)
    draft.nack(three, ValueError("bad"), delay=2)
    draft.ack(two)
    draft.ack(other)
    draft.reject(elsewhere, "never")
    assert draft.make(5) == commands.Commit(
        5,
        (
            ("q", 0, 7, ((1, 2, 1), (9, 1, 2)), None, ""),
            ("q", 1, 7, ((3, 1, 1),), 2000, "ValueError: bad"),
            ("r", 2, 7, ((1, 1, 1),), None, "never"),
        ),
    )


def test_neighbouring_publishes_share_a_row_but_for_dedupe_keys(draft):
    draft.publish("a", b"1")
    draft.publish("a", "two")
    draft.publish("b", b"3", headers={"k": 1}, priority=4, key="user", ttl=1)
    draft.publish("a", b"4", dedupe="x")
    draft.publish("a", b"4", dedupe="x")
    assert draft.make(5) == commands.Commit(
        5,
        (),
        (
            ("a", pack_sizes([2, 4]), *PLAIN),
            ("b", pack_sizes([5]), 4, "user", 0, 0, 1000, ""),
            ("a", pack_sizes([2]), 0, "", 0, 0, 0, "x"),
            ("a", pack_sizes([2]), 0, "", 0, 0, 0, "x"),
        ),
        block=b"\x801\x80two\x81\xa1k\x013\x804\x804",
    )


def test_many_messages_share_all_but_their_bodies(draft):
    many = draft.publish_many("q", [b"a", "b"], headers={"h": 1}, priority=3, track=True, counts_for=["g", "h"])
    alone = draft.publish("q", b"c", headers={"h": 1}, priority=3, track=True, counts_for=["g", "h"])
    assert len({id(each) for each in (*many, alone)}) == 3
    command = draft.make(1)
    assert command.publishes == (("q", pack_sizes([5, 5, 5]), 3, "", 0, 0, 0, ""),)
    assert command.gates == ((0, "g", 0, False), (0, "h", 0, False))
    assert command.tracked == b"\1"


def test_receipts_are_there_once_it_is_committed(draft):
    posted = [draft.publish("a", b"1"), draft.publish("a", b"2"), draft.publish("b", b"3", dedupe="x")]
    with pytest.raises(RuntimeError, match="no receipt before"):
        _ = posted[0].receipt
    draft.committed(replies.Committed(5, ((7, False, "synced"), (3, True, "memory"))))
    assert [each.id for each in posted] == ["a/7", "a/8", "b/3"]
    assert posted[2].receipt == wherry.Receipt("b", 3, "memory", True)
    assert repr(posted[0]) == "<Posted a/7>"


def test_messages_are_settled_from_now_on_unless_nothing_comes_of_it(draft, settler):
    one, two, three = messages(settler)
    draft.ack(one)
    draft.reject(two)
    for settle in (draft.ack, draft.nack, draft.reject, draft.release):
        with pytest.raises(wherry.AlreadySettled, match="q/1 was settled before: ack"):
            settle(one)
    draft.undo()
    assert [each.settled for each in (one, two, three)] == ["", "", ""]
    assert settler.done == []


def test_credit_comes_back_with_the_answer(draft, settler):
    one, two, _ = messages(settler)
    draft.ack(two)
    draft.nack(one)
    draft.committed(replies.Committed(5))
    assert settler.done == ["q/2", "q/1"]


def test_nothing_is_taken_once_it_is_over(draft, settler):
    assert draft.is_empty
    draft.close()
    for late in (lambda: draft.publish("a", b"1"), lambda: draft.ack(messages(settler)[0])):
        with pytest.raises(RuntimeError, match="is over"):
            late()
    assert draft.is_empty


def test_a_message_is_forwarded_as_it_is(draft, settler):
    delivery = Delivery("q", 7, (1, 4, 1, 0, 0, 6, "user"))
    published = [b"\x80plain", b"\x81\xa1k\x01body", b"\xc0no headers", b""]
    found = columns(pack_sizes(list(map(len, published))), b"".join(published))
    each = Leased.many(delivery, range(1, 5), *found, settler)
    assert [message.raw for message in each] == published
    for message in each[:3]:
        draft.forward(message, "r")
    draft.forward(each[3], "r", priority=2)
    assert draft.make(5) == commands.Commit(
        5,
        (("q", 0, 7, ((1, 4, 1),), None, ""),),
        (("r", pack_sizes([6, 8, 11]), 6, "user", 0, 0, 0, ""), ("r", pack_sizes([0]), 2, "user", 0, 0, 0, "")),
        block=b"".join(published),
    )


def test_a_message_that_is_too_large_to_forward_is_not_in_it(draft, settler):
    one, two, three = messages(settler)
    two.body = b"x" * FRAME_BYTES
    draft.forward(one, "r")
    before = draft.make(5)
    with pytest.raises(wherry.TooLarge):
        draft.forward(two, "r")
    with pytest.raises(wherry.AlreadySettled):
        draft.forward(one, "r")
    assert draft.make(5) == before
    assert not two.settled
    draft.forward(three, "r")
    assert draft.make(5).settles == (("q", 0, 7, ((1, 1, 1), (3, 1, 1)), None, ""),)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"queue": "a/b"}, wherry.Invalid),
        ({"priority": 10}, wherry.Invalid),
        ({"body": 5}, TypeError),
        ({"headers": {"k": object()}}, TypeError),
        ({"body": b"x" * FRAME_BYTES}, wherry.TooLarge),
    ],
)
def test_what_is_refused_is_not_in_it(draft, fields, error):
    draft.publish("a", b"1")
    before = draft.make(1)
    with pytest.raises(error):
        draft.publish(**{"queue": "a", "body": b"2", **fields})
    assert draft.make(1) == before


def test_a_frame_is_never_too_long(draft):
    draft.publish("a", b"x" * 600)
    with pytest.raises(wherry.TooLarge):
        draft.publish("b", b"x" * 600)
    draft.publish("b", b"x" * (FRAME_BYTES - 602))


def header_bytes(command):
    return len(codec.encode_head(command, 0)) - PREFIX_BYTES


def fill(add):
    """Adds to a draft until it takes no more."""
    for number in range(20_000):
        try:
            add(number)
        except wherry.TooLarge as error:
            return number, str(error)
    raise AssertionError("there is no limit")


@pytest.mark.parametrize("text", ["", "é" * 500])
def test_a_header_is_never_too_long(settler, text):
    draft = Draft(1 << 24)
    far_apart = [messages(settler, 1 << 60 | 2 * n, 1, queue="q" * 255, attempt=1 << 30)[0] for n in range(5_000)]
    count, told = fill(lambda n: draft.nack(far_apart[n], f"{n}{text}", delay=n))
    assert not far_apart[count].settled
    assert "limit" in told
    assert header_bytes(draft.make(0xFFFF_FFFF)) <= 65_536
    many = Draft(1 << 24)
    count, _ = fill(lambda n: many.ack(messages(settler, 1 << 60 | 2 * n, 1)[0]))
    assert count > 3_000
    assert header_bytes(many.make(0xFFFF_FFFF)) <= 65_536


def test_rows_have_a_limit(settler):
    draft = Draft(1 << 24)
    count, told = fill(lambda n: draft.publish("ab"[n % 2], b""))
    assert (count, told) == (transaction.COMMIT_ROWS_MAX, "a transaction has at most 1000 different publishes")
    count, told = fill(lambda n: draft.nack(messages(settler, n + 1, 1)[0], delay=n))
    assert "limit" in told or "1000 different settles" in told


def test_messages_have_a_limit(settler):
    draft = Draft(1 << 24)
    each = messages(settler, 1, 10_001)
    assert fill(lambda n: draft.ack(each[n])) == (10_000, "a transaction has at most 10000 messages to settle")
    assert fill(lambda n: draft.publish("a", b"")) == (10_000, "a transaction has at most 10000 messages to publish")
    assert header_bytes(draft.make(1)) <= 65_536


def test_messages_that_do_not_fit_together_are_all_left_out():
    draft = Draft(100)
    draft.publish("q", b"x" * 40)
    with pytest.raises(wherry.TooLarge):
        draft.publish_many("q", [b"y" * 10] * 10)
    assert draft.publish_many("q", []) == []
    draft.publish("q", b"z" * 40)
    assert [len(row[1]) // 4 for row in draft.make(1).publishes] == [2]
