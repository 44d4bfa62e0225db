"""Everything that can be said, in every state of a connection: each opcode, all pairs, and random sequences of frames
that were tampered with, cut anyhow.

Whatever comes, no exception leaves the broker; what it says is what a client takes; every request that was taken is
answered once, as long as the connection lives; a violation of the protocol ends it with one GOODBYE and nothing after;
the core's counts are exact; and a bystander has what it had.

WHERRY_TEST_CASES is how many random cases there are, WHERRY_TEST_SEED another draw of them. A failure prints its case
as a line for REPLAYS, where it stays.
"""

from __future__ import annotations

import os
import random
from itertools import pairwise
from typing import Any

import msgpack
import pytest
from protocol_world import EPOCH, HELLO, LIMITS, Oracle, Peer, World, answered

import wire_vectors
from wherry.model import commands, replies
from wherry.wire import codec
from wherry.wire.framing import PREFIX_BYTES, frame_head
from wherry.wire.messages import pack_sizes
from wherry_broker.core.options import QueueOptions

CASES = int(os.environ.get("WHERRY_TEST_CASES", "2000"))
SEED = int(os.environ.get("WHERRY_TEST_SEED", "0"))
CHUNKS = 8

REPLAYS: list[tuple[str, list[str]]] = [
    ("new", ["00000bc00100000000000bb8" + "dc1388" * 1000]),  # once 40 MB
    ("nearly_full", ["0000000a020000000000000291010000001c11000000000000149702a17104079391010101910201019103010101c0"]),
    ("deleted", ["00000012220000000000000a93ce8000000001cd0100"]),
]
"""Cases that failed once, or could: the state, and the pieces in hex."""


# States.


def new(world: World) -> Peer:
    return Peer(world)


def half(world: World) -> Peer:
    """Half of a HELLO has come."""
    peer = Peer(world)
    peer.feed(codec.encode(HELLO)[:17])
    return peer


def opened(world: World) -> Peer:
    return world.peer()


def consuming(world: World) -> Peer:
    """It has consumer 1 of the queue `q`, with three of five messages leased to it."""
    peer = world.peer()
    peer.say(
        commands.Publish(world.request(), "q", pack_sizes([1] * 5), block=b"\x80" * 5),
        commands.Consume(world.request(), 1, "q", 3),
    )
    return peer


def draining(world: World) -> Peer:
    peer = consuming(world)
    world.pump.drain("the broker is shutting down", lambda: None)
    peer.hear()
    return peer


def deleted(world: World) -> Peer:
    """The queue that it consumed is gone."""
    peer = consuming(world)
    world.bystander.say(commands.Delete(world.request(), "q"))
    peer.hear()
    return peer


def paused(world: World) -> Peer:
    peer = consuming(world)
    world.bystander.say(commands.Pause(world.request(), "q", True))
    return peer


def exhausted(world: World) -> Peer:
    """The queue has room for nothing, and its messages are delayed, leased and dead."""
    peer = world.peer()
    options = {"max_messages": 6, "max_attempts": 2, "dead_max_messages": 1, "priorities": 2}
    peer.say(
        commands.Declare(world.request(), "q", options),
        commands.Publish(world.request(), "q", pack_sizes([1] * 2), delay_ms=1000, block=b"\x80" * 2),
        commands.Publish(world.request(), "q", pack_sizes([1] * 4), dedupe="d", ttl_ms=5000, block=b"\x80" * 4),
        commands.Consume(world.request(), 1, "q", 4),
    )
    peer.say(commands.Settle(world.request(), "q", commands.Verb.REJECT, EPOCH, ((3, 2, 1),)))
    return peer


def nearly_full(world: World) -> Peer:
    """It reads nothing, and whatever it is told is too much to wait for it."""
    peer = consuming(world)
    peer.transport.reads = False
    peer.transport.waiting = LIMITS.write_high_bytes - 10
    return peer


def closing(world: World) -> Peer:
    """It is told goodbye, and has not taken that yet."""
    peer = consuming(world)
    peer.transport.reads = False
    peer.connection.close("draining", "the end")
    return peer


STATES = {
    state.__name__: state
    for state in (new, half, opened, consuming, draining, deleted, paused, exhausted, nearly_full, closing)
}


# Messages.

