"""Transactions, as the asyncio client offers them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from wherry import errors
from wherry.aio.queue import back_off
from wherry.conversation.transaction import Draft

if TYPE_CHECKING:
    from types import TracebackType

    from wherry.aio.link import Link
    from wherry.model import replies


class Transaction(Draft):
    """Settles and publishes, of any queues of a broker, that happen together or not at all; see `Broker.transaction`.

    Nothing is sent before the end of the block. It ends when the broker has confirmed all of it, and then the receipts
    of what was published are there. A block that raises sends nothing. When nothing came of it, its messages count as
    not settled. The end of the block raises:

    - StaleDelivery: the lease of one of its messages was lost; nothing was done.
    - Busy: a queue is full, and still was when the time was over; nothing was done.
    - any other `Refused`: nothing was done.
    - Disconnected, RequestTimeout: whether all of it was done, or nothing, is unknown.
    """

    def __init__(self, link: Link, timeout: float | None) -> None:
        super().__init__(link.conversation.block_bytes_max)
        self._link = link
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is not None:
            self.undo()
        elif not self.is_empty:
            await self._commit()

    async def _commit(self) -> None:
        started, tries = self._link.now(), 0
        while True:
            answer = self._send()
            try:
                self._finish(await asyncio.shield(answer))
            except errors.Busy as busy:
                tries += 1
                await self._back_off(busy, tries, started)
            except errors.WherryError:
                self.undo()
                raise
            except asyncio.CancelledError:
                answer.add_done_callback(self._answered_late)
                raise
            else:
                return

    def _send(self) -> asyncio.Future[replies.Committed]:
        link = self._link
        try:
            link.check_open()
        except errors.Disconnected:
            self.undo()
            raise
        answer: asyncio.Future[replies.Committed] = asyncio.get_running_loop().create_future()
        link.conversation.request(self.make, answer, link.now() + link.timeout)
        link.wake()
        return answer

    async def _back_off(self, busy: errors.Busy, tries: int, started: float) -> None:
        try:
            await back_off(busy, tries, started, self._link, self._timeout)
        except (errors.Busy, asyncio.CancelledError):
            self.undo()
            raise

    def _finish(self, reply: replies.Committed) -> None:
        self.committed(reply)
        self._link.wake()

    def _answered_late(self, answer: asyncio.Future[replies.Committed]) -> None:
        """Nobody waits for the answer any more; whether the messages are settled depends on it all the same."""
        if answer.exception() is None:
            self._finish(answer.result())
        else:
            self.undo()
