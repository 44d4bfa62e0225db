"""What the writer of a log does, without the thread that does it: the steps of a commit, and the sync that is due.

A commit is an interval, and these are its steps; commands keep coming in between any two of them. The thread of
`file.py` runs them one after the other, and the tests run other things, or end the world, in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry_broker.core.ledger import Commit
    from wherry_broker.log.interface import Committed
    from wherry_broker.log.journal import Journal

WRITTEN, SYNCED, ROLLED, ANSWERED, FORGOTTEN = "written", "synced", "rolled", "answered", "forgotten"


class Writer:
    """Writes commits, one after the other.

    Args:
        journal: where they go.
        sizes: the lengths of the finished segments, in bytes, by number; kept up to date.
        sync_interval_s: how long a commit that asks for no sync may wait for one, in seconds.
        segment_bytes: how long a segment grows before a new one is due.

    Attributes:
        is_short: whether the disk has not all the space that the log wants to own.
    """

    def __init__(
        self, journal: Journal, sizes: dict[int, int], sync_interval_s: float, segment_bytes: int = 1 << 62
    ) -> None:
        self._journal = journal
        self._segment_bytes = segment_bytes
        self._owed_bytes = 0
        self.is_short = False
        self._sizes = sizes
        self._sync_interval_s = sync_interval_s
        self._unsynced_since: float | None = None

    def steps(self, commit: Commit, done: Committed, now: float) -> Iterator[str]:
        """Makes a commit as durable as it asks for, calls `done`, and forgets what it makes needless.

        Args:
            commit: what to write.
            done: called with where its blocks lie, once it is durable.
            now: the time, in seconds of any steady clock.

        Yields:
            The name of each step, once it is made.
        """
        journal = self._journal
        places = journal.append(commit.records) if commit.records else []
        self._note_time(now)
        yield WRITTEN
        if commit.sync:
            self.sync()
            yield SYNCED
        if commit.preamble is not None:
            self._sizes[journal.segment] = journal.size
            journal.roll(commit.preamble)
            self.take_space(commit.owed_bytes)  # before the answer, after which the log is asked what it can take
            self._note_time(now)
            yield ROLLED
        done(places)
        yield ANSWERED
        if commit.oldest > journal.oldest:
            # After the answer: nobody waits for old files to go.
            for segment in range(journal.oldest, commit.oldest):
                self._sizes.pop(segment, None)
            journal.forget(commit.oldest)
            self._note_time(now)
            yield FORGOTTEN
        self.take_space(commit.owed_bytes)

    def take_space(self, owed_bytes: int | None = None) -> None:
        """Takes space for what is to come.

        Args:
            owed_bytes: what the settles of all that the log holds will need; as much as the last time when not given.
        """
        journal = self._journal
        if owed_bytes is not None:
            self._owed_bytes = owed_bytes
        self.is_short = not journal.take_space(self._owed_bytes, for_next=journal.size >= self._segment_bytes)

    def wait_s(self, now: float) -> float | None:
        """In how many seconds `sync` is due; None when all is synced."""
        return None if self._unsynced_since is None else max(0.0, self._unsynced_since + self._sync_interval_s - now)

    def sync(self) -> None:
        """Returns once all that was written is on the disk."""
        self._journal.sync()
        self._unsynced_since = None

    def pin(self) -> list[tuple[int, int]]:
        """Syncs all that was written, and keeps the files of all segments until `unpin`.

        Returns:
            The segments that matter, and how long each is now, in bytes.
        """
        self.sync()
        journal = self._journal
        journal.pin()
        return [*sorted(self._sizes.items()), (journal.segment, journal.size)]

    def unpin(self) -> None:
        """Lets the files of segments go that were forgotten meanwhile."""
        self._journal.unpin()

    def close(self) -> None:
        """Syncs and ends the journal."""
        self._journal.close()

    def _note_time(self, now: float) -> None:
        if self._journal.is_synced:
            self._unsynced_since = None
        elif self._unsynced_since is None:
            self._unsynced_since = now
