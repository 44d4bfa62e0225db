"""Where the replies to this client's requests come: one temporary queue for all of them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from wherry.aio.consumer import Intake
from wherry.aio.message import Message
from wherry.conversation.outcomes import again
from wherry.conversation.requesting import CREDIT, Replies, inbox_name

if TYPE_CHECKING:
    import asyncio

    from wherry import errors
    from wherry.aio.link import Link
    from wherry.conversation import Delivered


class Inbox(Intake):
    """A consumer that hands each reply to the one who waits for it."""

    def __init__(self, link: Link) -> None:
        super().__init__(link, inbox_name(secrets.token_urlsafe(16)), CREDIT, None, None, Message)
        self.replies: Replies[asyncio.Future[Message]] = Replies()

    def take(self, delivered: Delivered) -> None:
        """Replies came."""
        super().take(delivered)
        for waiter, message in self.replies.take(self, self.link.now() + self.link.timeout):
            if not waiter.done():
                waiter.set_result(message)
        self.link.wake()

    def stopped(self, error: errors.WherryError) -> None:
        """No more will come: the queue was deleted, or the connection is gone for good."""
        super().stopped(error)
        for waiter in self.replies.give_up():
            if not waiter.done():
                waiter.set_exception(again(error))


async def inbox_of(link: Link) -> Inbox:
    """The inbox of a connection, made when it is first asked for."""
    async with link.inbox_lock:
        inbox = link.inbox
        if not isinstance(inbox, Inbox) or inbox.ended is not None:
            inbox = Inbox(link)
            await inbox.attach()
            link.inbox = inbox
        return inbox
