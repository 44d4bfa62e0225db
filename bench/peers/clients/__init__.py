"""How each peer is used: its best-kept Python client, in the way that is the fastest of those its documentation shows.

Each module has a function `connect` that gives a `Client`, and says in its docstring what was chosen and why. Where two
ways were equally well documented, both were tried, and the faster one stayed.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

PREFETCH = 4_000
"""How many messages a consumer may hold that it has not settled, where a peer knows that."""
BULK = 500
"""How many messages are taken and settled at a time."""


class Client(Protocol):
    """One end of a queue, whatever the server is."""

    async def publish(self, bodies: list[bytes]) -> None:
        """Publishes messages; returns when the server has confirmed them, as far as it can."""

    async def take(self) -> list[bytes]:
        """The next messages, as many as are there, once there are any."""

    async def settle(self, *, last: bool) -> None:
        """Settles what was taken last; when nothing follows, returns when the server has it."""

    async def close(self) -> None:
        """Closes the connection."""


class Arrivals(Generic[T]):
    """What a client was handed by callbacks and has not taken."""

    def __init__(self) -> None:
        self._came: list[T] = []
        self._some = asyncio.Event()

    def add(self, message: T) -> None:
        """A message came."""
        self._came.append(message)
        if len(self._came) == 1:
            self._some.set()

    async def take(self) -> list[T]:
        """All that came, once there is anything."""
        await self._some.wait()
        self._some.clear()
        came, self._came = self._came, []
        return came


async def connect(peer: str, address: str, role: str) -> Client:
    """Connects to a server.

    Args:
        peer: the module of its client, and `:` and a variant of it.
        address: HOST:PORT.
        role: producer or consumer.
    """
    module, _, variant = peer.partition(":")
    opened: Client = await import_module(f"clients.{module}").connect(address, role, variant)
    return opened
