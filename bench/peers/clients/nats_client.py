"""NATS JetStream, through nats-py.

A batch is published as an atomic batch (NATS 2.12: headers that number the messages, and one acknowledgement for all of
them) where that is faster: in memory, and with a sync for each acknowledgement. It takes a sixth of the client's CPU
time of `publish_async` and one future for each message. Into files that are synced now and then (`file-async`) it is
the other way round: the server stores what comes by `publish_async` three times as fast. Single messages go by
`publish_async` throughout.

The consumer is pushed to, and acknowledges the last of what came for all before it (AckPolicy ALL): that takes a third
of the CPU time of `fetch`, which the documentation prefers for other reasons. A work queue stream allows no such
acknowledgement, so the stream keeps what has interest, and forgets what is acknowledged, which with one consumer is the
same. An acknowledgement is not confirmed. `memory` and `file` are the stream's storage.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import nats
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from clients import PREFETCH, Arrivals

if TYPE_CHECKING:
    from nats.aio.client import Client as Connection
    from nats.aio.msg import Msg

SUBJECT, DELIVERED = "bench", "bench.delivered"
PENDING_MAX = 8_000
TIMEOUT_S = 60


class Refused(Exception):
    """The server did not store a batch; the text is what it said."""


class Client:
    """See `clients.Client`."""

    def __init__(self, connection: Connection, *, atomic: bool) -> None:
        self._atomic = atomic
        self._connection = connection
        self._stream = connection.jetstream(publish_async_max_pending=PENDING_MAX)
        self._arrivals: Arrivals[Msg] | None = None
        self._newest: Msg | None = None

    async def create(self, storage: StorageType) -> None:
        """Makes the stream and its consumer; the same ones again is no error."""
        await self._stream.add_stream(
            StreamConfig(
                "bench", subjects=[SUBJECT], retention=RetentionPolicy.INTEREST, storage=storage, allow_atomic=True
            )
        )
        await self._stream.add_consumer(
            "bench",
            ConsumerConfig(
                durable_name="workers", deliver_subject=DELIVERED, ack_policy=AckPolicy.ALL, max_ack_pending=PREFETCH
            ),
        )

    async def publish(self, bodies: list[bytes]) -> None:
        if len(bodies) > 1 and self._atomic:
            await self._publish_batch(bodies)
            return
        acknowledged = [await self._stream.publish_async(SUBJECT, body, wait_stall=TIMEOUT_S) for body in bodies]
        for each in acknowledged:
            await each

    async def _publish_batch(self, bodies: list[bytes]) -> None:
        batch = secrets.token_hex(8)
        for number, body in enumerate(bodies[:-1], 1):
            headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            await self._connection.publish(SUBJECT, body, headers=headers)
        headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(bodies)), "Nats-Batch-Commit": "1"}
        answer = await self._connection.request(SUBJECT, bodies[-1], headers=headers, timeout=TIMEOUT_S)
        if b'"error"' in answer.data:
            raise Refused(answer.data.decode())

    async def take(self) -> list[bytes]:
        if self._arrivals is None:
            self._arrivals = Arrivals()
            await self._connection.subscribe(DELIVERED, cb=self._arrived)
        messages = await self._arrivals.take()
        self._newest = messages[-1]
        return [message.data for message in messages]

    async def _arrived(self, message: Msg) -> None:
        assert self._arrivals is not None
        self._arrivals.add(message)

    async def settle(self, *, last: bool) -> None:
        assert self._newest is not None
        await self._newest.ack()
        if last:
            await self._connection.flush()

    async def close(self) -> None:
        await self._connection.close()


async def connect(address: str, _role: str, variant: str) -> Client:
    client = Client(await nats.connect(f"nats://{address}"), atomic=variant != "file-async")
    await client.create(StorageType.MEMORY if variant == "memory" else StorageType.FILE)
    return client
