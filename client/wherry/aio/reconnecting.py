"""Connecting, and connecting again: addresses in turn, with an exponential back-off and full jitter between rounds."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from wherry import errors
from wherry.conversation.backoff import reconnect_pause_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry.address import Address
    from wherry.aio.link import Link

ATTEMPT_S = 5.0
"""How long one attempt to connect again may take; the first connection has the caller's timeout."""
FINAL = (errors.Unauthenticated, errors.Forbidden, errors.ProtocolError)
"""What trying again does not change."""


class Reconnector:
    """Gives a link its sockets.

    Args:
        addresses: where brokers are; each round begins where the last connection was.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = list(addresses)
        self._tries = 0
        self._connected_at = 0.0

    async def connect(self, make: Callable[[], Link], timeout: float) -> Link:
        """Connects for the first time: one round over the addresses, a link for each.

        Returns:
            The link that is welcome.

        Raises:
            WherryError: no broker could be reached, or it does not want this client; of several, the last one's error.
        """
        error: errors.WherryError | None = None
        for _ in range(len(self._addresses)):
            link = make()
            try:
                await self._attempt(link, timeout)
            except FINAL:
                raise
            except errors.WherryError as failure:
                error = failure
                self._addresses.append(self._addresses.pop(0))
            else:
                return link
        assert error is not None
        raise error

    async def connect_again(self, link: Link) -> None:
        """Connects a link that has lost its socket; returns once it is welcome.

        Raises:
            WherryError: the broker does not want this client any more.
        """
        if asyncio.get_running_loop().time() - self._connected_at > reconnect_pause_s(self._tries, 1.0):
            self._tries = 0  # a broker that welcomes and goes at once is not asked more often for that
        else:
            self._tries += 1
        while True:
            await asyncio.sleep(reconnect_pause_s(self._tries, random.random()))  # noqa: S311 (jitter, not a secret)
            try:
                await self._attempt(link, ATTEMPT_S)
            except FINAL:
                raise
            except errors.WherryError:
                self._tries += 1
                self._addresses.append(self._addresses.pop(0))
            else:
                return

    async def _attempt(self, link: Link, timeout: float) -> None:
        host, port, _ = self._addresses[0]
        welcomed = link.begin()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().create_connection(link.make_connection, host, port)
                await welcomed
            self._connected_at = asyncio.get_running_loop().time()
        except asyncio.CancelledError:
            link.discard(errors.Disconnected("the attempt to connect was given up"))
            raise
        except OSError as error:
            failure: errors.WherryError = errors.Disconnected(f"no broker could be reached at {host}:{port}: {error}")
            if isinstance(error, TimeoutError):
                text = f"no broker answered at {host}:{port} within {timeout:g} s"
                failure = errors.RequestTimeout(text, outcome_unknown=False)
            link.discard(failure)
            raise failure from error
