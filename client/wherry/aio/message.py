"""Messages as the asyncio client hands them out, and what settling one returns."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Self

from wherry import errors
from wherry.delivery import BaseMessage
from wherry.model.commands import Verb
from wherry.model.fields import TEXT_BYTES_MAX
from wherry.model.times import Duration, to_ms

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from wherry.aio.consumer import Intake
    from wherry.delivery import Delivery


class Settlement:
    """The outcome of a settle: await it to know that it is confirmed; or leave it, and it is sent all the same.

    Awaiting raises `StaleDelivery` when the lease was not held any more, and `Disconnected` or `RequestTimeout` when
    the outcome is unknown. An error that nobody awaits is logged.
    """

    __slots__ = ("_error", "_future", "_what", "done")

    def __init__(self, what: str) -> None:
        self.done = False
        self._what = what
        self._error: errors.WherryError | None = None
        self._future: asyncio.Future[None] | None = None

    def resolve(self, error: errors.WherryError | None) -> None:
        """The outcome is known."""
        self.done = True
        self._error = error
        if self._future is None:
            if error is not None:
                _log_unawaited(self._what, error)
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


def _log_unawaited(what: str, error: errors.WherryError) -> None:
    from wherry.aio.link import logger  # noqa: PLC0415 (the link imports what this module stands for)

    logger.warning("%s failed: %s", what, error)


class ManySettlement(Settlement):
    """The outcome of settling several ranges: known when all of theirs are, and the first error if there is one."""

    __slots__ = ("_expected", "_first_error")

    def expect(self, ranges: int) -> None:
        """Says how many outcomes to wait for."""
        self._expected = ranges
        self._first_error: errors.WherryError | None = None
        if not ranges:
            super().resolve(None)

    def resolve(self, error: errors.WherryError | None) -> None:
        """One outcome is known."""
        self._first_error = self._first_error or error
        self._expected -= 1
        if not self._expected:
            super().resolve(self._first_error)


class Message(BaseMessage):
    """One message, leased to this client until `deadline`.

    As a context manager it is acknowledged at the end, handed back when the block raises (the exception goes on), and
    released unspent when the block is cancelled::

        async for message in queue.consume():
            async with message:
                await handle(message.body)
    """

    __slots__ = ("_intake",)

    def __init__(self, delivery: Delivery, offset: int, body: bytes, packed: bytes, intake: Intake) -> None:
        # Not by super(): this runs for every message, and the call would be a third of it.
        self.delivery = delivery
        self.offset = offset
        self.body = body
        self.settled = ""
        self._packed = packed
        self._headers = None
        self._intake = intake

    def ack(self) -> Settlement:
        """Says that the work is done: the message is gone for good.

        Raises:
            AlreadySettled: this message was settled before.
        """
        return self._settle(Verb.ACK)

    def nack(self, error: object = None, delay: Duration | None = None) -> Settlement:
        """Says that the attempt failed: the message comes again, after the queue's back-off.

        Args:
            error: what went wrong; its text is kept with the message.
            delay: how long to wait instead of the queue's back-off, in seconds.
        """
        return self._settle(Verb.NACK, None if delay is None else to_ms(delay), _text(error))

    def reject(self, reason: object = None) -> Settlement:
        """Says that no attempt can succeed: the message is dead at once, and kept with the reason."""
        return self._settle(Verb.REJECT, None, _text(reason))

    def release(self) -> Settlement:
        """Hands the message back unworked: it is ready again at once, and the attempt does not count."""
        return self._settle(Verb.RELEASE)

    def extend(self, seconds: Duration | None = None) -> Settlement:
        """Moves the lease's deadline to `seconds` from now; when not given, to as long as the lease was at first.

        Raises:
            AlreadySettled: this message was settled before.
        """
        if self.settled:
            raise errors.AlreadySettled(f"{self.id} was settled before: {self.settled}")
        return self._intake.extend(self, None if seconds is None else to_ms(seconds))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.settled:
            return
        if error is None:
            self.ack()
            return
        with contextlib.suppress(errors.Disconnected):  # the lease ends by itself then, and the block's error goes on
            if isinstance(error, Exception):
                self.nack(error)
            else:  # cancelled, or the program is ending: nothing is wrong with the message
                self.release()

    def _settle(self, verb: Verb, duration_ms: int | None = None, text: str = "") -> Settlement:
        if self.settled:
            raise errors.AlreadySettled(f"{self.id} was settled before: {self.settled}")
        self.settled = verb.name.lower()
        return self._intake.settle(self, verb, duration_ms, text)


def _text(error: object) -> str:
    """An error as the text that is kept with a message."""
    if error is None:
        return ""
    text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
    # The wire holds no lone surrogates; the text of an OSError may have some, from the name of a file.
    return text.encode(errors="replace")[:TEXT_BYTES_MAX].decode(errors="ignore")
