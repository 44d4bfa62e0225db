"""Messages as the blocking client hands them out, and what settling one returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from wherry.conversation.content import UNSET, Unset
from wherry.conversation.leased import Leased, Outcome
from wherry.conversation.requesting import reply_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from wherry.delivery import BaseMessage
    from wherry.model.options import Receipt
    from wherry.sync.link import Link
    from wherry.sync.turns import Waiter
    from wherry.wire.messages import HeaderValue


class Settlement(Outcome):
    """The outcome of a settle. That is sent already; `wait` waits until it is confirmed, and nobody has to.

    An error that nobody waits for is logged.
    """

    __slots__ = ("_link", "_waiters")

    def __init__(self, link: Link, what: str, message: BaseMessage | None = None, expected: int = 1) -> None:
        super().__init__(what, message, expected)
        self._link = link
        self._waiters: list[Waiter] = []

    def wait(self, timeout: float | None = None) -> None:
        """Waits until it is confirmed at the queue's durability.

        Args:
            timeout: how long, in seconds; as long as any request may take when not given.

        Raises:
            StaleDelivery: the lease was not held any more: another consumer may have the message.
            Disconnected: the connection was lost; the outcome is unknown.
            RequestTimeout: no answer came in time; the outcome is unknown.
        """
        if not self.done:
            self._link.wait(self._waiters, lambda: self.done, timeout)
        if self._error is not None:
            raise self._error

    def _known(self) -> None:
        if self._error is not None and not self._waiters:
            self._link.report("%s failed: %s", self._told(), self._error)
        self._link.turns.resolve_all(self._waiters)


class Message(Leased[Settlement]):
    """One message, leased to this client until `deadline`.

    As a context manager it is acknowledged at the end, handed back when the block raises (the exception goes on), and
    released unspent when the program is ended inside the block::

        for message in queue.consume():
            with message:
                handle(message.body)
    """

    __slots__ = ()

    def reply(
        self,
        body: bytes | str | Unset = UNSET,
        *,
        json: Any = UNSET,
        pack: Any = UNSET,
        headers: Mapping[str, HeaderValue] | None = None,
    ) -> Receipt:
        """Publishes the reply to this message, which is a request; it settles nothing.

        Args:
            body: the reply; a str is sent as UTF-8.
            json: a value to send as JSON, in place of a body.
            pack: a value to send as msgpack, in place of a body.
            headers: as for `Queue.publish`.

        Raises:
            Invalid: the message asks for no reply.
            NotFound: the requester has gone.
            WherryError: as for `Queue.publish`.
        """
        from wherry.sync.queue import Queue  # noqa: PLC0415 (a queue imports what this module stands for)

        queue, headers = reply_of(self, headers)
        return Queue(self._link(), queue).publish(body, json=json, pack=pack, headers=headers)

    def _link(self) -> Link:
        intake: Any = self._intake
        link: Link = intake.link
        return link

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)
