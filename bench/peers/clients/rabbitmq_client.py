"""RabbitMQ, through aio-pika with publisher confirms.

A batch is published by one coroutine for each message, all awaited together: aio-pika has no other way to have many
unconfirmed. The consumer has a prefetch of 4,000 and acknowledges 500 at a time (`multiple=True`), which is what
RabbitMQ's documentation recommends for throughput. `memory` publishes transient messages to a classic queue; `quorum`
persistent ones to a quorum queue of one node, whose confirms wait for its log to be synced.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aio_pika

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustConnection

QUEUE = "bench"
PREFETCH = 4_000
BULK = 500


class Client:
    """See `clients.Client`."""

    def __init__(
        self,
        connection: AbstractRobustConnection,
        channel: AbstractRobustChannel,
        queue: aio_pika.abc.AbstractQueue,
        mode: aio_pika.DeliveryMode,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._queue = queue
        self._mode = mode
        self._came: asyncio.Queue[AbstractIncomingMessage] | None = None
        self._newest: AbstractIncomingMessage | None = None

    async def publish(self, bodies: list[bytes]) -> None:
        exchange, mode = self._channel.default_exchange, self._mode
        publishes = [exchange.publish(aio_pika.Message(body, delivery_mode=mode), QUEUE) for body in bodies]
        if len(publishes) == 1:
            await publishes[0]
        else:
            await asyncio.gather(*publishes)

    async def take(self) -> list[bytes]:
        if self._came is None:
            self._came = asyncio.Queue()
            await self._queue.consume(self._came.put)
        messages = [await self._came.get()]
        while not self._came.empty() and len(messages) < BULK:
            messages.append(self._came.get_nowait())
        self._newest = messages[-1]
        return [message.body for message in messages]

    async def settle(self, *, last: bool) -> None:
        assert self._newest is not None
        await self._newest.ack(multiple=True)
        if last:
            await self._channel.set_qos(prefetch_count=PREFETCH)  # answered after the ack is taken

    async def close(self) -> None:
        await self._connection.close()


async def connect(address: str, role: str, variant: str) -> Client:
    connection = await aio_pika.connect_robust(f"amqp://guest:guest@{address}/")
    channel = await connection.channel(publisher_confirms=role == "producer")
    await channel.set_qos(prefetch_count=PREFETCH)
    arguments = {"x-queue-type": "quorum" if variant == "quorum" else "classic"}
    queue = await channel.declare_queue(QUEUE, durable=True, arguments=arguments)
    mode = aio_pika.DeliveryMode.PERSISTENT if variant == "quorum" else aio_pika.DeliveryMode.NOT_PERSISTENT
    return Client(connection, channel, queue, mode)
