"""Messages in the client's hands: what a user may do with one, and the outcome of a settle. Pure.

The shells add how one waits for an outcome, and what a `with` block does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from wherry import errors
from wherry.conversation.content import body_bytes
from wherry.delivery import BaseMessage
from wherry.model.commands import Verb
from wherry.model.fields import PERMILLE_MAX, TEXT_BYTES_MAX, VALUE_BYTES_MAX
from wherry.model.times import Duration, to_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wherry.delivery import Delivery

SAID = ("ack", "nack", "reject", "release", "extend")
"""The words for verbs, by their numbers."""
S_co = TypeVar("S_co", covariant=True)


class Outcome(ABC):
    """The outcome of a settle: known once all of its ranges are answered; the first error counts.

    Args:
        what: what is done, for an error's text.
        message: to what; None when `what` says it.
        expected: how many answers make the outcome.

    Attributes:
        done: whether the outcome is known.
    """

    __slots__ = ("_error", "_expected", "_message", "_what", "done")

    def __init__(self, what: str, message: BaseMessage | None = None, expected: int = 1) -> None:
        self.done = not expected
        self._what = what
        self._message = message
        self._expected = expected
        self._error: errors.WherryError | None = None

    def resolve(self, error: errors.WherryError | None) -> None:
        """One answer is there."""
        self._error = self._error or error
        self._expected -= 1
        if not self._expected:
            self.done = True
            self._known()

    def _told(self) -> str:
        """What the outcome is of."""
        return self._what if self._message is None else f"{self._what} of {self._message.id}"

    @abstractmethod
    def _known(self) -> None:
        """Tells those who wait."""


class Settler(Protocol[S_co]):
    """What messages are settled by."""

    def settle(
        self, message: BaseMessage, verb: Verb, duration_ms: int | None, text: str, result: bytes | None = None
    ) -> S_co:
        """Settles one message."""

    def extend(
        self, message: BaseMessage, duration_ms: int | None, progress: int | None = None, note: str = ""
    ) -> S_co:
        """Moves the deadline of one message's lease, and says how far the work has come."""

    def finished(self, message: BaseMessage) -> None:
        """Takes note that a message was settled by a transaction."""

    def ack_range(self, delivery: Delivery, first: int, count: int, outcome: Outcome) -> None:
        """Acknowledges messages of one delivery, next to each other."""


