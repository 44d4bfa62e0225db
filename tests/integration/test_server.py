"""The server on real sockets, spoken to by those who do not keep to the protocol: each loses its own connection,
and nobody else loses anything."""

from __future__ import annotations

import asyncio
import random
import socket

import msgpack
import pytest

import wire_vectors
from wherry.model import commands, replies
from wherry.wire import codec
from wherry.wire.framing import FIRST_FRAME_BYTES_MAX, PREFIX, frame_head
from wherry.wire.messages import pack_sizes

HELLO = commands.Hello("wherry", 1, 1, "", "abuser", 0)
SEED = 20_250_101


def publish(request: int, queue: str = "q", body: bytes = b"\x80") -> commands.Publish:
    return commands.Publish(request, queue, pack_sizes([len(body)]), block=body)


FOREIGN = {
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "noise": random.Random(SEED).randbytes(65_536),
    "text": b"hello?\r\n" * 100,
    "http": b"GET / HTTP/1.1\r\nHost: localhost:7117\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": bytes.fromhex("16030100f8010000f40303") + bytes(241),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "amqp": b"AMQP\x00\x00\x09\x01",
    "mqtt": bytes.fromhex("101000044d5154540402003c00046162 6364".replace(" ", "")),
    "nats": b'CONNECT {"verbose":false}\r\nPING\r\n',
}
"""What lands on the port of a server that is open to a network. Most of it reads as a length of hundreds of MB."""


async def closed_with(raw) -> commands.Goodbye:
    """The GOODBYE that ends a connection; nothing follows it."""
    said = await raw.until_closed()
    assert said, "it was closed without a word"
    assert type(said[-1]) is commands.Goodbye
    return said[-1]


# Before HELLO.


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
async def test_another_protocol_is_refused(harness, running, bystander, data):
    raw = await harness.raw(running)
    raw.writer.write(data)
    said = await raw.until_closed()  # a GOODBYE may be lost when more was sent than had been read
    assert [(type(each), each.code) for each in said] in (
        [],
        [(commands.Goodbye, "too_large")],
        [(commands.Goodbye, "bad_frame")],
    )
    await running.until(lambda: running.listener.connections == 1)
    await bystander.assert_undisturbed()


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
async def test_another_protocol_after_hello_is_refused(running, bystander, opened, data):
    raw = await opened()
    raw.writer.write(data)
    said = await raw.until_closed()
    assert [(type(each), each.code) for each in said] in (
        [],
        [(commands.Goodbye, "too_large")],
        [(commands.Goodbye, "bad_frame")],
    )
    await running.until(lambda: running.listener.connections == 1)
    await bystander.assert_undisturbed()


EXAMPLES = {vector["type"]: wire_vectors.message_of(vector) for vector in wire_vectors.load("messages")}
MAY_COME = {each.__name__.upper() for each in (*commands.Request.__args__, commands.Credit)} | {
    "PING",
    "PONG",
    "GOODBYE",
}


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"HELLO"}))
async def test_nothing_but_hello_comes_first(harness, running, bystander, name):
    raw = await harness.raw(running)
    raw.say(EXAMPLES[name], HELLO)
    goodbye = await closed_with(raw)
    assert (goodbye.code, "HELLO" in goodbye.text) == ("bad_frame", True)
    assert set(running.shard.state.names) == {"kept"}
    await bystander.assert_undisturbed()


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - MAY_COME))
async def test_what_only_a_broker_says_and_a_second_hello_close(running, bystander, opened, name):
    raw = await opened()
    raw.say(publish(7), EXAMPLES[name], publish(8))
    goodbye = await closed_with(raw)
    assert goodbye.code == "bad_frame"
    assert name in goodbye.text
    assert running.counts("q") == (1, 0, 0, 0)  # what came before counts, what comes after does not
    await bystander.assert_undisturbed()


@pytest.mark.parametrize("size", [FIRST_FRAME_BYTES_MAX - 3, FIRST_FRAME_BYTES_MAX + 1, 1 << 24, (1 << 32) - 1])
async def test_a_length_over_the_limit_is_refused_at_its_fourth_byte(harness, running, size):
    raw = await harness.raw(running)
    raw.writer.write(size.to_bytes(4, "big"))
    goodbye = await closed_with(raw)
    assert goodbye.code == "too_large"
    assert str(size + 4) in goodbye.text
    assert str(FIRST_FRAME_BYTES_MAX) in goodbye.text


async def test_the_longest_hello_is_taken(harness, running):
    raw = await harness.raw(running)
    header = msgpack.packb((*HELLO, b""))  # a field of a later version fills it up
    filler = FIRST_FRAME_BYTES_MAX - PREFIX.size - len(header) - 1
    header = msgpack.packb((*HELLO, bytes(filler)))
    frame = frame_head(0x01, header, 0)
    assert len(frame) == FIRST_FRAME_BYTES_MAX
    raw.writer.write(frame)
    assert [type(each) for each in await raw.hear()] == [replies.Welcome]


async def test_a_long_frame_that_comes_together_with_hello_is_refused(harness, running):
    raw = await harness.raw(running)
    raw.say(HELLO, publish(1, body=bytes(FIRST_FRAME_BYTES_MAX)))
    assert (await closed_with(raw)).code == "too_large"
    assert running.shard.state.names == {}


