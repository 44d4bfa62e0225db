"""wherry: publish_many and publish, each confirmed; batches of a consumer, settled with ack_many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import wherry
from clients import BULK, PREFETCH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Client:
    """See `clients.Client`."""

    def __init__(self, broker: wherry.Broker) -> None:
        self._broker = broker
        self._queue = broker.queue("bench")
        self._batches: AsyncIterator[list[wherry.Message]] | None = None
        self._taken: list[wherry.Message] = []

    async def publish(self, bodies: list[bytes]) -> None:
        if len(bodies) == 1:
            await self._queue.publish(bodies[0])
        else:
            await self._queue.publish_many(bodies)

    async def take(self) -> list[bytes]:
        if self._batches is None:
            self._batches = self._queue.consume(PREFETCH).batches(BULK)
        self._taken = await anext(self._batches)
        return [message.body for message in self._taken]

    async def settle(self, *, last: bool) -> None:
        settlement = self._queue.ack_many(self._taken)
        if last:
            await settlement

    async def close(self) -> None:
        await self._broker.close()


async def connect(address: str, role: str, _variant: str) -> Client:
    return Client(await wherry.connect(f"wherry://{address}", name=role))
