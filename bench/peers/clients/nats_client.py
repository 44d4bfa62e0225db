"""NATS JetStream, through nats-py.

A batch is published with `publish_async` for each message and awaited together; a pull consumer fetches 500 at a time
and acknowledges each, which is how its documentation does it (an ack is not confirmed). The stream has the work queue
policy: what is acknowledged is gone. `memory` and `file` are the stream's storage.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import nats
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

if TYPE_CHECKING:
    from nats.aio.client import Client as Connection
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

SUBJECT = "bench"
BULK = 500
PENDING_MAX = 8_000


class Client:
    """See `clients.Client`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._taken: list[Msg] = []
        self._stream = connection.jetstream(publish_async_max_pending=PENDING_MAX)

    async def publish(self, bodies: list[bytes]) -> None:
        if len(bodies) == 1:
            await self._stream.publish(SUBJECT, bodies[0])
            return
        await asyncio.gather(*[await self._stream.publish_async(SUBJECT, body, wait_stall=60) for body in bodies])

    async def take(self) -> list[bytes]:
        if self._subscription is None:
            config = ConsumerConfig(max_ack_pending=4_000)
            self._subscription = await self._stream.pull_subscribe(SUBJECT, "workers", config=config)
        while True:
            try:
                self._taken = await self._subscription.fetch(BULK, timeout=5)
            except NatsTimeout:
                continue
            return [message.data for message in self._taken]

    async def settle(self, *, last: bool) -> None:
        for message in self._taken:
            await message.ack()
        if last:
            await self._connection.flush()

    async def close(self) -> None:
        await self._connection.close()


async def connect(address: str, _role: str, variant: str) -> Client:
    connection = await nats.connect(f"nats://{address}")
    client = Client(connection)
    storage = StorageType.FILE if variant == "file" else StorageType.MEMORY
    config = StreamConfig("bench", subjects=[SUBJECT], retention=RetentionPolicy.WORK_QUEUE, storage=storage)
    await client._stream.add_stream(config)  # noqa: SLF001 (it is ours; the same one again is no error)
    return client
