"""The server session, without a socket: frames in, commands and frames out."""

from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry.wire import codec
from wherry.wire.framing import FIRST_FRAME_BYTES_MAX, FRAME_BYTES_MAX, PREFIX, FrameReader, frame_head
from wherry.wire.messages import pack_sizes
from wherry_broker.core.effects import Delivery
from wherry_broker.server.limits import Limits
from wherry_broker.server.session import (
    CLOSING,
    CONFIRMS_MAX,
    DELIVER_BYTES_MAX,
    DELIVER_MESSAGES_MAX,
    DELIVER_SPANS_MAX,
    OPEN,
    OPENING,
    Session,
)

HELLO = commands.Hello("wherry", 1, 1, "", "tester", 10_000)
PUBLISH = commands.Publish(7, "q", pack_sizes([3]), block=b"\x80hi")

TO_THE_CORE = [
    PUBLISH,
    commands.PublishTopic(8, "orders.eu", pack_sizes([3]), block=b"\x80hi"),
    commands.ReadGate(8, "all"),
    commands.Settle(1, "q", 0, 1, ((5, 1, 1),)),
    commands.Commit(
        1, (("q", 0, 1, ((5, 1, 1),), None, ""),), (("q", pack_sizes([1]), 0, "", 0, 0, 0, ""),), block=b"\x80"
    ),
    commands.Consume(2, 1, "q", 10),
    commands.Credit(1, 20),
    commands.Stop(3, 1),
    commands.Declare(4, "q", {}),
    commands.Info(5, "q"),
    commands.ListQueues(6),
    commands.Purge(7, "q"),
    commands.Delete(8, "q"),
    commands.Pause(9, "q", True),
    commands.Alter(9, "q", {"max_leased": 5}),
    commands.Cancel(9, "q", ((1, 1),)),
    commands.Redrive(9, "q", ((1, 1),)),
    commands.Peek(10, "q"),
    commands.Put(11, "s", "k", block=b"v"),
    commands.Fetch(12, "s", ("k",)),
    commands.Unset(13, "s", ("k",)),
    commands.Increment(14, "s", "k"),
    commands.Expire(15, "s", "k"),
    commands.Watch(16, "s", "k"),
    commands.Schedule(17, "s", "q", every_ms=60_000, block=b"\x80hi"),
    commands.Unschedule(18, "s"),
    commands.ListSchedules(19),
    commands.RunSchedule(20, "s"),
    commands.PauseSchedule(21, "s", True),
    commands.Status(17, "q", 5),
    commands.ReadResults(17, "q", ((5, 2),)),
    commands.Await(18, "q", 5, 2),
]
ONLY_BROKERS_SAY = [
    replies.Welcome(1, 1, 0, 1),
    replies.Confirm("memory", ((1, 1, False),)),
    replies.Settled(((1, ()),)),
    replies.Done(1),
    replies.QueueInfo(1, {}),
    replies.Queues(1, ()),
    replies.Peeked(1, ()),
    replies.Snapshot(1, 1, 1, 0),
    replies.Piece(1, 0),
    replies.Committed(1, ((5, False, "memory"),)),
    replies.Routed(1, 2, "synced"),
    replies.Values(1, ()),
    replies.Counted(1, -1, 1),
    replies.Schedules(1, ()),
    replies.Results(1, 0, b""),
    replies.Returned(((1, 1),), bytes(4)),
    replies.Told(1, {"state": "ready"}),
    replies.Gate(1, "q", 7, 1, 0, False, ()),
    replies.Deliver(1, 1000, (), pack_sizes([0])),
    replies.Stopped(1),
    replies.Cancelled(1, ((1, 1, 1),)),
    replies.Error(1, "busy"),
]
HARMLESS = [commands.Ping(3), replies.Pong(3)]
TO_THE_LOG = [commands.Backup(1), commands.ReadBackup(2, 1)]
EVERY_MESSAGE = [HELLO, commands.Goodbye(), *HARMLESS, *TO_THE_CORE, *TO_THE_LOG, *ONLY_BROKERS_SAY]


def name_of(message) -> str:
    return type(message).__name__


class Talk:
    """A session with both ends of its byte streams."""

    def __init__(self, token: str = "", **limits: int) -> None:
        self.session = Session(3, "wherry/test", lambda shown: shown == token, Limits(**limits))
        self._replies = FrameReader(1 << 30)

    def feed(self, data: bytes):
        return self.session.receive(self.session.reader.feed(data))

    def say(self, *messages):
        return self.feed(b"".join(codec.encode(message) for message in messages))

    def heard_frames(self):
        return self._replies.feed(b"".join(self.session.data_to_send()))

    def heard(self):
        return [codec.decode(frame) for frame in self.heard_frames()]


