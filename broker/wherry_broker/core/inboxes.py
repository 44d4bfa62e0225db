"""Temporary queues: made by a consumer, for its session alone, and gone with it. Others may only publish to them.

They are where replies come to: no log knows of them, and no list shows them. Their numbers are beyond those of all
other queues, so that a restart, which forgets them, changes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.model.names import TEMPORARY_PREFIX
from wherry_broker.core import bounds, records
from wherry_broker.core.memory import QUEUE_BYTES
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.queue import Queue

INBOXES_MAX = 100
"""How many temporary queues a session has at a time."""
OPTIONS = {"durability": "memory", "max_messages": 10_000, "max_bytes": 67_108_864}
"""What differs from the defaults in a temporary queue."""


class Inboxes:
    """Makes temporary queues, keeps others out of them, and removes them.

    Args:
        ledger: the state, which has them too.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._number = records.TEMPORARY_FIRST - 1

    def opened(self, session: Session, name: str) -> Queue:
        """The temporary queue of a name, which is made if it is not there.

        Raises:
            Refusal: invalid, no temporary queue has such a name; forbidden, another session has it; unavailable, this
                session has too many; busy, the memory is full.
        """
        self.check(session, name)
        state = self._ledger.state
        if name not in state.names:
            if not name.startswith(TEMPORARY_PREFIX):
                text = f"the name of a temporary queue begins with {TEMPORARY_PREFIX!r}, and {name[:40]!r} does not"
                raise Refusal("invalid", text, queue=name)
            if len(session.inboxes) >= INBOXES_MAX:
                text = f"this session has {INBOXES_MAX} temporary queues, which is the limit"
                raise Refusal("unavailable", text, queue=name, retryable=True)
            bounds.check_memory(state, name, QUEUE_BYTES)
            self._number += 1
            self._ledger.apply((records.Declared(self._number, name, dict(OPTIONS), 1),))
            session.inboxes[name] = state.names[name]
        return state.names[name]

    def check(self, session: Session, name: str) -> None:
        """Keeps a session out of the temporary queues of others.

        Raises:
            Refusal: forbidden, it is one of those.
        """
        queue = self._ledger.state.names.get(name)
        if queue is not None and queue.is_temporary and session.inboxes.get(name) is not queue:
            text = f"{name!r} is the temporary queue of another session, to which others may only publish"
            raise Refusal("forbidden", text, queue=name)

    def kept(self, carry_out: Callable[[Session, Any, int], None]) -> Callable[[Session, Any, int], None]:
        """The same for commands that name a queue, but for the temporary queues of others."""

        def checked(session: Session, command: Any, now_ms: int) -> None:
            self.check(session, command.queue)
            carry_out(session, command, now_ms)

        return checked

    def close(self, session: Session) -> None:
        """Removes the temporary queues of a session that has ended, once it holds no lease any more."""
        for queue in session.inboxes.values():
            if self._ledger.state.queues.get(queue.number) is queue:  # else the session has deleted it
                self._ledger.apply((records.Deleted(queue.number),))
                self._ledger.dirty.pop(queue, None)
        session.inboxes.clear()
