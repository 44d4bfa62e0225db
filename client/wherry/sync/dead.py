"""The dead of a queue: messages that were rejected, or whose attempts are exhausted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wherry.conversation import asks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.conversation.asks import Where
    from wherry.delivery import PeekedMessage
    from wherry.sync.link import Link


class Dead:
    """The dead of a queue; `queue.dead` is one.

    Example::

        moved = queue.dead.redrive(where=lambda message: message.reason == "attempts", rate=100)
    """

    def __init__(self, link: Link, queue: str) -> None:
        self._link = link
        self._queue = queue

    def messages(self, where: Where | None = None) -> Iterator[PeekedMessage]:
        """The dead messages, in the order of their offsets.

        Args:
            where: which ones; all of them when not given.
        """
        for page in self._pages(where):
            yield from page

    def redrive(
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
        step = asks.PEEK_MESSAGES_MAX if rate is None else max(1, min(asks.PEEK_MESSAGES_MAX, int(rate)))
        for page in self._pages(where):
            for start in range(0, len(page), step):
                part = page[start : start + step]
                if dry_run:
                    total += len(part)
                    continue
                total += self._link.ask(asks.redrive(self._queue, asks.ranges_of(part), to))
                if rate is not None:
                    time.sleep(len(part) / rate)
        return total

    def purge(self, where: Where | None = None) -> int:
        """Removes dead messages for good.

        Args:
            where: which ones; all of them when not given.

        Returns:
            How many there were.
        """
        if where is None:
            return self._link.ask(asks.purge(self._queue, ("dead",)))
        pages = (page for page in self._pages(where) if page)
        return sum(self._link.ask(asks.cancel(self._queue, asks.ranges_of(page))) for page in pages)

    def _pages(self, where: Where | None) -> Iterator[list[PeekedMessage]]:
        first = 1
        while first:
            found, first = self._link.ask(asks.look(self._queue, asks.PEEK_MESSAGES_MAX, "dead", first))
            yield [message for message in found if where is None or where(message)]
