"""Transactions, as the blocking client offers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from wherry import errors
from wherry.conversation.transaction import Draft
from wherry.sync.insisting import insist

if TYPE_CHECKING:
    from types import TracebackType

    from wherry.sync.link import Link
    from wherry.sync.turns import Waiter


class Transaction(Draft):
    """Settles and publishes, of any queues of a broker, that happen together or not at all; see `Broker.transaction`.

    Nothing is sent before the end of the block. It ends when the broker has confirmed all of it, and then the receipts
    of what was published are there. A block that raises sends nothing. When nothing came of it, its messages count as
    not settled. The end of the block raises:

    - StaleDelivery: the lease of one of its messages was lost; nothing was done.
    - Busy: a queue is full, and still was when the time was over; nothing was done.
    - any other `Refused`: nothing was done.
    - Disconnected, RequestTimeout: whether all of it was done, or nothing, is unknown.

    It belongs to one thread.
    """

    def __init__(self, link: Link, timeout: float | None) -> None:
        super().__init__(link.conversation.block_bytes_max)
        self._link = link
        self._timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is not None:
            self.undo()
        elif not self.is_empty:
            self._commit()

    def _commit(self) -> None:
        try:
            insist(self._link, lambda: self._link.call(self._say), self._timeout)
        except errors.WherryError:
            self.undo()
            raise

    def _say(self, waiter: Waiter, until: float) -> None:
        waiter.then = self._answered
        self._link.conversation.request(self.make, waiter, until)

    def _answered(self, waiter: Waiter) -> None:
        # Under the lock, since credit comes back with it; and also when the thread that waited was interrupted.
        if waiter.error is None:
            self.committed(waiter.value)
