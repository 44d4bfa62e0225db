"""Bugs, planted one at a time: a simulation that does not find them would prove nothing.

Each is a small change of the broker, of a kind that has been made by somebody, somewhere. `plant` makes it with a
monkeypatch; which promise it breaks is for the simulation to say.
"""

from __future__ import annotations

from wherry_broker.core import bounds, decide, housekeeping, ledger, pager, records
from wherry_broker.core.batch import DELAYED, READY
from wherry_broker.core.block import Block
from wherry_broker.core.homes import Homes
from wherry_broker.core.lane import Lane
from wherry_broker.core.outbox import Outbox
from wherry_broker.core.queue import Queue
from wherry_broker.core.shard import Shard
from wherry_broker.log import codec, journal, recovery, writer
from wherry_broker.log.file import FileLog
from wherry_broker.server.pump import Pump

MUTANTS = {}


def mutant(plant):
    """Lists a mutant under its name, in words."""
    MUTANTS[plant.__name__.replace("_", " ")] = plant
    return plant


# The log's writer.


@mutant
def a_sync_is_skipped(patch):
    def sync(self):
        self.synced = self.entry - 1

    patch.setattr(journal.Journal, "sync", sync)


@mutant
def a_commit_is_answered_before_its_sync(patch):
    real = writer.Writer.steps

    def steps(self, commit, done, now):
        for step in real(self, commit, lambda _places: None, now):
            yield step
            if step == "written":
                done(())
                yield "answered"

    patch.setattr(writer.Writer, "steps", steps)


@mutant
def the_directory_is_not_synced_after_a_rename(patch):
    real = journal.Journal.roll

    def roll(self, preamble):
        sync_names, self._store.sync_names = self._store.sync_names, lambda: None
        try:
            real(self, preamble)
        finally:
            self._store.sync_names = sync_names

    patch.setattr(journal.Journal, "roll", roll)


@mutant
def a_failed_sync_is_tried_again(patch):
    real = journal.Journal.sync

    def sync(self):
        try:
            real(self)
        except OSError:
            real(self)

    patch.setattr(journal.Journal, "sync", sync)


@mutant
def the_log_goes_on_after_a_failed_sync(patch):
    real = journal.Journal.sync

    def sync(self):
        try:
            real(self)
        except OSError:
            self.synced = self.entry - 1

    patch.setattr(journal.Journal, "sync", sync)


@mutant
def a_commit_that_asks_for_a_sync_gets_none_if_one_did_not(patch):
    real = ledger.Ledger.take_batch

    def take_batch(self, **more):
        commit = real(self, **more)
        if commit is None or commit.preamble is not None:
            return commit
        queues = [self.state.queues.get(each.queue) for each in commit.records]
        lax = any(queue is not None and queue.options.durability == "written" for queue in queues)
        return commit._replace(sync=commit.sync and not lax)

    patch.setattr(ledger.Ledger, "take_batch", take_batch)


# The log's reader.


@mutant
def a_torn_tail_is_taken_as_whole(patch):
    patch.setattr(codec, "crc32c", lambda _data, _value=0: 0)


@mutant
def the_tail_is_not_written_again_at_a_start(patch):
    patch.setattr("simulation.disk.SimulatedDisk.rewrite", lambda self, name, offset: None)


@mutant
def the_tail_is_synced_but_not_written_again(patch):
    patch.setattr("simulation.disk.SimulatedDisk.rewrite", lambda self, name, offset: self.sync(self._inode(name)))


@mutant
def more_than_the_torn_tail_is_cut(patch):
    real = FileLog.replay

    def replay(self, keeps_blocks):
        held = None
        for item in real(self, keeps_blocks):
            if held is not None:
                yield held
            held = item
        if held is not None and self.torn is None:
            yield held

    patch.setattr(FileLog, "replay", replay)


@mutant
def segments_that_a_power_cut_brings_back_are_read(patch):
    patch.setattr(recovery, "_oldest", lambda store, head, numbers: numbers[0])


@mutant
def segments_are_removed_before_that_is_on_the_disk(patch):
    def forget(self, oldest):
        for segment in range(self.oldest, oldest):
            self._store.remove(journal.segment_name(segment))
        self._store.sync_names()
        self.oldest = oldest

    patch.setattr(journal.Journal, "forget", forget)


@mutant
def entry_numbers_begin_anew_with_a_start(patch):
    real = FileLog.start

    def start(self, preamble, owed_bytes=0):
        self._entry = 1
        real(self, preamble, owed_bytes)

    patch.setattr(FileLog, "start", start)


# Cleaning.


@mutant
def segments_are_forgotten_too_early(patch):
    real = Homes.advance

    def advance(self):
        oldest = real(self)
        if oldest < self.current - 2:
            self.oldest += 1
        return self.oldest

    patch.setattr(Homes, "advance", advance)


@mutant
def a_batch_that_is_written_again_loses_its_attempts(patch):
    real = housekeeping.rehomed

    def rehomed(batch):
        record = real(batch)
        return record._replace(stages=tuple(stage._replace(attempt=0) for stage in record.stages))

    patch.setattr(housekeeping, "rehomed", rehomed)