EXAMPLES = [
    HELLO,
    commands.Ping(5),
    replies.Pong(5),
    commands.Goodbye("", "done"),
    commands.Publish(1, "q", pack_sizes([2, 1]), block=b"\x80a\x80"),
    commands.PublishTopic(21, "orders.eu", pack_sizes([2, 1]), block=b"\x80a\x80"),
    commands.ReadGate(30, "all"),
    commands.Settle(2, "q", 0, EPOCH, ((1, 2, 1), (3, 1, 1))),
    commands.Commit(
        21, (("q", 0, EPOCH, ((4, 1, 1),), None, ""),), (("q", pack_sizes([1]), 0, "", 0, 0, 0, ""),), block=b"\x80"
    ),
    commands.Consume(3, 2, "q", 10),
    commands.Credit(1, 100),
    commands.Stop(4, 1),
    commands.Declare(5, "q", {"max_attempts": 5}),
    commands.Alter(12, "q", {"max_attempts": 5}),
    commands.Info(6, "q"),
    commands.ListQueues(7),
    commands.Purge(8, "q", ("ready", "delayed", "dead")),
    commands.Alter(18, "q", {"max_leased": 5}),
    commands.Cancel(19, "q", ((1, 1),)),
    commands.Redrive(20, "q", ((1, 1),)),
    commands.Delete(9, "q"),
    commands.Pause(10, "q", False),
    commands.Peek(11, "q", "leased"),
    commands.Put(21, "s", "k", block=b"7"),
    commands.Fetch(22, "s", ("k", "l")),
    commands.Increment(23, "s", "k", -2),
    commands.Expire(24, "s", "k", 1_000),
    commands.Watch(25, "s", "l", 0, 1_000),
    commands.Unset(26, "s", ("k",)),
    commands.Status(27, "q", 1),
    commands.Status(28, "q", 1, 1_000),
    commands.ReadResults(29, "q", ((1, 3),)),
    commands.Await(30, "q", 1, 1),
    commands.Await(31, "q", 1, 1, 1_000),
    replies.Settled(((1, ()),)),
    replies.Done(1),
    replies.QueueInfo(1, {}),
    replies.Queues(1, ()),
    replies.Peeked(1, ()),
    replies.Values(1, ()),
    replies.Counted(1, -1, 1),
    replies.Told(1, {}),
    replies.Results(1, 0, b""),
    replies.Returned(((1, 1),), bytes(4)),
    replies.Gate(1, "q", 7, 1, 0, False, ()),
    replies.Deliver(1, 1000, (), pack_sizes([0])),
    replies.Stopped(1),
    replies.Cancelled(1, ((1, 1, 1),)),
    replies.Routed(1, 2, "synced"),
    commands.Schedule(22, "s", "q", every_ms=60_000, stamp=1, block=b"\x80" + bytes(8)),
    commands.RunSchedule(23, "s"),
    commands.PauseSchedule(24, "s", False),
    commands.ListSchedules(25),
    commands.Unschedule(26, "s"),
    replies.Schedules(1, ()),
    replies.Error(1, "busy"),
]
VECTORS = {vector["type"]: wire_vectors.message_of(vector) for vector in wire_vectors.load("messages")}
EXAMPLES += [VECTORS[name] for name in sorted(set(VECTORS) - {type(each).__name__.upper() for each in EXAMPLES})]
UNKNOWN = [frame_head(opcode, b"\x90", 0) for opcode in (0x00, 0x05, 0x1F, 0x7F, 0xFF)]
SAID = {f"{number}:{type(each).__name__}": codec.encode(each) for number, each in enumerate(EXAMPLES)}
SAID |= {f"unknown 0x{frame[4]:02x}": frame for frame in UNKNOWN}


def run(state: str, pieces: list[bytes], note: str = "") -> None:
    """Says the pieces in that state, and checks all that has to hold then."""
    try:
        _run(state, pieces)
    except Exception as error:
        line = f'("{state}", {[piece.hex() for piece in pieces]!r}),'.replace("'", '"')
        raise AssertionError(f"{note}{type(error).__name__}: {error}\nREPLAYS: {line}") from error


def _run(state: str, pieces: list[bytes]) -> None:
    world = World()
    peer = STATES[state](world)
    peer.heard.clear()
    oracle = Oracle(opened=state not in {"new", "half"})
    if state == "half":
        oracle.feed(codec.encode(HELLO)[:17])
    for piece in pieces:
        peer.feed(piece)
        oracle.feed(piece)
    peer.hear()
    heard = peer.heard
    goodbyes = [each for each in heard if type(each) is commands.Goodbye]
    if state == "closing":
        assert heard == [commands.Goodbye("draining", "the end")]
    elif oracle.end in {"", "goodbye"}:
        assert goodbyes == []
    else:
        assert [each.code for each in goodbyes] == [oracle.end]
        assert heard[-1] is goodbyes[0]
    if state != "closing":
        check_answers(heard, oracle)
    ended = state == "closing" or oracle.end
    if not ended:  # it is alive, or waits for the rest of a frame: it may go
        peer.connection.eof_received()
    world.check(peer)


def check_answers(heard: list[Any], oracle: Oracle) -> None:
    pongs = [each.nonce for each in heard if type(each) is replies.Pong]
    mine = answered(heard)
    if oracle.end:  # what was under way then may be lost, but nothing else is said
        assert mine <= oracle.answers + oracle.late
    else:
        assert oracle.answers <= mine <= oracle.answers + oracle.late
        assert len(pongs) == oracle.pongs.total()
    assert set(pongs) <= set(oracle.pongs)


