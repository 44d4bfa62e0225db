"""Asking about messages: how one stands, and what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from wherry import errors
from wherry.conversation import asks
from wherry.conversation.storing import WAIT_SLICE_MS
from wherry.model.names import message_id
from wherry.model.options import Receipt
from wherry.model.times import to_ms

if TYPE_CHECKING:
    from wherry.aio.link import Link
    from wherry.model import replies
    from wherry.model.status import Status
    from wherry.model.times import Duration


async def result_of(link: Link, queue: str, message: str | int, timeout: Duration | None) -> bytes:
    """What the consumer of a tracked message returns, once it has ended; see `Queue.result`."""
    offset = asks.offset_of(queue, message)
    left_ms = None if timeout is None else to_ms(timeout)
    end = link.now() + (left_ms or 0) / 1000
    while True:
        wait_ms = WAIT_SLICE_MS if left_ms is None else max(0, min(left_ms, WAIT_SLICE_MS))
        link.check_open()
        waiter: asyncio.Future[bytes | replies.Told] = link._loop.create_future()  # noqa: SLF001 (saves a look for it)
        deadline = (link.turn_deadline or link.begin_turn()) + wait_ms / 1000
        awaited = link.conversation.await_result(queue, offset, wait_ms, waiter, deadline)
        try:
            answer = await waiter
        except asyncio.CancelledError:
            link.conversation.give_up(awaited)
            raise
        if isinstance(answer, bytes):
            return answer
        status = asks.told(message_id(queue, offset), answer)
        if status.has_ended:
            return status.take_result()
        if not status.tracked:
            raise errors.Invalid(f"message {status.id} is not tracked: nobody will know how it ended")
        if left_ms is not None:
            left_ms = round((end - link.now()) * 1000)
            if left_ms <= 0:
                return status.take_result()


class TrackedReceipt(Receipt):
    """The receipt of a message that was published with `track=True`, which can be asked about."""

    _link: Link

    @classmethod
    def of(cls, receipt: Receipt, link: Link) -> Self:
        """The same receipt, with somebody to ask."""
        tracked = cls(*receipt)
        tracked._link = link
        return tracked

    async def status(self) -> Status:
        """How the message stands, or how it ended.

        Raises:
            NotFound: that is not remembered any more.
        """
        return await self._link.ask(asks.status(self.queue, self.offset))

    async def result(self, timeout: Duration | None = None) -> bytes:
        """What its consumer returns: waits until the message has ended. Any number may wait.

        Args:
            timeout: how long to wait, in seconds; for as long as it takes when not given.

        Raises:
            JobFailed: it is dead.
            JobExpired: its time to live passed.
            JobCancelled: it was cancelled.
            JobRemoved: it was dropped, purged, or moved to another queue.
            RequestTimeout: it has not ended in time; the text says how it stands.
            NotFound: it is not remembered any more how it ended.
        """
        return await result_of(self._link, self.queue, self.offset, timeout)
