"""Backups of a running broker: a session takes a snapshot of the log, and reads its segments piece by piece.

The core has no part in this: a snapshot is files, and these do not change. One session at a time has a snapshot, so
that what the log may not remove meanwhile is bounded; what a session may have under way is bounded too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from wherry.model import commands, replies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry_broker.log.interface import Log

PIECE_BYTES_MAX = 1_048_576
"""How many bytes one PIECE has at most."""
PIECES_MAX = 8
"""How many may be under way."""
Request = commands.Backup | commands.ReadBackup


class Backups:
    """The snapshot of a log, and who has it.

    Args:
        log: the log.
        say: answers a session.
    """

    def __init__(self, log: Log, say: Callable[[int, replies.Reply], None]) -> None:
        self._log = log
        self._say = say
        self._owner = 0
        self._sizes: dict[int, int] | None = None
        self._under_way = 0

    def take(self, session: int, request: Request) -> None:
        """Takes a request of a session."""
        if isinstance(request, commands.Backup):
            self._begin(session, request)
        else:
            self._read(session, request)

    def end(self, session: int) -> None:
        """A session has gone; so has its snapshot."""
        if session == self._owner:
            if self._sizes is not None:
                self._log.unpin()
            self._owner, self._sizes = 0, None

    def _begin(self, session: int, request: commands.Backup) -> None:
        if not self._log.segment:
            text = "this broker keeps no log, and so there is nothing to back up: it was started without --data DIR"
            self._say(session, replies.Error(request.request, "invalid", text))
        elif self._owner not in {0, session} or (self._owner and self._sizes is None):
            text = "another backup is being taken: one at a time"
            self._say(session, replies.Error(request.request, "unavailable", text, retryable=True))
        else:
            self.end(session)
            self._owner = session
            self._log.pin(partial(self._begun, session, request))

    def _begun(self, session: int, request: commands.Backup, segments: Sequence[tuple[int, int]]) -> None:
        if session != self._owner:  # it has gone meanwhile
            self._log.unpin()
            return
        self._sizes = dict(segments)
        snapshot = replies.Snapshot(request.request, segments[0][0], segments[-1][0], sum(self._sizes.values()))
        self._say(session, snapshot)

    def _read(self, session: int, request: commands.ReadBackup) -> None:
        sizes = self._sizes if session == self._owner and self._sizes is not None else {}
        whole = sizes.get(request.segment)
        if whole is None:
            text = f"there is no segment {request.segment} in a snapshot of this connection" if sizes else _NO_SNAPSHOT
            self._say(session, replies.Error(request.request, "not_found", text))
        elif request.offset > whole:
            text = f"offset {request.offset} is beyond the {whole} bytes of segment {request.segment}"
            self._say(session, replies.Error(request.request, "invalid", text))
        elif self._under_way >= PIECES_MAX:
            text = f"{PIECES_MAX} pieces are under way, which is the limit: take them first"
            self._say(session, replies.Error(request.request, "unavailable", text, retryable=True))
        else:
            self._under_way += 1
            size = min(request.size, PIECE_BYTES_MAX, whole - request.offset)
            done = partial(self._got, session, request.request, whole)
            self._log.read(request.segment, request.offset, size, done)

    def _got(self, session: int, request: int, whole: int, data: bytes) -> None:
        self._under_way -= 1
        self._say(session, replies.Piece(request, whole, data))


_NO_SNAPSHOT = "no snapshot was taken on this connection: BACKUP takes one"
