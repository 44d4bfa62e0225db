"""Answers: what is said to a session, held under the commit that it depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry.model import replies
from wherry_broker.core.effects import Effect

if TYPE_CHECKING:
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.effects import Say
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.refusal import Refusal


class Answers:
    """Says things to sessions.

    Args:
        ledger: holds what is said until what it depends on is durable.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def say(self, session: Session, say: Say, mark: int) -> None:
        """Says something once the commit `mark` is durable."""
        self._ledger.hold(Effect(session.number, say), mark)

    def refuse(self, session: Session, command: Any, refusal: Refusal, first: int = 0, accepted: int = 0) -> None:
        """Refuses a command, or what is left of it.

        Args:
            session: whose command it is.
            command: the request.
            refusal: why.
            first: the offset of the first message that was stored all the same.
            accepted: how many were.
        """
        if refusal.line is not None:
            refusal.line.join(refusal.line_ms)
        queue = self._ledger.state.names.get(refusal.queue)
        error = replies.Error(
            command.request,
            refusal.code,
            refusal.text,
            refusal.retryable,
            refusal.retry_after_ms,
            refusal.queue,
            refusal.bound,
            first or refusal.first,
            accepted,
            queue.options.durability if queue and accepted else "",
        )
        self.say(session, error, queue.mark if queue else self._ledger.newest_mark)
