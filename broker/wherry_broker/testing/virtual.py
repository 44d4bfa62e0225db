"""The real broker in this process, on a clock that is moved by hand. What it draws is the same in every run."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog

from wherry.aio.broker import Connecting
from wherry.aio.link import Link
from wherry.conversation import Conversation
from wherry.model.options import wire_options
from wherry.model.times import moment_ms
from wherry_broker import crons, version
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard
from wherry_broker.log.memory import MemoryLog
from wherry_broker.server.auth import TokenAuth
from wherry_broker.server.limits import Limits
from wherry_broker.server.listener import Listener
from wherry_broker.server.pump import Pump, restore
from wherry_broker.testing.loop import VirtualLoop
from wherry_broker.testing.transport import LocalTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from wherry_broker.server.clock import Clock

LIMITS = Limits(heartbeat_ms=0)
"""Those of a broker, but that nobody has to say that it is there: it is."""


class VirtualBroker:
    """A broker for tests.

    Everything is as it is with a broker at the end of a socket, but for time: delays, back-offs, leases and time-outs
    go by a clock that stands still until `advance` moves it. Clients' own timers do as well, so a message in the hands
    of code under test is kept leased while time passes, as it would be. What the code awaits by other means, such as
    `asyncio.sleep`, goes by real time.

    Args:
        token: what clients have to show; "" for nothing.
        auto_declare: whether a publish to, or a consumer of, an unknown queue declares it.
        queue: the options of a queue that is declared without any, as for `Broker.declare`.
        start: what time it is at first; now, when not given.
        seed: another one makes other random back-offs.
    """

    def __init__(
        self,
        *,
        token: str = "",
        auto_declare: bool = True,
        queue: Mapping[str, Any] | None = None,
        start: datetime | None = None,
        seed: int = 0,
    ) -> None:
        self._loop = VirtualLoop(round(time.time() * 1000) if start is None else moment_ms(start))
        loop, clock = cast("asyncio.AbstractEventLoop", self._loop), cast("Clock", self._loop)
        defaults = QueueOptions().changed(wire_options(queue or {}))
        draw = random.Random(seed).random  # noqa: S311 (the same in every run)
        shard = Shard(0, draw, defaults, auto_declare=auto_declare, calendar=crons.moments)
        records = MemoryLog()
        restore(shard, records, clock)
        self._pump = Pump(shard, records, clock, loop, LIMITS.uncommitted_bytes_max)
        log = structlog.wrap_logger(None, processors=[_drop], wrapper_class=structlog.stdlib.BoundLogger)
        server = f"wherry/{version()}"
        self._listener = Listener(self._pump, TokenAuth(token), LIMITS, shard.state.epoch, server, log, loop)

    @property
    def now(self) -> datetime:
        """What time it is here."""
        return datetime.fromtimestamp(self._loop.now_ms() / 1000, UTC)

    def connect(self, *, token: str = "", name: str = "", timeout: float = 30.0) -> Connecting:
        """A client of this broker, which has all that `wherry.connect` returns; await it, or use `async with`.

        Args:
            token: what to show to the broker.
            name: what the client calls itself.
            timeout: how long a request may take, in seconds of this clock.
        """
        return Connecting(partial(self._link, Conversation(token, name, 0), timeout))

    async def _link(self, conversation: Conversation, timeout: float) -> Link:
        link = _VirtualLink(self._loop, conversation, timeout)
        connection = self._listener.accept()
        mine = link.make_connection()
        here, there = LocalTransport(self._loop, mine), LocalTransport(self._loop, connection)
        here.join(there)
        connection.connection_made(there)
        welcomed = link.begin()
        mine.connection_made(here)
        await welcomed
        return link

    async def advance(
        self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """Lets time pass. What is due on the way happens in order, each thing at its moment.

        After each of them the event loop turns until clients, broker, and tasks that they wake have done what they can.
        """
        span = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)
        if span < timedelta(0):
            raise ValueError(f"time passes forwards, not by {span}")
        await self._loop.advance(span.total_seconds())

    async def settle(self) -> None:
        """Turns the event loop until clients, broker, and tasks that they wake have done what they can do now."""
        await self._loop.settle()

    def close(self) -> None:
        """Ends it."""
        self._pump.close()


class _VirtualLink(Link):
    """A client's connection that goes by the broker's clock."""

    def __init__(self, loop: VirtualLoop, conversation: Conversation, timeout: float) -> None:
        super().__init__(conversation, timeout, loop=cast("asyncio.AbstractEventLoop", loop))
        self.now_ms = loop.now_ms  # type: ignore[method-assign]


def _drop(_logger: object, _name: str, _event: object) -> Any:
    raise structlog.DropEvent