@pytest.mark.parametrize("token", ["", "s3cre", "s3cret ", "S3CRET", "x" * 1024])
async def test_a_wrong_token(harness, token):
    running = await harness.broker(token="s3cret")
    raw = await harness.raw(running)
    raw.say(HELLO._replace(token=token), publish(1))
    goodbye = await closed_with(raw)
    assert goodbye.code == "unauthenticated"
    assert "s3cret" not in goodbye.text
    assert running.shard.state.names == {}
    assert "s3cret" not in str(running.logged.entries)


# Frames that are bad.


BAD_FRAMES = [
    vector for vector in wire_vectors.load("bad_frames") if not vector["size_exceeded"] or vector["limit"] == 1 << 24
]


@pytest.mark.parametrize("vector", BAD_FRAMES, ids=lambda vector: vector["name"])
async def test_bad_frames(running, bystander, opened, vector):
    raw = await opened()
    raw.say(publish(1))
    raw.writer.write(wire_vectors.data_of(vector["hex"]))
    assert (await closed_with(raw)).code == ("too_large" if vector["size_exceeded"] else "bad_frame")
    assert running.counts("q") == (1, 0, 0, 0)
    await bystander.assert_undisturbed()


@pytest.mark.parametrize("vector", wire_vectors.load("bad_headers"), ids=lambda vector: vector["name"])
async def test_bad_headers(running, bystander, opened, vector):
    """A field of the wrong type closes; one over its limit is refused, if it is a request's, and the rest goes on."""
    raw = await opened()
    raw.say(publish(1))
    await raw.hear()
    raw.writer.write(wire_vectors.data_of(vector["hex"]))
    if vector.get("request"):
        (error,) = await raw.hear()
        assert (type(error), error.request, error.code) == (replies.Error, vector["request"], "invalid")
        raw.say(publish(2))
        assert [type(each) for each in await raw.hear()] == [replies.Confirm]
    else:
        assert (await closed_with(raw)).code == "bad_frame"
    assert running.counts("q")[0] == 1 + bool(vector.get("request"))
    await bystander.assert_undisturbed()


async def test_a_bad_frame_costs_one_connection_its_leases_and_nothing_else(running, bystander, opened):
    raw = await opened()
    raw.say(publish(1), publish(2), publish(3), commands.Consume(4, 1, "q", credit=2))
    said: list = []
    while sum(type(each) is replies.Deliver for each in said) < 1:
        said += await raw.hear()
    assert running.counts("q") == (1, 0, 2, 0)
    raw.writer.write(bytes(12))
    await closed_with(raw)
    assert running.counts("q") == (3, 0, 0, 0)
    assert running.consumers("q") == 0
    await bystander.assert_undisturbed()


# The stream, cut anyhow.


async def send(raw, data: bytes, size: int) -> None:
    """Sends so that each piece leaves alone; the two loops take turns between them."""
    sock = raw.writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(data), size):
        raw.writer.write(data[start : start + size])
        await asyncio.sleep(0)
        await asyncio.sleep(0)


CONVERSATION = (
    HELLO,
    commands.Declare(1, "q", {"max_attempts": 3}),
    commands.Publish(2, "q", pack_sizes([1, 2, 3]), priority=9, key="k", block=b"\x80\x80a\x80ab"),
    commands.Consume(3, 1, "q", 2),
    commands.Credit(1, 3),
    commands.Peek(4, "q", "leased"),
    commands.Info(5, "nowhere"),
    commands.ListQueues(6),
    commands.Stop(7, 1),
    commands.Pause(8, "q", True),
    commands.Ping(9),
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
async def test_a_byte_at_a_time_says_the_same(harness, size):
    broker = await harness.broker()
    raw = await harness.raw(broker)
    await send(raw, b"".join(map(codec.encode, CONVERSATION)), size)
    said: list = []
    while replies.Pong(9) not in said or sum(type(each) is replies.Done for each in said) < 3:
        said += await raw.hear()
    assert {each.request for each in said if hasattr(each, "request")} == {1, 3, 4, 5, 6, 7, 8}
    delivered = [each for each in said if type(each) is replies.Deliver]
    assert sum(row[1] for each in delivered for row in each.spans) == 3
    assert b"".join(each.block for each in delivered) == b"\x80\x80a\x80ab"
    assert broker.counts("q") == (0, 0, 3, 0)


@pytest.mark.parametrize("count", [10_000])
async def test_ten_thousand_frames_in_one_segment(running, bystander, opened, count):
    raw = await opened()
    raw.say(*(publish(number) for number in range(1, count + 1)), *map(commands.Ping, range(count)))
    confirmed, pongs = [], []
    while len(confirmed) < count or len(pongs) < count:
        for each in await raw.hear():
            if type(each) is replies.Confirm:
                confirmed += each.confirms
            else:
                pongs.append(each.nonce)
    assert [row[0] for row in confirmed] == list(range(1, count + 1))
    assert [row[1] for row in confirmed] == list(range(1, count + 1))
    assert pongs == list(range(count))
    assert running.counts("q") == (count, 0, 0, 0)
    await bystander.assert_undisturbed()


@pytest.mark.parametrize("cut", [1, 4, 5, 11, 12, 13, -1])
async def test_a_client_that_goes_in_the_middle_of_a_frame(running, bystander, opened, cut):
    raw = await opened()
    raw.writer.write(codec.encode(publish(1)) + codec.encode(publish(2))[:cut])
    await raw.hear()
    await raw.close()
    await running.until(lambda: running.listener.connections == 1)
    assert running.counts("q") == (1, 0, 0, 0)
    await bystander.assert_undisturbed()
