"""The dead of a queue: messages that were rejected, or whose attempts are exhausted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from wherry.delivery import PeekedMessage
from wherry.model import commands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wherry.aio.queue import Queue
    from wherry.model.fields import Range

PAGE_MESSAGES = 1_000
Where = Callable[[PeekedMessage], bool]
"""Says which messages are meant."""


class Dead:
    """The dead of a queue; `queue.dead` is one.

    Example::

        moved = await queue.dead.redrive(where=lambda message: message.reason == "attempts", rate=100)
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def messages(self, where: Where | None = None) -> AsyncIterator[PeekedMessage]:
        """The dead messages, in the order of their offsets.

        Args:
            where: which ones; all of them when not given.
        """
        async for page in self._pages(where):
            for message in page:
                yield message

    async def redrive(
        self, to: str | None = None, where: Where | None = None, rate: float | None = None, *, dry_run: bool = False
    ) -> int:
        """Makes dead messages ready again, with all their attempts before them.

        One whose time to live has passed stays dead in its own queue; in another one it begins anew.

        Args:
            to: the name of the queue that they go to; their own when not given.
            where: which ones; all of them when not given.
            rate: how many a second at most.
            dry_run: whether to count them only.

        Returns:
            How many there are, or were.

        Raises:
            NotFound: there is no such queue.
            Busy: the other queue is full; those before stay moved.
        """
        total = 0
        step = PAGE_MESSAGES if rate is None else max(1, min(PAGE_MESSAGES, int(rate)))
        async for page in self._pages(where):
            for start in range(0, len(page), step):
                part = page[start : start + step]
                if dry_run:
                    total += len(part)
                    continue
                make = partial(commands.Redrive, queue=self._queue.name, ranges=ranges_of(part), to=to or "")
                total += await self._queue.total_of(make)
                if rate is not None:
                    await asyncio.sleep(len(part) / rate)
        return total

    async def purge(self, where: Where | None = None) -> int:
        """Removes dead messages for good.

        Args:
            where: which ones; all of them when not given.

        Returns:
            How many there were.
        """
        if where is None:
            return await self._queue.purge("dead")
        total = 0
        async for page in self._pages(where):
            if page:
                make = partial(commands.Cancel, queue=self._queue.name, ranges=ranges_of(page))
                total += await self._queue.total_of(make)
        return total

    async def _pages(self, where: Where | None) -> AsyncIterator[list[PeekedMessage]]:
        first = 1
        while first:
            found, first = await self._queue.look(PAGE_MESSAGES, "dead", first)
            yield [message for message in found if where is None or where(message)]


def ranges_of(messages: list[PeekedMessage]) -> tuple[Range, ...]:
    """The offsets of messages, as (first, count); neighbours are joined."""
    result: list[list[int]] = []
    for message in messages:
        if result and sum(result[-1]) == message.offset:
            result[-1][1] += 1
        else:
            result.append([message.offset, 1])
    return tuple((first, count) for first, count in result)