@pytest.fixture
def opening() -> Talk:
    return Talk()


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.say(HELLO)
    talk.heard()
    assert talk.session.phase == OPEN
    return talk


def assert_closed(talk: Talk, code: str, *words: str) -> None:
    """The last that is heard is one GOODBYE, and nothing is taken any more."""
    heard = talk.heard()
    assert [each.code for each in heard if type(each) is commands.Goodbye] == [code]
    assert type(heard[-1]) is commands.Goodbye
    for word in words:
        assert word in heard[-1].text
    assert talk.session.phase == CLOSING
    assert talk.session.reason == (code, heard[-1].text)
    assert talk.say(*TO_THE_CORE, HELLO, commands.Ping()) == []
    assert talk.heard() == []


def test_every_opcode_is_tried_here():
    assert {type(message) for message in EVERY_MESSAGE} == set(codec.OPCODES.values())


# Opening.


def test_hello_is_welcomed(opening):
    assert opening.session.phase == OPENING
    assert opening.say(HELLO) == []
    assert opening.heard() == [replies.Welcome(1, 3, 10_000, FRAME_BYTES_MAX, "wherry/test", 600_000)]
    assert opening.session.phase == OPEN
    assert opening.session.name == "tester"


@pytest.mark.parametrize(
    ("asked", "limit", "agreed"), [(10_000, 30_000, 10_000), (60_000, 30_000, 30_000), (0, 30_000, 0), (10_000, 0, 0)]
)
def test_the_shorter_heartbeat_is_agreed_on_and_either_end_may_want_none(asked, limit, agreed):
    talk = Talk(heartbeat_ms=limit)
    talk.say(HELLO._replace(heartbeat_ms=asked))
    assert talk.heard()[0].heartbeat_ms == agreed
    assert talk.session.heartbeat_ms == agreed


@pytest.mark.parametrize("message", [each for each in EVERY_MESSAGE if each is not HELLO], ids=name_of)
def test_nothing_but_hello_opens(opening, message):
    assert opening.say(message) == []
    assert_closed(opening, "bad_frame", "HELLO")


def test_another_magic_is_refused(opening):
    opening.say(HELLO._replace(magic="wherr"))
    assert_closed(opening, "bad_frame", "'wherry'")


@pytest.mark.parametrize(("low", "high"), [(0, 0), (2, 9), (9, 1)])
def test_another_version_is_refused(opening, low, high):
    opening.say(HELLO._replace(version_min=low, version_max=high))
    assert_closed(opening, "bad_frame", "version 1", f"{low} to {high}")


def test_a_range_of_versions_with_ours_in_it_is_fine(opening):
    opening.say(HELLO._replace(version_min=0, version_max=7))
    assert opening.session.phase == OPEN


@pytest.mark.parametrize(("token", "problem"), [("", "missing"), ("guess", "wrong")])
def test_a_token_that_is_not_ours(token, problem):
    talk = Talk(token="s3cret")
    talk.say(HELLO._replace(token=token))
    assert talk.session.reader.frame_bytes_max == FIRST_FRAME_BYTES_MAX
    heard = talk.session.data_to_send()
    assert b"s3cret" not in b"".join(heard)
    assert problem in codec.decode(FrameReader(9999).feed(heard[0])[0]).text
    assert talk.session.phase == CLOSING


def test_the_right_token():
    talk = Talk(token="s3cret")
    talk.say(HELLO._replace(token="s3cret"))
    assert talk.session.phase == OPEN


def test_what_follows_hello_in_the_same_bytes_is_taken(opening):
    assert opening.say(HELLO, PUBLISH, commands.Ping(4)) == [PUBLISH]
    assert opening.heard()[1:] == [replies.Pong(4)]


def test_a_value_over_its_limit_in_hello_closes(opening):
    opening.say(HELLO._replace(name="x" * 256))
    assert_closed(opening, "bad_frame", "name")


# Open.


@pytest.mark.parametrize("message", TO_THE_CORE, ids=name_of)
def test_what_concerns_the_core_is_given_to_it(talk, message):
    assert talk.say(message) == [message]
    assert talk.heard() == []
    assert talk.session.phase == OPEN


@pytest.mark.parametrize("message", [HELLO, *ONLY_BROKERS_SAY], ids=name_of)
def test_what_a_client_may_not_say_now(talk, message):
    assert talk.say(PUBLISH, message, PUBLISH) == [PUBLISH]
    assert_closed(talk, "bad_frame", type(message).__name__.upper())


def test_a_ping_is_answered_with_its_nonce(talk):
    assert talk.say(commands.Ping(77), replies.Pong(5)) == []
    assert talk.heard() == [replies.Pong(77)]


