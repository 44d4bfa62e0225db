"""`wherry consume` when the broker ends at a moment of its choice."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

import wherry
from wherry_broker.cli.consume import Taking


class Message:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.released = False

    def release(self) -> None:
        self.released = True


class Broker:
    status = "connected"


class Queue:
    """A queue, and what was acknowledged of it."""

    def __init__(self) -> None:
        self.acked: list[bytes] = []

    async def ack_many(self, messages) -> None:
        self.acked += [message.body for message in messages]


class Consumer:
    """A consumer that the broker stops when it is told to."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait_ended(self) -> None:
        await asyncio.shield(self.ended)

    def end(self) -> None:
        self.ended.set_exception(wherry.Draining("the broker is shutting down"))


class Output:
    """Takes one message, and then the broker ends."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.written: list[bytes] = []
        self.begun = asyncio.Event()

    async def write(self, pieces) -> int:
        self.written.append(pieces[0])
        self.consumer.end()
        await self.begun.wait()
        return 1

    def cut(self) -> int:
        self.begun.set()
        return 1


@pytest.fixture
def messages():
    return [Message(b"a"), Message(b"b")]


@pytest.fixture
async def consumer():
    return Consumer()


@pytest.fixture
async def taking():
    stop = asyncio.get_running_loop().create_future()
    return Taking(Broker(), Queue(), stop, 10, b"\n", as_json=False, keep=False)


async def take(taking, consumer, batches, count):
    """What the command does, without its frame; returns what was written."""
    out = Output(consumer)
    watching = asyncio.create_task(taking._watch(consumer, out))
    async with aclosing(batches):
        with pytest.raises(wherry.Draining):
            await taking._take(batches, out, count, None)
    await watching
    return out.written


async def test_a_batch_that_was_on_its_way_when_the_broker_ended_is_handed_back(taking, consumer, messages):
    async def batches():
        consumer.end()
        await asyncio.sleep(0.001)
        yield messages

    assert await take(taking, consumer, batches(), 2) == []
    assert [message.released for message in messages] == [True, True]
    assert taking._queue.acked == []


async def test_what_is_not_begun_is_handed_back_and_does_not_count(taking, consumer, messages):
    async def batches():
        yield list(messages)

    assert await take(taking, consumer, batches(), 2) == [b"a\n"]
    assert [message.released for message in messages] == [False, True]
    assert taking._queue.acked == []  # Taking.run waits for it
    await taking._finish()
    assert taking._queue.acked == [b"a"]