# All of it once.


@pytest.mark.parametrize("state", STATES)
def test_every_opcode_in_every_state(state):
    for name, frame in SAID.items():
        run(state, [frame], f"{name}: ")
        run(state, [codec.encode(HELLO), frame, codec.encode(commands.Ping(9))], f"HELLO, {name}: ")


@pytest.mark.parametrize("first", SAID)
def test_all_pairs_in_one_piece(first):
    for name, frame in SAID.items():
        run("consuming", [SAID[first] + frame], f"{first}, {name}: ")


def test_every_message_is_tried_here():
    assert {type(each) for each in EXAMPLES} == set(codec.OPCODES.values())


# Random ones.

NASTY: list[Any] = [
    *(None, True, False, 0, 1, -1, 255, 256, 10_000, 10_001, 65_535, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1),
    *((1 << 64) - 1, -(1 << 63), 0.0, -1.5, 1e308, float("inf"), float("nan")),
    *("", "q", "a" * 255, "a" * 256, "a" * 1025, "é" * 200, "\0", "..", "/", "q/1", "#", "*", "q\n", "ready"),
    *("leased", "dead", b"", b"q", bytes(4), bytes(5), bytes(40_004), [], [[]], [[1]], [[1, 1]], [[1, 2, 3]]),
    *([[1, 10_000, 1]], [[0, 1, 0]], [[(1 << 64) - 1, 10_000, 1]], [[1, 1, 1], [1, 1, 1]], [["a", 1, 1]], [1] * 5000),
    *({}, {"a": 1}, {"max_bytes": 1}, {"ttl_ms": 1}, {"priorities": 1}, ["ready"], ["leased"], ["?"], [[[[[[]]]]]]),
]
OPTIONS = list(QueueOptions().as_map())


def nasty(draw: random.Random) -> Any:
    if draw.random() < 0.2:
        return {draw.choice([*OPTIONS, "nothing"]): draw.choice(NASTY) for _ in range(draw.randint(1, 4))}
    return draw.choice(NASTY)


def tampered(draw: random.Random, frame: bytes) -> bytes:
    """A frame with something wrong with it, or nothing."""
    kind = draw.randrange(12)
    if kind < 5:
        return with_fields(draw, frame)
    data = bytearray(frame)
    at = draw.randrange(len(data))
    if kind == 5:
        data[at] ^= 1 << draw.randrange(8)
    elif kind == 6:
        del data[at : at + draw.randint(1, 4)]
    elif kind == 7:
        data[at:at] = draw.randbytes(draw.randint(1, 4))
    elif kind == 8:
        data[draw.randrange(min(PREFIX_BYTES, len(data)))] = draw.choice([0, 1, 4, 0x10, 0x7F, 0x80, 0xFF])
    elif kind == 9:
        data = data * 2
    return bytes(data)


def with_fields(draw: random.Random, frame: bytes) -> bytes:
    """The same frame with other fields, or another block."""
    size = int.from_bytes(frame[8:12], "big")
    header, block = frame[PREFIX_BYTES : PREFIX_BYTES + size], frame[PREFIX_BYTES + size :]
    fields = list(msgpack.unpackb(header))
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        if fields and draw.random() < 0.8:
            fields[draw.randrange(len(fields))] = nasty(draw)
        elif fields and draw.random() < 0.5:
            fields.pop()
        else:
            fields.append(nasty(draw))
    if draw.random() < 0.1:
        block = draw.randbytes(draw.randrange(10))
    header = msgpack.packb(fields)
    return frame_head(frame[4], header, len(block)) + block


def pieces_of(draw: random.Random) -> list[bytes]:
    """A few frames, sound and not, cut somewhere."""
    frames = [draw.choice(list(SAID.values())) for _ in range(draw.randint(1, 6))]
    data = b"".join(tampered(draw, frame) if draw.random() < 0.6 else frame for frame in frames)
    if draw.random() < 0.3:
        data = codec.encode(HELLO) + data
    if draw.random() < 0.5:
        return [data]
    if draw.random() < 0.3 and len(data) < 500:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted({0, len(data), *(draw.randrange(len(data) + 1) for _ in range(3))})
    return [data[low:high] for low, high in pairwise(cuts)]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_cases(chunk):
    for number in range(chunk, CASES, CHUNKS):
        draw = random.Random(f"{SEED}:{number}")
        state = draw.choice(list(STATES))
        run(state, pieces_of(draw), f"case {number} of seed {SEED}: ")


@pytest.mark.parametrize("number", range(len(REPLAYS)))
def test_replays(number):
    state, pieces = REPLAYS[number]
    run(state, [bytes.fromhex(piece) for piece in pieces])
