"""RabbitMQ, through pika, the client of its own tutorials, with the asyncio adapter.

Publisher confirms are on, and come while the next messages are published: the documentation calls that the fastest way
that loses nothing. A consumer has a prefetch of 4,000 and acknowledges all that came with one `multiple`. aio-pika and
aiormq beneath it were tried too: they take five times the CPU time, most of it in a future and a lock for each message.

`transient` publishes messages that are not written to a classic queue, `persistent` those that are; `quorum` persistent
ones to a quorum queue of one node, whose confirms wait until its log is synced.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

from clients import PREFETCH, Arrivals

if TYPE_CHECKING:
    from collections.abc import Callable

    from pika.channel import Channel

QUEUE = "bench"
TRANSIENT, PERSISTENT = 1, 2


class Refused(Exception):
    """The broker did not take a message."""


class Confirms:
    """The confirms that are awaited: of each publish, the future of its call and how many it waits for."""

    def __init__(self) -> None:
        self._newest = 0
        self._oldest = 1
        self._waiting: dict[int, list[Any]] = {}

    def expect(self, count: int) -> asyncio.Future[None]:
        """What is done when the next `count` messages are confirmed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call = [count, future]
        for _ in range(count):
            self._newest += 1
            self._waiting[self._newest] = call
        return future

    def came(self, frame: Any) -> None:
        """The broker confirms one message, or all of them up to one."""
        tag = frame.method.delivery_tag
        if isinstance(frame.method, pika.spec.Basic.Nack):
            self._waiting[tag][1].set_exception(Refused(str(tag)))
            return
        first = self._oldest if frame.method.multiple else tag
        for each in range(first, tag + 1):
            call = self._waiting.pop(each, None)
            if call is not None:
                call[0] -= 1
                if not call[0]:
                    call[1].set_result(None)
        if frame.method.multiple:
            self._oldest = tag + 1


class Client:
    """See `clients.Client`."""

    def __init__(self, connection: AsyncioConnection, channel: Channel, confirms: Confirms, mode: int) -> None:
        self._connection = connection
        self._channel = channel
        self._confirms = confirms
        self._properties = pika.BasicProperties(delivery_mode=mode)
        self._arrivals: Arrivals[bytes] | None = None
        self._newest = 0

    async def publish(self, bodies: list[bytes]) -> None:
        confirmed = self._confirms.expect(len(bodies))
        for body in bodies:
            self._channel.basic_publish("", QUEUE, body, self._properties)
        await confirmed

    async def take(self) -> list[bytes]:
        if self._arrivals is None:
            self._arrivals = Arrivals()
            self._channel.basic_consume(QUEUE, self._arrived)
        return await self._arrivals.take()

    def _arrived(self, _channel: Channel, method: Any, _properties: Any, body: bytes) -> None:
        assert self._arrivals is not None
        self._newest = method.delivery_tag
        self._arrivals.add(body)

    async def settle(self, *, last: bool) -> None:
        self._channel.basic_ack(self._newest, multiple=True)
        if last:  # what is answered after it
            await called(lambda done: self._channel.basic_qos(prefetch_count=PREFETCH, callback=done))

    async def close(self) -> None:
        self._connection.close()


async def called(work: Callable[[Callable[[Any], None]], object]) -> Any:
    """What a callback is called with that `work` is given."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    work(future.set_result)
    return await future


async def connect(address: str, role: str, variant: str) -> Client:
    host, _, port = address.partition(":")
    parameters = pika.ConnectionParameters(host, int(port))
    connection = await called(lambda done: AsyncioConnection(parameters, on_open_callback=done))
    channel = await called(lambda done: connection.channel(on_open_callback=done))
    await called(lambda done: channel.basic_qos(prefetch_count=PREFETCH, callback=done))
    kind: dict[str, Any] = {"x-queue-type": "quorum"} if variant == "quorum" else {"x-queue-version": 2}
    await called(lambda done: channel.queue_declare(QUEUE, durable=True, arguments=kind, callback=done))
    confirms = Confirms()
    if role == "producer":
        await called(lambda done: channel.confirm_delivery(confirms.came, callback=done))
    return Client(connection, channel, confirms, TRANSIENT if variant == "transient" else PERSISTENT)
