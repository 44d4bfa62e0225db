"""The log in files: the journal, in a thread of its own.

The event loop hands a commit over and goes on; the thread writes, syncs when asked to, and hands the answer back. Both
happen in that one thread, since even a write waits while another thread syncs the same file. What is read back comes
by a second thread, so that consumers of old messages do not wait for the disk's syncs.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from wherry_broker.log import recovery, repair
from wherry_broker.log.journal import Journal, read_block, segment_name
from wherry_broker.log.recovery import Torn
from wherry_broker.log.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wherry_broker.core.block import Block
    from wherry_broker.core.ledger import Commit, Places
    from wherry_broker.core.records import Preamble, Record
    from wherry_broker.log.codec import SegmentHead
    from wherry_broker.log.interface import Committed, Fetched, Pieced, Pinned
    from wherry_broker.log.repair import Repaired
    from wherry_broker.log.store import Store

SEGMENT_BYTES = 33_554_432
SYNC_INTERVAL_MS = 100
RESERVE_BYTES = 33_554_432
"""How much of the disk is owned before it is needed; a sixteenth of a small disk. Segments are no longer than this, so
that what is alive in one can be written again when the disk is full."""
FAR_BYTES = 536_870_912
"""With this much free, no other program fills the disk before the next commit."""
SPACE_S = 1.0
"""How long to wait until a full disk is asked again for space."""


class FileLog:
    """A log in a directory of segments.

    Args:
        store: the directory.
        call: runs a function in the caller's thread, soon; the one thing here that may be called from any thread.
        failed: called in the caller's thread with what broke the log; nothing is answered after that.
        segment_bytes: how long a segment grows before a new one begins.
        sync_interval_ms: how long a commit that asks for no sync may wait for one.
        reserve_bytes: how much of the disk is owned before it is needed, at most; so much for the segment that is being
            written, and so much for the next one.
    """

    level = "synced"

    def __init__(
        self,
        store: Store,
        call: Callable[[Callable[[], None]], object],
        failed: Callable[[BaseException], None],
        *,
        segment_bytes: int = SEGMENT_BYTES,
        sync_interval_ms: int = SYNC_INTERVAL_MS,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self.segment = self.oldest = 1
        self.torn: Torn | None = None
        self._store = store
        self._call = call
        self._failed = failed
        self._sync_interval_s = sync_interval_ms / 1000
        self._entry = 1
        self._before: SegmentHead | None = None
        self._sizes: dict[int, int] = {}
        self._journal: Journal | None = None
        self._writer: Writer | None = None
        self._writes: queue.SimpleQueue[Callable[[Writer], None] | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, args=(self._write_all,), name="wherry-log-writer", daemon=True),
            threading.Thread(target=self._run, args=(self._read_all,), name="wherry-log-reader", daemon=True),
        ]
        store.lock()
        self.reserve_bytes = min(reserve_bytes, store.free_bytes()[1] // 16)
        self._segment_bytes = min(segment_bytes, self.reserve_bytes)

    @property
    def size_bytes(self) -> int:
        """How long the log is in all."""
        return sum(self._sizes.values()) + (self._journal.size if self._journal is not None else 0)

    @property
    def written_bytes(self) -> int:
        """How many bytes were written since the start."""
        return self._journal.written_bytes if self._journal is not None else 0

    @property
    def is_segment_long(self) -> bool:
        """Whether a new segment should begin; it never has to, and does not when there is no space for it."""
        journal = self._journal
        return journal is not None and journal.can_roll and journal.size >= self._long_bytes

    @property
    def slack_bytes(self) -> int:
        """How much longer than twice what is alive in it the log may be before it is cleaned: two segments."""
        return 2 * self._long_bytes

    @property
    def _long_bytes(self) -> int:
        # A preamble may be as long as a segment was meant to be: then each segment would call for the next one at once.
        # Far more has to follow it, or preambles would count as garbage that no cleaning takes away.
        opening_bytes = self._journal.opening_bytes if self._journal is not None else 0
        return max(self._segment_bytes, 4 * opening_bytes)

    # Before the start.

    def repair(self) -> Repaired:
        """Makes a log that is whole of what can be read; one that is whole stays as it is, but for a torn tail.

        Raises:
            CorruptLog: it is of another version, or it cannot be told which of its files are of one log.
        """
        return repair.repair(self._store)

    def replay(self, keeps_blocks: Callable[[], bool]) -> Iterator[tuple[Record, int]]:
        """All records that matter, in order, each with its segment.

        A torn tail is cut, and kept aside; `torn` tells of it.

        Raises:
            CorruptLog: the log is damaged; nothing was changed.
        """
        found = recovery.scan(self._store)
        unsure: deque[tuple[int, int]] = deque()  # the number and the offset of entries that may not be on the disk
        for item in recovery.read_segments(self._store, found.segments, keeps_blocks):
            if isinstance(item, Torn):
                self.torn = item
                continue
            self._entry = item.prefix.number + 1
            unsure.append((item.prefix.number, item.offset))
            while unsure[0][0] <= item.prefix.synced:
                unsure.popleft()
            for record in item.records:
                yield record, item.segment
        if self.torn is not None:
            recovery.cut(self._store, self.torn)
        if unsure:
            # Whoever wrote this may have been killed before it was synced. From now on it must not be missing.
            self._store.rewrite(segment_name(found.segments[-1]), unsure[0][1])
        if found.segments:
            self._sizes = {number: self._store.size(segment_name(number)) for number in found.segments}
            self.oldest, self.segment, self._before = found.segments[0], found.segments[-1] + 1, found.head
        for name in (*found.forgotten, *found.unfinished):
            if name != segment_name(self.segment) + ".tmp":  # that one has the space that `start` may need
                self._store.remove(name)

    def start(self, preamble: Preamble, owed_bytes: int = 0) -> None:
        """Begins a new segment, which opens with `preamble`."""
        store = self._store
        self._journal = Journal(
            store, self.segment, self._entry, self.oldest, self._before, reserve_bytes=self.reserve_bytes
        )
        self._journal.roll(preamble)
        if self._sizes:  # what the last segment owned belongs to the new one now
            last = max(self._sizes)
            store.truncate(segment_name(last), self._sizes[last])
        self._writer = Writer(self._journal, self._sizes, self._sync_interval_s, self._segment_bytes)
        self._writer.take_space(owed_bytes)
        self._start_threads()

    def _start_threads(self) -> None:
        for thread in self._threads:
            thread.start()

    # In the caller's thread.

    def commit(self, commit: Commit, done: Committed) -> None:
        """Makes a commit durable, and calls `done` once it is."""
        self._writes.put(partial(self._commit, commit, done))

    def fetch(self, blocks: Sequence[Block], done: Fetched) -> None:
        """Reads the bytes of blocks back, and calls `done` with them."""
        self._reads.put(partial(self._fetch, blocks, done))

    def pin(self, done: Pinned) -> None:
        """Syncs, keeps the segments of now from being removed, and calls `done` with them and their lengths."""
        self._writes.put(partial(self._pin, done))

    def unpin(self) -> None:
        """Lets segments be removed again."""
        self._writes.put(Writer.unpin)

    def read(self, segment: int, offset: int, size: int, done: Pieced) -> None:
        """Reads bytes of a pinned segment, and calls `done` with them."""
        self._reads.put(partial(self._read_piece, segment, offset, size, done))

    def room_bytes(self) -> int | None:
        """How many bytes it can take before its reserve is touched.

        What is free counts as long as another program cannot have it first; near the end only what the log owns counts,
        and a bet of at most the reserve, so that even a lost one leaves space for all settles.
        """
        try:
            free, reserve = self._store.free_bytes()[0], self.reserve_bytes
        except OSError as error:
            self._failed(error)
            return 0
        journal, writer = self._journal, self._writer
        assert journal is not None
        assert writer is not None
        bet = max(0, free - reserve)
        if free < FAR_BYTES or writer.is_short:
            bet = min(bet, reserve)
        return journal.owned_bytes - reserve + bet

    def close(self) -> None:
        """Makes everything durable and ends the threads."""
        self._writes.put(None)
        self._reads.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._store.unlock()

    # In the threads.

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the log is broken, and the broker must end)
            self._call(partial(self._failed, error))

    def _write_all(self) -> None:
        writer = self._writer
        assert writer is not None
        while True:
            wait_s = writer.wait_s(time.monotonic())
            if wait_s == 0:  # before the next commit: they may come so fast that there is always one
                writer.sync()
                continue
            if writer.is_short:
                wait_s = SPACE_S if wait_s is None else min(wait_s, SPACE_S)
            try:
                job = self._writes.get(timeout=wait_s)
            except queue.Empty:
                if writer.is_short:
                    writer.take_space()
                continue
            if job is None:
                writer.close()
                return
            job(writer)

    def _commit(self, commit: Commit, done: Committed, writer: Writer) -> None:
        for _ in writer.steps(commit, partial(self._answer, done), time.monotonic()):
            pass

    def _pin(self, done: Pinned, writer: Writer) -> None:
        self._call(partial(done, writer.pin()))

    def _answer(self, done: Committed, places: Places) -> None:
        self._call(partial(done, places))

    def _read_all(self) -> None:
        while (job := self._reads.get()) is not None:
            job()

    def _fetch(self, blocks: Sequence[Block], done: Fetched) -> None:
        self._call(partial(done, [self._read(block) for block in blocks]))

    def _read_piece(self, segment: int, offset: int, size: int, done: Pieced) -> None:
        self._call(partial(done, self._store.read(segment_name(segment), offset, size)))

    def _read(self, block: Block) -> bytes | None:
        assert block.place is not None
        segment = block.place[0]
        try:
            return read_block(self._store, block)
        except FileNotFoundError:
            if self._journal is not None and segment < self._journal.oldest:
                return None  # it was moved, or settled, while this waited
            raise
