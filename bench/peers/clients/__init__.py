"""How each peer is used: its best-kept asyncio client, in the way that its own documentation says is fastest.

Each module has a class `Client` with the face of `Client` below, and says in its docstring what was chosen and why.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol


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


async def connect(peer: str, address: str, role: str) -> Client:
    """Connects to a server.

    Args:
        peer: the module of its client.
        address: HOST:PORT.
        role: producer or consumer.
    """
    module, _, variant = peer.partition(":")
    opened: Client = await import_module(f"clients.{module}").connect(address, role, variant)
    return opened
