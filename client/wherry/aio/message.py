"""Messages as the asyncio client hands them out, and what settling one returns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from wherry.conversation.content import UNSET, Unset
from wherry.conversation.leased import Leased, Outcome
from wherry.conversation.requesting import reply_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from types import TracebackType

    from wherry.aio.link import Link
    from wherry.delivery import BaseMessage
    from wherry.model.options import Receipt
    from wherry.wire.messages import HeaderValue


class Settlement(Outcome):
    """The outcome of a settle: await it to know that it is confirmed; or leave it, and it is sent all the same.

    Awaiting raises `StaleDelivery` when the lease was not held any more, and `Disconnected` or `RequestTimeout` when
    the outcome is unknown. An error that nobody awaits is logged.
    """

    __slots__ = ("_future",)

    def __init__(self, what: str, message: BaseMessage | None = None, expected: int = 1) -> None:
        super().__init__(what, message, expected)
        self._future: asyncio.Future[None] | None = None

    def _known(self) -> None:
        if self._future is None:
            if self._error is not None:
                _log_unawaited(self._told(), self._error)
        elif not self._future.done():
            self._future.set_result(None)

    def __await__(self) -> Generator[Any, None, None]:
        if not self.done:
            if self._future is None:
                self._future = asyncio.get_running_loop().create_future()
            # Shielded: one of several who wait may be cancelled, and the settle goes on.
            yield from asyncio.shield(self._future).__await__()
        if self._error is not None:
            raise self._error


def _log_unawaited(what: str, error: BaseException) -> None:
    from wherry.aio.link import logger  # noqa: PLC0415 (the link imports what this module stands for)

    logger.warning("%s failed: %s", what, error)


class Message(Leased[Settlement]):
    """One message, leased to this client until `deadline`.

    As a context manager it is acknowledged at the end, handed back when the block raises (the exception goes on), and
    released unspent when the block is cancelled::

        async for message in queue.consume():
            async with message:
                await handle(message.body)
    """

    __slots__ = ()

    async def reply(
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
        from wherry.aio.queue import Queue  # noqa: PLC0415 (a queue imports what this module stands for)

        queue, headers = reply_of(self, headers)
        return await Queue(self._link(), queue).publish(body, json=json, pack=pack, headers=headers)

    def _link(self) -> Link:
        intake: Any = self._intake
        link: Link = intake.link
        return link

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)
