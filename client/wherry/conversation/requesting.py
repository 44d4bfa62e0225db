"""Requests and their replies: the reply comes to a temporary queue of the requester. Pure; protocol.md, section 5.

All requests of a connection share one such queue, and are told apart by their numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wherry import errors
from wherry.model.commands import Verb
from wherry.model.names import TEMPORARY_PREFIX, split_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wherry.conversation.holding import Holding
    from wherry.delivery import BaseMessage
    from wherry.wire.messages import HeaderValue

REPLY_TO = "wherry-reply-to"
"""The header of a request: where the reply goes."""
REPLY_OF = "wherry-reply-of"
"""The header of a reply: which request it answers."""
CREDIT = 500
"""How many replies may be on their way at a time."""
W = TypeVar("W")


def inbox_name(secret: str) -> str:
    """The name of a temporary queue; `secret` is random, and made of what names are made of."""
    return f"{TEMPORARY_PREFIX}{secret}"


class Replies(Generic[W]):
    """Who waits for a reply."""

    def __init__(self) -> None:
        self._number = 0
        self._waiting: dict[int, W] = {}

    def expect(self, waiter: W) -> int:
        """Somebody waits from now on; returns the number of the request."""
        self._number += 1
        self._waiting[self._number] = waiter
        return self._number

    def forget(self, number: int) -> None:
        """Nobody waits for that any more."""
        self._waiting.pop(number, None)

    def take(self, inbox: Holding[Any], deadline: float) -> list[tuple[W, Any]]:
        """Acknowledges what has come.

        Returns:
            Who waits for what of it. Replies that came too late are dropped.
        """
        found = []
        for message in inbox.buffer.take_all():
            message.settled = "ack"
            inbox.settle_range(message.delivery, Verb.ACK, message.offset, 1, None, deadline)
            waiter = self._waiting.pop(_number_of(message), None)
            if waiter is not None:
                found.append((waiter, message))
        return found

    def give_up(self) -> list[W]:
        """No reply will come any more; returns who waited for one."""
        waiting, self._waiting = list(self._waiting.values()), {}
        return waiting


def request_headers(headers: Mapping[str, HeaderValue] | None, inbox: str, number: int) -> dict[str, HeaderValue]:
    """The headers of a request."""
    return {**(headers or {}), REPLY_TO: f"{inbox}/{number}"}


def reply_of(message: BaseMessage, headers: Mapping[str, HeaderValue] | None) -> tuple[str, dict[str, HeaderValue]]:
    """Where the reply to a message goes, and its headers.

    Raises:
        Invalid: the message asks for none.
    """
    try:
        queue, number = split_id(str(message.headers.get(REPLY_TO, "")))
    except ValueError:
        raise errors.Invalid(f"{message.id} is no request: it has no header {REPLY_TO}") from None
    return queue, {**(headers or {}), REPLY_OF: number}


def no_reply(queue: str, timeout: float) -> errors.RequestTimeout:
    """The error of a request that nobody has answered in time."""
    text = f"no reply to a request in {queue} came within {timeout:g} s; whether it was worked on is unknown"
    return errors.RequestTimeout(text, outcome_unknown=True)


def _number_of(message: BaseMessage) -> int:
    try:
        number = message.headers.get(REPLY_OF, 0)
    except ValueError:  # it has no headers at all
        return 0
    return number if isinstance(number, int) else 0
