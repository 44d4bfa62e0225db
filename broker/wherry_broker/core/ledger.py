"""The ledger: durable state, the records that make it, and what has to wait for them.

It is the half of the shard that faces a log: records are read back from one (`restore`, `restored`, `open`), new ones
are applied and gathered into commits (`take_batch`, `committed`), and effects are held under the commit that they
depend on. Which batches have their bytes in memory, and which segments of the log still matter, is kept here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from wherry_broker.core import bounds, gates, housekeeping, records, tracking
from wherry_broker.core.evolve import evolve
from wherry_broker.core.housekeeping import Mover
from wherry_broker.core.outbox import Outbox
from wherry_broker.core.pager import Pager
from wherry_broker.core.records import Change, Fact, Fired, Preamble, Published, Record, Routed, ScheduleFact, Sequenced
from wherry_broker.core.state import State
from wherry_broker.core.tracking import NO_RESULTS, Results

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wherry_broker.core.batch import Batch
    from wherry_broker.core.block import Block
    from wherry_broker.core.effects import Effect
    from wherry_broker.core.gates import Ended
    from wherry_broker.core.queue import Queue

RESIDENT_BYTES_MAX = 268_435_456
"""The default limit of what is kept in memory of messages that a log keeps too."""
SWEEP_MS = 1_000
"""How often it is looked for what can be forgotten, while memory is short."""
STANDING = frozenset({records.Declared, records.Changed, records.Deleted})
"""What a log keeps of a queue whose messages are in memory only."""


Places = Sequence[tuple["Block", tuple[int, int]]]
"""Blocks, and where each lies in the log: (segment, offset in bytes)."""


class Commit(NamedTuple):
    """What is to be made durable together, all or nothing.

    Attributes:
        mark: what to call it by when it is.
        records: the facts.
        sync: whether it has to be on the disk; otherwise it is enough that the operating system has it.
        preamble: begins a new segment after the records; None to go on in this one.
        oldest: once this commit is on the disk, the segments before this one can go.
        owed_bytes: what the log will need to settle all that is alive in it.
    """

    mark: int
    records: Sequence[Change | ScheduleFact]
    sync: bool = True
    preamble: Preamble | None = None
    oldest: int = 0
    owed_bytes: int = 0


class Ledger:
    """Everything of a shard that a log keeps.

    Args:
        epoch: the number of this start of the log; it grows with every start.
        resident_bytes_max: how many bytes of messages are kept in memory, of those that a log keeps too.
        memory_bytes_max: how much memory all that is stored may take; what a log keeps too leaves half of it free.

    Attributes:
        state: the durable facts.
        pager: which batches have their bytes in memory.
        dirty: queues that have changed since somebody looked.
        now_ms: the time, as it was told last.
    """

    def __init__(self, epoch: int, resident_bytes_max: int, memory_bytes_max: int) -> None:
        state = self.state = State(epoch, memory_bytes_max)
        self.pager = Pager(state.homes, state.memory, min(resident_bytes_max, memory_bytes_max // 2))
        self.dirty: dict[Queue, None] = {}
        self.now_ms = 0
        self._mover = Mover()
        self._outbox = Outbox()
        self._records: list[Change | ScheduleFact] = []
        self._twins: dict[Block, list[Block]] = {}
        self._sync = False
        self._oldest = 0
        self._swept_ms = 0

    # A log is read.

    def restore(self, record: Record, segment: int = 0) -> None:
        """Takes a record of the log, before anything else is done. `restored` follows the last one.

        Args:
            record: the record.
            segment: the segment that it stands in; 0 when the log has none.
        """
        self.state.restoring = True
        self.state.homes.current = segment
        evolve(self.state, record)

    @property
    def has_memory(self) -> bool:
        """Whether there is memory left for messages that a log keeps too."""
        return not self.pager.is_full

    def restored(self, now_ms: int) -> None:
        """The log is read to its end: what was leased when it ended is ready."""
        self.state.restoring = False
        for queue in self.state.queues.values():
            queue.restored(now_ms)
        self.state.producers.limit(now_ms)
        self.state.gates.restored(self.state.queues)

    def open(self, segment: int, oldest: int, now_ms: int) -> Preamble:
        """Begins a new epoch; records go into a new segment from now on.

        Args:
            segment: the number of that segment.
            oldest: the number of the oldest one.
            now_ms: the time; an epoch is at least that, so that it grows even if an old copy of a log is put back.

        Returns:
            What the new segment opens with.
        """
        self.state.epoch = max(self.state.epoch + 1, now_ms)
        self.state.homes.current = segment
        self.state.homes.oldest = self._oldest = oldest
        return housekeeping.preamble(self.state)

    # A log is written.

    def apply(self, new: Iterable[Change], results: Results = NO_RESULTS) -> None:
        """Makes the changes that records state, and gathers the records for the next commit.

        Args:
            new: the records. How tracked messages end with them is remembered in the same commit.
            results: what the consumers of such messages return.
        """
        ended: list[Ended] = []
        for record in new:
            if isinstance(record, Routed):
                self._apply_routed(record)
                continue
            if isinstance(record, Sequenced):
                self._apply_sequenced(record)
                continue
            if self.state.gates:
                ended += gates.ended(self.state, record, self.now_ms)
            queue = self.state.queues.get(record.queue)
            if queue is not None and queue.tracked:
                self._apply_tracked(queue, record, results)
            else:
                self._apply_fact(record)
        for each in ended:  # what waited for them may have gone as well
            self.apply(gates.tallied(self.state, each))

    def _apply_tracked(self, queue: Queue, record: Fact, results: Results) -> None:
        ends = tracking.ends(queue, record)
        self._apply_fact(record)
        for fact in tracking.facts(self.state, queue, record, ends, results):
            self._apply_fact(fact)

    def _apply_fact(self, record: Fact) -> None:
        homes = self.state.homes
        before = self.state.queues.get(record.queue)
        if before is not None and before.is_logged:
            before.mark = self._outbox.gathering  # known to what is stored or comes back by this record
        evolve(self.state, record)
        queue = self.state.queues.get(record.queue)
        known = before or queue
        assert known is not None
        if queue is not None:
            self.dirty[queue] = None
        if not known.is_logged and (known.is_temporary or type(record) not in STANDING):
            return  # no log keeps the messages of such a queue, so nothing of it waits for a log
        self._records.append(record)
        if homes.room_bytes is not None:
            homes.room_bytes -= bounds.log_cost_of(record)
        self._sync |= known.options.durability != "written"
        if queue is not None:
            queue.mark = self._outbox.gathering
            if type(record) is records.Changed:  # a message may be delivered because it was
                for consumer in queue.consumers:
                    consumer.mark = queue.mark

    def _apply_routed(self, record: Routed) -> None:
        """Stores a batch in several queues, all of which a log keeps, or none."""
        queues = [self.state.queues[target.queue] for target in record.targets]
        self.dirty.update(dict.fromkeys(queues))
        if not queues[0].is_logged:
            evolve(self.state, record)
            return
        for queue in queues:
            queue.mark = self._outbox.gathering
            self._sync |= queue.options.durability != "written"
        evolve(self.state, record)
        self._records.append(record)
        homes = self.state.homes
        if homes.room_bytes is not None:
            homes.room_bytes -= bounds.log_cost_of(record)
        self._twins[record.block] = [batch.block for batch in self.batches(record)]

    def batches(self, record: Published | Routed) -> Iterator[Batch]:
        """The batches that a record has stored, those that are left of them."""
        for target in record.targets if isinstance(record, Routed) else (record,):
            queue = self.state.queues.get(target.queue)
            batch = queue.batch_at(target.first) if queue is not None else None
            if batch is not None:
                yield batch

    def _apply_sequenced(self, record: Sequenced) -> None:
        """Remembers what was stored under sequences, in the log where that holds some of it."""
        evolve(self.state, record)
        queues = self.state.queues
        for row in record.rows:
            if queues[row[1]].is_logged:
                self._records.append(record)
                if self.state.homes.room_bytes is not None:
                    self.state.homes.room_bytes -= bounds.log_cost_of(record)
                return

    def apply_scheduled(self, record: ScheduleFact) -> None:
        """Likewise for a schedule. A `Fired` needs no sync: without it, its message is lost too."""
        evolve(self.state, record)
        self._records.append(record)
        if self.state.homes.room_bytes is not None:
            self.state.homes.room_bytes -= bounds.log_cost_of(record)
        self._sync |= not isinstance(record, Fired)

    @property
    def newest_mark(self) -> int:
        """The commit of the newest record: what is said of queues that are not there depends on it."""
        return self._outbox.gathering if self._records else self._outbox.gathering - 1

    def take_batch(self, *, roll: bool = False, log_bytes: int = 0, slack_bytes: int = 0) -> Commit | None:
        """The records that wait to be made durable; None when there is nothing to do. One commit may be out at a time.

        Args:
            roll: whether the log's segment is long enough, and a new one should begin.
            log_bytes: how long the log is in all.
            slack_bytes: how much longer than twice what is alive in it that may be before it is cleaned.
        """
        homes = self.state.homes
        # On a disk that gets full, less garbage is worth the work.
        most = (5 * homes.live_bytes // 4 if homes.is_short else 2 * homes.live_bytes) + slack_bytes
        if log_bytes > most and homes.oldest < homes.current:
            self.apply(self._mover.step(self.state))
        oldest = homes.advance()
        if not self._records and oldest == self._oldest:
            return None
        self._oldest = oldest
        preamble = None
        if roll:
            homes.current += 1
            preamble = housekeeping.preamble(self.state)
        commit = Commit(
            self._outbox.start_commit(), self._records, self._sync or roll, preamble, oldest, homes.owed_bytes
        )
        self._records, self._sync = [], False
        return commit

    def committed(self, mark: int, places: Places = ()) -> None:
        """The commit of that mark is durable.

        Args:
            mark: its mark.
            places: the blocks of its records, and where each lies in the log now.
        """
        for block, place in places:
            block.place = place
            for twin in self._twins.pop(block, ()) if self._twins else ():
                twin.place, twin.checksum = place, block.checksum
        self._outbox.finish_commit(mark)

    def stored(self, new: Iterable[Change | ScheduleFact]) -> None:
        """The log holds these records: what they publish need not stay in memory."""
        for record in new if self.pager.is_full else ():
            for batch in self.batches(record) if isinstance(record, Published | Routed) else ():
                if batch.block.place is not None:
                    self.pager.stored(batch)

    # Memory.

    def watch_memory(self, now_ms: int) -> None:
        """Looks how fast memory is freed, and forgets what nobody asks for any more while it is short."""
        memory = self.state.memory
        if memory.observe(now_ms) and abs(now_ms - self._swept_ms) >= SWEEP_MS:
            self._swept_ms = now_ms
            for queue in self.state.queues.values():
                queue.dedupe.sweep(now_ms)

    # What waits for it.

    def hold(self, effect: Effect, mark: int) -> None:
        """Holds an effect until the commit `mark` is durable."""
        self._outbox.hold(effect, mark)

    def take_effects(self) -> list[Effect]:
        """What may be said to sessions now, in order."""
        return self._outbox.take()