class Leased(BaseMessage, Generic[S_co]):
    """One message, leased to this client until `deadline`."""

    __slots__ = ("_intake",)

    _intake: Settler[S_co]

    @classmethod
    def many(
        cls, delivery: Delivery, offsets: range, bodies: Iterator[bytes], packed: Iterator[bytes], intake: Settler[S_co]
    ) -> list[Self]:
        """Messages of one delivery, as many as there are offsets; the rest of the bodies is left alone.

        There is no `__init__`: calling it for each would take as long as all else.
        """
        made = list(starmap(cls, repeat((), len(offsets))))
        for message, offset, body, headers in zip(made, offsets, bodies, packed, strict=False):
            message.delivery = delivery
            message.offset = offset
            message.body = body
            message.settled = ""
            message._packed = headers  # noqa: SLF001 (of its own kind)
            message._headers = None  # noqa: SLF001
            message._intake = intake  # noqa: SLF001
        return made

    def ack(self, result: bytes | str | None = None) -> S_co:
        """Says that the work is done: the message is gone for good.

        Args:
            result: what came of it, at most 1 MiB; a str becomes UTF-8. It is kept, in the same commit, for those who
                ask for it, when the message was published with `track=True`.

        Raises:
            AlreadySettled: this message was settled before.
            TooLarge: the result is over the limit.
        """
        if result is None:
            return self._settle(Verb.ACK)
        return self._settle(Verb.ACK, result=result_bytes(result))

    def nack(self, error: object = None, delay: Duration | None = None) -> S_co:
        """Says that the attempt failed: the message comes again, after the queue's back-off.

        Args:
            error: what went wrong; its text is kept with the message.
            delay: how long to wait instead of the queue's back-off, in seconds.
        """
        return self._settle(Verb.NACK, None if delay is None else to_ms(delay), error_text(error))

    def reject(self, reason: object = None) -> S_co:
        """Says that no attempt can succeed: the message is dead at once, and kept with the reason."""
        return self._settle(Verb.REJECT, None, error_text(reason))

    def release(self, delay: Duration | None = None, reason: object = None) -> S_co:
        """Hands the message back unworked: the attempt does not count.

        Args:
            delay: how long it waits before it is ready again, in seconds; not at all when not given.
            reason: why; its text is kept with the message.
        """
        return self._settle(Verb.RELEASE, None if delay is None else to_ms(delay), error_text(reason))

    def extend(self, seconds: Duration | None = None) -> S_co:
        """Moves the lease's deadline to `seconds` from now; when not given, to as long as the lease was at first.

        Raises:
            AlreadySettled: this message was settled before.
        """
        if self.settled:
            raise errors.AlreadySettled(f"{self.id} was settled before: {self.settled}")
        return self._intake.extend(self, None if seconds is None else to_ms(seconds))

    def progress(self, fraction: float, note: object = None) -> S_co:
        """Says how far the work has come, for those who ask; and has the lease run as long as at first from now on.

        Args:
            fraction: from 0 to 1.
            note: what is done now; its text is shown with the fraction.

        Raises:
            AlreadySettled: this message was settled before.
            ValueError: the fraction is out of its range.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is a fraction from 0 to 1, not {fraction!r}")
        if self.settled:
            raise errors.AlreadySettled(f"{self.id} was settled before: {self.settled}")
        return self._intake.extend(self, None, round(fraction * PERMILLE_MAX), error_text(note))

    def _settle(self, verb: Verb, duration_ms: int | None = None, text: str = "", result: bytes | None = None) -> S_co:
        if self.settled:
            raise errors.AlreadySettled(f"{self.id} was settled before: {self.settled}")
        self.settled = SAID[verb]
        return self._intake.settle(self, verb, duration_ms, text, result)

    def _leave(self, error: BaseException | None) -> None:
        """Settles it at the end of its block, by how the block ended; one that is settled stays so."""
        if self.settled:
            return
        if error is None:
            self.ack()
            return
        try:
            if isinstance(error, Exception):
                self.nack(error)
            else:  # cancelled, or the program is ending: nothing is wrong with the message
                self.release()
        except errors.Disconnected:
            return  # the lease ends by itself then, and the block's error goes on


def result_bytes(result: bytes | str) -> bytes:
    """A result as bytes; a str becomes UTF-8.

    Raises:
        TypeError: it is neither bytes nor str.
        TooLarge: it is over the limit.
    """
    body = body_bytes(result)
    if len(body) > VALUE_BYTES_MAX:
        raise errors.TooLarge(f"a result of {len(body)} bytes is over the limit of {VALUE_BYTES_MAX} bytes")
    return body


def error_text(error: object) -> str:
    """An error as the text that is kept with a message."""
    if error is None:
        return ""
    text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
    # The wire holds no lone surrogates; the text of an OSError may have some, from the name of a file.
    return text.encode(errors="replace")[:TEXT_BYTES_MAX].decode(errors="ignore")


def acked_ranges(messages: Sequence[Leased[Any]]) -> list[tuple[Delivery, int, int]]:
    """Takes note that all of these are acknowledged, and returns them as `runs`.

    Raises:
        AlreadySettled: one of them was settled before, or is named twice; nothing has changed then.
    """
    for position, message in enumerate(messages):
        if message.settled:
            mine = messages[:position]
            for each in mine:
                each.settled = ""
            what = "it is named twice" if message in mine else f"it was settled before: {message.settled}"
            raise errors.AlreadySettled(f"{message.id} cannot be acknowledged: {what}")
        message.settled = "ack"
    return runs(messages)


def runs(messages: Sequence[BaseMessage]) -> list[tuple[Delivery, int, int]]:
    """Messages as ranges: (delivery, first offset, count), neighbours joined."""
    result: list[tuple[Delivery, int, int]] = []
    delivery: Delivery | None = None
    first = stop = 0
    for message in messages:
        if message.offset == stop and message.delivery is delivery:
            stop += 1
            continue
        if delivery is not None:
            result.append((delivery, first, stop - first))
        delivery, first = message.delivery, message.offset
        stop = first + 1
    if delivery is not None:
        result.append((delivery, first, stop - first))
    return result
