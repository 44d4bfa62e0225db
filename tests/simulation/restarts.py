"""What has to be there after a restart: the books of commits, and a mirror that never forgets.

A commit that was answered at a level that outlasts what happened is there, and so is every one whose bytes the disk had
surely; of the others any number may be, but only the first ones. What the log says is then exactly what those commits
said, by the broker's own `evolve` over all of them (so that what a preamble or a re-homed batch leaves out is found)
and by a plain list of messages (so that `evolve` itself is not believed).
"""

from __future__ import annotations

from typing import NamedTuple

from durable import durable_state
from simulation.promises import expect, messages_of, offsets, parts_of
from wherry_broker.core import records
from wherry_broker.core.block import Block
from wherry_broker.core.shard import Shard
from wherry_broker.log.journal import read_block

FIELDS = ("number", "next offset", "options", "asked", "dedupe", "dead", "removed", "messages")


class Alive(NamedTuple):
    """A message that the log holds."""

    message: bytes
    expires_at_ms: int
    ready_at_ms: int
    attempt: int = 0
    dead: bool = False


class Note:
    """What is known of a commit of this life.

    Attributes:
        records: its records, with blocks of their own.
        entry: the number of its entry in the log; 0 while it has none.
        preamble_entry: the number of the entry of its preamble; 0 for none.
        place: the file, and the length of it, that hold the entry; None until all of it is written.
        answered: whether the broker was told that it is durable.
        promised: whether it has to outlast what happens next.
    """

    __slots__ = ("answered", "commit", "entry", "place", "preamble_entry", "promised", "records")

    def __init__(self, commit, own_records):
        self.commit = commit
        self.records = own_records
        self.entry = self.preamble_entry = 0
        self.place = None
        self.answered = self.promised = False


class Restarts:
    """The books of commits.

    Attributes:
        notes: the commits of this life, in order.
        lost: those of the last life that are not there any more.
        alive: what the log holds of each logged queue, as {offset: Alive}.
    """

    def __init__(self, disk, clock):
        self._disk = disk
        self._clock = clock
        self.notes = []
        self.lost = []
        self.alive = {}
        self._alive_next = {}
        self._names = {}
        self._names_next = {}
        self._base = []
        self._was_cut = False
        self._latest_ms = 0
        self._was_set_back = False

    def issued(self, commit):
        """The broker asks for a commit; returns its index among those of this life."""
        self.notes.append(Note(commit, [self._own_block(record) for record in commit.records]))
        return len(self.notes) - 1

    def note(self, commit):
        """The note of a commit that is under way."""
        return next(each for each in reversed(self.notes) if each.commit is commit)

    def begun(self, commit, entry):
        """The log begins to write a commit, and has that number for its first entry."""
        note = self.note(commit)
        if commit.records:
            note.entry = entry
            entry += 1
        if commit.preamble is not None:
            note.preamble_entry = entry

    def written(self, commit, name, size):
        """The entry of a commit is in a file, which has that length now."""
        self.note(commit).place = (name, size)

    def ends(self, *, power):
        """The broker has ended; `power` tells whether the power goes too. Asked before it does."""
        self._latest_ms = max(self._latest_ms, self._clock.now_ms())
        if self._was_cut:
            return  # what the first cut left was sure, and the disk does not know what is in the tails that it tore
        self._was_cut = power
        for note in self.notes:
            if note.place is not None:
                sure = self._disk.is_durable(*note.place)
                note.promised = sure or (note.answered and (note.commit.sync or not power))

    def recovered(self, life):
        """The log was read into a new shard; it has not begun a segment yet."""
        now = self._clock.now_ms()
        last = life.log.last_entry
        kept = [note for note in self.notes if 0 < note.entry <= last]
        self.lost = [note for note in self.notes if note.records and not 0 < note.entry <= last]
        for note in self.lost:
            expect(not note.promised, "what was confirmed is there", note.entry, last, note.records)
        message_at = self._reader()
        found = durable_state(life.shard.state, now, message_at, logged_only=True)
        mirror = self._mirror(now, last)
        expected = durable_state(mirror.state, now, message_at, logged_only=True)
        self._was_set_back = self._was_set_back or now < self._latest_ms
        if self._was_set_back:
            found, expected = without_delays(found), without_delays(expected)
            found, expected = without_ends(found), without_ends(expected)
        if found != expected:
            expect(False, "what is replayed is what was", *differences(found, expected))
        self._check_alive(kept, found, now)

    def started(self, life):
        """The new life has a segment of its own: all that it has read is sure from now on."""
        self._latest_ms = max(self._latest_ms, self._clock.now_ms())
        self.notes = []
        self._was_cut = False
        self.alive, self._names = self._alive_next, self._names_next
        self._base = [self._own_block(record) for record in life.log.replayed]

    def _mirror(self, now, last):
        """What the log should say: all that was written to it, with nothing ever forgotten."""
        mirror = Shard(0, lambda: 0.5)
        for record in self._base:
            mirror.restore(record)
        for note in self.notes:
            if 0 < note.entry <= last:
                for record in note.records:
                    mirror.restore(record)
            if 0 < note.preamble_entry <= last:
                mirror.restore(note.commit.preamble)
        mirror.restored(now)
        return mirror

    def _own_block(self, record):
        """The record with a block of its own, whose bytes stay."""
        block = getattr(record, "block", None)
        if block is None:
            return record
        return record._replace(block=Block(block.lengths, self._data(block)))

    def _data(self, block):
        return block.data if block.data is not None else read_block(self._disk, block)

    def _reader(self):
        """Gives the messages of batches, wherever they are."""
        known = {}

        def message_at(batch, at):
            if batch not in known:
                known[batch] = messages_of(batch.block.lengths, self._data(batch.block))
            return known[batch][at]

        return message_at

    def _check_alive(self, kept, found, now):
        alive = {name: dict(messages) for name, messages in self.alive.items()}
        names = dict(self._names)
        for note in kept:
            for record in note.records:
                for part in parts_of(record):
                    _apply(alive, names, part)
        for name, messages in alive.items():
            here = found[name][-1] if name in found else {}
            for offset, each in messages.items():
                if self._was_set_back and each.expires_at_ms:
                    continue
                if offset in here or not 0 < each.expires_at_ms <= now:
                    expect(offset in here, "what was confirmed is there", name, offset, each)
                    self._check_message(name, offset, here[offset], each, now)
            extra = here.keys() - messages.keys()
            expect(not extra, "what is gone never returns", name, sorted(extra))
        self._alive_next, self._names_next = alive, names

    def _check_message(self, name, offset, row, each, now):
        state, attempt, *_, message = row
        expect(message == each.message, "nothing is damaged", name, offset, message, each)
        expect(attempt == each.attempt, "attempts only grow", name, offset, attempt, each)
        expect((state == "dead") == each.dead, "the dead stay dead", name, offset, state, each)
        if not self._was_set_back and not each.dead:
            late = each.ready_at_ms > now
            expect((state == "delayed") == late, "a delay outlasts a restart", name, offset, state, each, now)


