"""Sessions come, go, and come back: who loses the connection keeps what it was leased while it is expected back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry_broker.core.consumers import Session

if TYPE_CHECKING:
    from wherry_broker.core.batch import Span
    from wherry_broker.core.timers import Timers

AWAY_MAX = 10_000
"""How many sessions are kept without a connection; what one more holds is lost at once."""

Identity = tuple[str, str]


class Sessions:
    """All sessions.

    Args:
        timers: where sessions without a connection wait for their end.
        resume_ms: how long that is; 0 for not at all.

    Attributes:
        here: those that have a connection, by number.
        ended: those that have ended since somebody looked, and had temporary queues.
    """

    def __init__(self, timers: Timers, resume_ms: int) -> None:
        self.here: dict[int, Session] = {}
        self.ended: list[Session] = []
        self._timers = timers
        self._resume_ms = resume_ms
        self._number = 0
        self._known: dict[Identity, Session] = {}
        self._away: dict[Identity, Session] = {}

    def holder(self, identity: Identity) -> int:
        """The number of the session of this client that has a connection; 0 for none."""
        session = self._known.get(identity)
        return session.number if session is not None else 0

    def attach(self, room_bytes: int, identity: Identity, name: str = "") -> Session:
        """A client comes, perhaps back; it calls itself `name`."""
        self._number += 1
        session = self.here[self._number] = Session(self._number, room_bytes, identity, name)
        if self._is_kept(session):
            self._known[identity] = session
            session.answers_kept = True
            old = self._away.pop(identity, None)
            if old is not None:
                self._timers.disarm(old)
                session.take_over(old)
        return session

    def detach(self, number: int, now_ms: int, *, resumes: bool) -> list[Span]:
        """A client's connection is gone.

        Args:
            number: its session.
            now_ms: the time.
            resumes: whether it may come back for what it holds.

        Returns:
            What it held, when it may not.
        """
        session = self.here.pop(number)
        for consumer in list(session.consumers.values()):
            session.left[consumer.number] = consumer
            session.retire(consumer)
        session.left = {number: consumer for number, consumer in session.left.items() if consumer.spans}
        known = self._known.get(session.identity) is session
        if known:
            del self._known[session.identity]
        worth = session.retired or session.answers or session.inboxes
        if not (known and resumes and worth and len(self._away) < AWAY_MAX):
            return self._end(session)
        self._away[session.identity] = session
        self._timers.arm(session, now_ms + self._resume_ms)
        return []

    def forget(self, session: Session) -> list[Span]:
        """A session has waited for its client in vain; returns what it held."""
        self._timers.disarm(session)
        del self._away[session.identity]
        return self._end(session)

    def forget_all(self) -> list[Span]:
        """Nobody can come back any more; returns what all held that are away."""
        return [span for session in list(self._away.values()) for span in self.forget(session)]

    def _end(self, session: Session) -> list[Span]:
        if session.inboxes:
            self.ended.append(session)
        return session.held()

    def _is_kept(self, session: Session) -> bool:
        return self._resume_ms > 0 and bool(session.producer)
