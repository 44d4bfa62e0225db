"""Where the replies to this client's requests come: one temporary queue for all of them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from wherry.conversation.outcomes import again
from wherry.conversation.requesting import CREDIT, Replies, inbox_name
from wherry.sync.consumer import Intake
from wherry.sync.message import Message

if TYPE_CHECKING:
    from wherry.conversation import Delivered
    from wherry.sync.link import Link


class Awaited:
    """A reply that a thread waits for; None while it has not come."""

    __slots__ = ("message",)

    def __init__(self) -> None:
        self.message: Message | None = None


class Inbox(Intake):
    """A consumer that hands each reply to the thread that waits for it."""

    def __init__(self, link: Link) -> None:
        super().__init__(link, inbox_name(secrets.token_urlsafe(16)), CREDIT, None, None, Message)
        self._replies: Replies[Awaited] = Replies()

    def expect(self, awaited: Awaited) -> int:
        """A reply is waited for from now on; returns the number of its request."""
        with self.link.turns.lock:
            return self._replies.expect(awaited)

    def forget_reply(self, number: int) -> None:
        """Nobody waits for that any more."""
        with self.link.turns.lock:
            self._replies.forget(number)

    def wait(self, awaited: Awaited, until: float) -> Message | None:
        """Waits for a reply; None when it does not come in time.

        Raises:
            WherryError: no reply will come any more.
        """
        while awaited.message is None:
            if self.ended is not None:
                raise again(self.ended)
            if not self.link.linger(self._waiters, lambda: awaited.message is not None or self._over, until):
                return None
        return awaited.message

    def take(self, delivered: Delivered) -> None:
        """Replies came."""
        super().take(delivered)
        for awaited, message in self._replies.take(self, self.link.now() + self.link.timeout):
            awaited.message = message


def inbox_of(link: Link) -> Inbox:
    """The inbox of a connection, made when it is first asked for."""
    with link.inbox_lock:
        inbox = link.inbox
        if not isinstance(inbox, Inbox) or inbox.ended is not None:
            inbox = link.inbox = Inbox(link)
        inbox.attach()
        return inbox