def test_a_goodbye_is_not_answered(talk):
    assert talk.say(PUBLISH, commands.Goodbye("", "done"), PUBLISH) == [PUBLISH]
    assert talk.heard() == []
    assert talk.session.phase == CLOSING
    assert talk.session.reason == ("", "done")


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=name_of)
def test_nothing_is_taken_once_closing(talk, message):
    talk.session.close("draining", "the end")
    talk.session.close("bad_frame", "said only once")
    assert talk.heard() == [commands.Goodbye("draining", "the end")]
    assert talk.say(message) == []
    assert talk.heard() == []
    assert talk.session.reason == ("draining", "the end")


def test_an_unknown_opcode_closes(talk):
    talk.feed(frame_head(0x7F, b"\x90", 0))
    assert_closed(talk, "bad_frame", "0x7f")


def test_a_value_over_its_limit_is_refused_and_the_session_lives(talk):
    taken = talk.say(PUBLISH._replace(request=1, priority=10), commands.Info(2, "no/such/name"), PUBLISH)
    assert taken == [PUBLISH]
    heard = talk.heard()
    assert [(each.request, each.code, each.retryable) for each in heard] == [
        (1, "invalid", False),
        (2, "invalid", False),
    ]
    assert "priority" in heard[0].text
    assert talk.session.phase == OPEN


def test_a_value_over_its_limit_with_nothing_to_answer_closes(talk):
    talk.feed(codec.encode(commands.Credit(1, (1 << 64) - 1)))
    assert talk.session.phase == OPEN
    talk.feed(codec.encode(commands.Credit(1 << 33, 1)))
    assert_closed(talk, "bad_frame", "CREDIT")


def test_a_field_of_the_wrong_type_closes(talk):
    talk.say(PUBLISH._replace(priority="9"))
    assert_closed(talk, "bad_frame", "PUBLISH", "priority")


def test_a_block_where_none_belongs_closes(talk):
    head = b"\x91\x00"
    talk.feed(frame_head(0x02, head, 3) + b"abc")
    assert_closed(talk, "bad_frame", "PING")


# Bytes that are no frames.

FOREIGN = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c403035f") + bytes(200),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "ones": b"\xff" * 64,
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_another_protocol_is_refused_at_its_first_bytes(opening, data):
    assert opening.feed(data[:4]) == []
    assert_closed(opening, "too_large", str(FIRST_FRAME_BYTES_MAX))


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_another_protocol_after_hello(talk, data):
    talk.feed(data)
    assert_closed(talk, "too_large")


def test_zeros_are_refused(opening):
    opening.feed(bytes(64))
    assert_closed(opening, "bad_frame", "length of 0")


def test_a_length_is_judged_by_four_bytes_before_hello(opening):
    opening.feed((FIRST_FRAME_BYTES_MAX - 4).to_bytes(4, "big"))
    assert opening.session.phase == OPENING
    other = Talk()
    other.feed((FIRST_FRAME_BYTES_MAX - 3).to_bytes(4, "big"))
    assert_closed(other, "too_large")


def test_a_length_is_judged_by_four_bytes_after_hello():
    talk = Talk(frame_bytes_max=100_000)
    talk.say(HELLO)
    assert talk.heard()[0].frame_bytes_max == 100_000
    talk.feed((100_000 - 3).to_bytes(4, "big"))
    assert_closed(talk, "too_large", "100000")


def test_flags_must_be_zero(talk):
    talk.feed(PREFIX.pack(9, 0x02, 1, 0, 1) + b"\x90")
    assert_closed(talk, "bad_frame", "flags")


def test_a_length_that_is_wrong_keeps_the_frames_before_it(talk):
    assert talk.feed(codec.encode(PUBLISH) + b"\xff" * 12) == [PUBLISH]
    assert_closed(talk, "too_large")


# What goes out.


def delivery(first: int, count: int = 1, size: int = 10, consumer: int = 1, lease_ms: int = 1000) -> Delivery:
    each = size // count
    sizes = [each] * (count - 1) + [size - each * (count - 1)]
    return Delivery(consumer, lease_ms, (first, count, 1, 0, 0, 0, ""), pack_sizes(sizes), b"x" * size)


def test_confirms_are_joined_by_durability(talk):
    talk.session.say([
        replies.Confirm("memory", ((1, 10, False),)),
        replies.Confirm("synced", ((2, 20, False),)),
        replies.Confirm("memory", ((3, 30, True),)),
    ])  # fmt: skip
    assert talk.heard() == [
        replies.Confirm("memory", ((1, 10, False), (3, 30, True))),
        replies.Confirm("synced", ((2, 20, False),)),
    ]