def _apply(alive, names, record):
    """One record, into plain lists of messages."""
    kind = type(record)
    if kind is records.Declared:
        names[record.queue] = record.name
        alive[record.name] = {}
        return
    messages = alive[names[record.queue]]
    if kind is records.Deleted:
        del alive[names[record.queue]]
    elif kind is records.Published:
        for offset, message in enumerate(messages_of(record.block.lengths, record.block.data), record.first):
            messages[offset] = Alive(message, record.envelope.expires_at_ms, record.ready_at_ms)
    elif kind is records.Removed:
        for offset in offsets(record.ranges):
            del messages[offset]
    elif kind in {records.Returned, records.Died}:
        for offset in offsets(record.ranges):
            old, dead = messages[offset], kind is records.Died
            ready_at_ms = 0 if dead else record.ready_at_ms
            ended = record.cause != records.REDRIVEN
            messages[offset] = old._replace(attempt=old.attempt + ended, dead=dead, ready_at_ms=ready_at_ms)


def without_delays(state):
    """A durable state that does not tell delayed messages from ready ones.

    When a clock was set back, a delay begins anew with each start, unless its message was written again meanwhile.
    """
    result = dict(state)
    for name, queue in state.items():
        if isinstance(queue, tuple):
            messages = {
                offset: ("ready" if each[0] == "delayed" else each[0], *each[1:4], 0, *each[5:])
                for offset, each in queue[-1].items()
            }
            result[name] = (*queue[:-1], messages)
    return result


def without_ends(state):
    """A durable state without dedupe keys, and without messages that expire.

    When a clock was set back, what is left of their time is counted anew with each start, and what a preamble or a
    message that was written again says of it is what was left then.
    """
    result = dict(state)
    for name, queue in state.items():
        if isinstance(queue, tuple):
            *standing, _, dead, removed, messages = queue
            lasting = {offset: each for offset, each in messages.items() if not each[5].expires_at_ms}
            dead = [each for each in dead if each[1] in lasting]
            result[name] = (*standing, {}, dead, removed, lasting)
    return result


def differences(found, expected):
    """Where two durable states differ: (what, found, expected), the first few."""
    result = []
    for name in [*found, *(each for each in expected if each not in found)]:
        mine, other = found.get(name), expected.get(name)
        if not (isinstance(mine, tuple) and isinstance(other, tuple)):
            if mine != other:
                result.append((name, mine, other))
            continue
        for field, a, b in zip(FIELDS, mine, other, strict=True):
            if a != b and isinstance(a, dict):
                keys = sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
                result += [(name, field, key, a.get(key), b.get(key)) for key in keys]
            elif a != b:
                result.append((name, field, a, b))
    return result[:4]