@mutant
def a_batch_that_is_written_again_revives_its_dead(patch):
    real = housekeeping.rehomed

    def rehomed(batch):
        record = real(batch)
        return record._replace(stages=tuple(stage._replace(dead=False) for stage in record.stages))

    patch.setattr(housekeeping, "rehomed", rehomed)


def without(field, value):
    """A `_standing` that leaves one fact out."""
    real = housekeeping._standing
    return lambda queue: real(queue)._replace(**{field: value})


@mutant
def a_preamble_forgets_dedupe_keys(patch):
    patch.setattr(housekeeping, "_standing", without("keys", ()))


@mutant
def a_preamble_forgets_options(patch):
    patch.setattr(housekeeping, "_standing", without("options", {}))


@mutant
def ids_are_used_again_after_cleaning(patch):
    patch.setattr(housekeeping, "_standing", without("next_offset", 1))


@mutant
def a_queue_made_anew_begins_at_one(patch):
    real = decide.declare

    def declare(*arguments):
        return [record._replace(first=1) for record in real(*arguments)]

    patch.setattr(decide, "declare", declare)


# Replay.


@mutant
def delayed_messages_are_ready_after_a_replay(patch):
    real = Queue.restored

    def restored(self, now_ms):
        real(self, now_ms)
        for span in list(self.spans()):
            if span.state == DELAYED:
                self.wake(span)

    patch.setattr(Queue, "restored", restored)


@mutant
def what_was_leased_at_the_end_is_lost(patch):
    real = Queue.restored

    def restored(self, now_ms):
        real(self, now_ms)
        ready = [(span.low, span.high) for span in self.spans() if span.state == READY and span.attempt]
        for low, high in ready[:1]:
            self.remove(low, high, "settled", now_ms)

    patch.setattr(Queue, "restored", restored)


@mutant
def settles_of_old_attempts_are_forgotten_at_a_replay(patch):
    real = Shard.restore

    def restore(self, record, segment=0):
        if not (type(record) is records.Removed and record.cause == records.SETTLED and len(record.ranges) > 1):
            real(self, record, segment)

    patch.setattr(Shard, "restore", restore)


# The core.


@mutant
def a_settle_of_an_old_attempt_counts(patch):
    real = decide.match

    def match(state, queue, command):
        rows = []
        for first, count, attempt in command.deliveries:
            span = queue.span_at(first)
            rows.append((first, count, span.attempt + 1 if span is not None else attempt))
        return real(state, queue, command._replace(deliveries=tuple(rows)))

    patch.setattr(decide, "match", match)


@mutant
def a_settle_of_an_old_epoch_counts(patch):
    real = decide.match
    patch.setattr(
        decide, "match", lambda state, queue, command: real(state, queue, command._replace(epoch=state.epoch))
    )


@mutant
def a_settle_past_its_deadline_counts(patch):
    real = Shard.submit

    def submit(self, number, command, now_ms):
        if type(command).__name__ != "Settle":
            real(self, number, command, now_ms)
            return
        tick, self.tick = self.tick, lambda now_ms: None
        try:
            real(self, number, command, now_ms)
        finally:
            self.tick = tick

    patch.setattr(Shard, "submit", submit)


@mutant
def answers_do_not_wait_for_their_commit(patch):
    real = Outbox.hold
    patch.setattr(Outbox, "hold", lambda self, effect, mark: real(self, effect, min(mark, self.committed)))


@mutant
def what_comes_during_a_commit_is_answered_with_it(patch):
    real = Outbox.hold
    patch.setattr(Outbox, "hold", lambda self, effect, mark: real(self, effect, min(mark, self.gathering - 1)))


@mutant
def the_bound_is_off_by_one(patch):
    real = bounds.room

    def room(queue, block, now_ms, *, divisible):
        options = queue.options
        queue.options = options.changed({"max_messages": options.max_messages + 1})
        try:
            return real(queue, block, now_ms, divisible=divisible)
        finally:
            queue.options = options

    patch.setattr(bounds, "room", room)


@mutant
def a_lost_lease_counts_no_attempt(patch):
    real = Queue._end_delivery

    def end(self, span, cause):
        real(self, span, cause)
        span.attempt -= 1

    patch.setattr(Queue, "_end_delivery", end)


@mutant
def a_returned_message_goes_to_the_end(patch):
    patch.setattr(Lane, "put_back", Lane.append)


# Paging.


@mutant
def a_page_is_read_from_where_it_was(patch):
    real = ledger.Ledger.committed

    def committed(self, mark, places=()):
        real(self, mark, [(block, place) for block, place in places if block.place is None])

    patch.setattr(ledger.Ledger, "committed", committed)


@mutant
def pages_come_back_in_another_order(patch):
    real = pager.Pager.fetched
    patch.setattr(pager.Pager, "fetched", lambda self, batches, datas: real(self, batches, datas[::-1]))


@mutant
def the_queues_of_a_topic_share_one_block(patch):
    patch.setattr(Block, "twin", lambda self, _: self)


# The pump.


@mutant
def a_commit_that_ends_wakes_nobody(patch):
    real = Pump._committed

    def committed(self, commit, places):
        real(self, commit, places)
        self._awake = False
        self._loop.ready.clear()

    patch.setattr(Pump, "_committed", committed)