def test_a_frame_of_confirms_has_a_limit(talk):
    talk.session.say([replies.Confirm("memory", ((n, n, False),)) for n in range(1, 2 * CONFIRMS_MAX + 2)])
    heard = talk.heard()
    assert [len(each.confirms) for each in heard] == [CONFIRMS_MAX, CONFIRMS_MAX, 1]
    assert [row[0] for each in heard for row in each.confirms] == list(range(1, 2 * CONFIRMS_MAX + 2))


def test_settles_are_joined_and_stale_ones_travel_alone(talk):
    talk.session.say([
        replies.Settled(((1, ()),)),
        replies.Settled(((2, ((5, 1),)),)),
        replies.Settled(((3, ()),)),
    ])  # fmt: skip
    heard = talk.heard()
    assert len(heard) == 2
    assert sorted(row for each in heard for row in each.settles) == [(1, ()), (2, ((5, 1),)), (3, ())]


def test_a_frame_of_settles_has_a_limit(talk):
    talk.session.say([replies.Settled(((n, ()),)) for n in range(CONFIRMS_MAX + 1)])
    assert [len(each.settles) for each in talk.heard()] == [CONFIRMS_MAX, 1]


def test_results_are_joined_by_neighbours_and_as_far_as_they_fit(talk):
    talk.session.say([replies.Returned(((n, 1),), pack_sizes([1]), b"x") for n in (1, 2, 4)])
    assert talk.heard() == [replies.Returned(((1, 2), (4, 1)), pack_sizes([1] * 3), b"xxx")]
    large = bytes(DELIVER_BYTES_MAX)
    talk.session.say([replies.Returned(((n, 1),), pack_sizes([len(large)]), large) for n in (1, 2)])
    assert [each.requests for each in talk.heard()] == [((1, 1),), ((2, 1),)]


def test_deliveries_of_a_consumer_are_joined(talk):
    talk.session.say([delivery(1, 2, 7), delivery(3, 1, 4), delivery(9, 1, 2, consumer=2), delivery(4, 1, 5)])
    first, second = talk.heard()
    assert (first.consumer, [row[:2] for row in first.spans]) == (1, [(1, 2), (3, 1), (4, 1)])
    assert first.lengths == pack_sizes([3, 4, 4, 5])
    assert first.block == b"x" * 16
    assert (second.consumer, second.spans[0][0]) == (2, 9)


def test_deliveries_of_different_leases_are_apart(talk):
    talk.session.say([delivery(1), delivery(2, lease_ms=5)])
    assert [each.lease_ms for each in talk.heard()] == [1000, 5]


@pytest.mark.parametrize(
    ("spans", "count", "size"),
    [
        (DELIVER_SPANS_MAX + 1, 1, 1),
        (5, DELIVER_MESSAGES_MAX // 2, 4096),
        (3, 10_000, 10_000),
        (5, 1, DELIVER_BYTES_MAX // 2),
        (3, 1, DELIVER_BYTES_MAX + 1),
    ],
)
def test_a_frame_of_deliveries_has_limits(talk, spans, count, size):
    talk.session.say([delivery(1 + n * count, count, size) for n in range(spans)])
    heard = talk.heard()
    assert [row[0] for each in heard for row in each.spans] == [1 + n * count for n in range(spans)]
    for each in heard:
        assert len(each.spans) <= DELIVER_SPANS_MAX
        assert len(each.spans) == 1 or sum(row[1] for row in each.spans) <= DELIVER_MESSAGES_MAX
        assert len(each.spans) == 1 or len(each.block) <= DELIVER_BYTES_MAX
        assert 4 * sum(row[1] for row in each.spans) == len(each.lengths)
    assert len(heard) > 1


def test_a_large_block_is_not_copied(talk):
    big = delivery(1, 1, 200_000)
    talk.session.say([big])
    assert any(piece is big.data for piece in talk.session.data_to_send())


def test_a_small_block_travels_with_its_head(talk):
    talk.session.say([delivery(1, 1, 100)])
    assert len(talk.session.data_to_send()) == 1


def test_order_is_kept_between_kinds(talk):
    """No DELIVER for a consumer follows the reply to its STOP, and none follows STOPPED."""
    talk.session.say([delivery(1), replies.Done(4), delivery(5, consumer=2), replies.Stopped(2), replies.Done(5)])
    assert [type(each) for each in talk.heard()] == [
        replies.Deliver,
        replies.Done,
        replies.Deliver,
        replies.Stopped,
        replies.Done,
    ]


def test_replies_are_said_as_they_are(talk):
    said = [replies.Done(1, 2), replies.Done(2), replies.Error(3, "busy", "full", True, 20, "q", "max_messages")]
    talk.session.say(said)
    assert talk.heard() == said


def test_nothing_to_say_is_nothing(talk):
    talk.session.say([])
    assert talk.session.data_to_send() == []
