"""The witness: it sees every command, record, commit, answer and restart, and says when a promise is broken.

It keeps books of its own, by message and not by span, and takes nothing of the broker's word but what it does: which
records it writes, and what it says to whom. A key in its books is (queue, offset); a queue whose messages are in memory
only begins anew with each life, and so has a name for each of them.
"""

from __future__ import annotations

from typing import NamedTuple

from simulation.leases import Leases
from simulation.promises import expect, messages_of, offsets, parts_of
from simulation.restarts import Restarts
from simulation.together import CAUSES, Together, Whole, commands_of, settled_by
from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry_broker.core import records
from wherry_broker.core.effects import Delivery


class Asked(NamedTuple):
    """A command that has no reply yet.

    Attributes:
        command: the command.
        at_ms: when the shard got it.
        latest_ms: the latest time that there had been by then; later than `at_ms` if the clock was set back.
        stale: the offsets that it names although their lease is over.
        whole: what it comes to, if it is a COMMIT.
    """

    command: commands.Request
    at_ms: int
    latest_ms: int
    stale: frozenset[int]
    whole: Whole | None = None


NO_TOKEN = (0, 0)
"""Less than the token of any lease."""


class Audit:
    """All books.

    Args:
        disk: the disk, which knows what is durable.
        clock: the time.
        queues: the options of each queue, by name.

    Attributes:
        sent: the queues that may get each message that a client has sent.
        stored: the message of each key.
        settled: the keys that the broker has called settled, or cancelled; with the last token that may be said yet.
        counts: how much has happened, to be printed.
    """

    def __init__(self, disk, clock, queues):
        self._disk = disk
        self._clock = clock
        self._options = queues
        self.restarts = Restarts(disk, clock)
        self.sent = {}
        self.stored = {}
        self.settled = {}
        self.held_before = {}
        self.counts = dict.fromkeys(
            (
                *("confirmed", "delivered", "settled", "refused", "duplicates", "routed", "rehomed", "paged in"),
                *("segments forgotten", "commits", "altered", "cancelled", "redriven"),
            ),
            0,
        )
        self._where = {}
        self._refused = set()
        self._told = {}
        self._tokens = {}
        self._first_leased = set()
        self._top = {}
        self._delayed = set()
        self._dedupe = {}
        self._levels = {}
        self._floors = {}
        self._latest_ms = 0
        self._begin_life(None)

    def _begin_life(self, life):
        self.epoch = life.shard.state.epoch if life is not None else 0
        self._links = life.links if life is not None else {}
        self._attempts = {}
        self._published = {}
        self._ended = {}
        self._deadlines = {}
        self._new_keys = []
        self._removed = set()
        self._last_tokens = {}
        self._stored_in = {}
        self._together = Together()
        self.leases = Leases()
        self.options = {name: dict(options) for name, options in self._options.items()}

    def key_name(self, queue):
        """What a queue is called in the books."""
        return queue if self._options[queue]["durability"] != "memory" else f"{queue}@{self.epoch}"

    # Lives.

    def begins(self, life):
        """A broker has started."""
        self.restarts.started(life)
        self._forget_lost(life.shard.state)
        for queue in life.shard.state.queues.values():
            self._lower_top(queue)
        self._begin_life(life)
        for queue in life.shard.state.queues.values():
            self._levels[queue.number] = (queue.name, queue.options.durability)
            self.options[queue.name] = queue.options.as_map()
            self.held_before[queue.name] = (queue.messages_held, queue.bytes_held)  # a lost DELETE gives it back, too
            for span in queue.spans():
                self._attempts.update(((queue.name, offset), span.attempt) for offset in range(span.low, span.high))
        self._limit_windows()
        self._state = life.shard.state
        self._watch(life.shard.ledger)

    def _limit_windows(self):
        """A clock that was set back makes no key last longer than its window, counted from the start."""
        now = self._clock.now_ms()
        for key, (first, until) in self._dedupe.items():
            window_ms = self._options[key[0].partition("@")[0]]["dedupe_window_ms"]
            self._dedupe[key] = (first, min(until, now + window_ms))

    def _forget_lost(self, state):
        """Takes out of the books what only a broker knew that is no more: its ids may be used, and settled, again."""
        limits = {name: queue.next_offset for name, queue in state.names.items()}
        for name, told in self._told.items():
            if self._is_synced(name):
                limit = limits.get(name, state.next_first)
                expect(told < limit, "an id that was told is never used again", name, told, limit)
        for key in self._new_keys:
            if key[1] >= limits.get(key[0], state.next_first):
                self._where.pop((key[0].partition("@")[0], self.stored.pop(key)), None)
                self._tokens.pop(key, None)
                self._first_leased.discard(key)
                self._delayed.discard(key)
        for note in self.restarts.lost:
            for record in note.records:
                if type(record) is records.Removed:
                    for offset in offsets(record.ranges):
                        self.settled.pop((self._levels[record.queue][0], offset), None)
        self._top = {key: min(top, limits.get(key[0], state.next_first) - 1) for key, top in self._top.items()}
        self._dedupe = {
            key: (first, until)
            for key, (first, until) in self._dedupe.items()
            if self._is_synced(key[0]) or first < limits.get(key[0], 0)
        }
        self._told = {name: told for name, told in self._told.items() if self._is_synced(name)}

    def _lower_top(self, queue):
        """What had gone, though the log does not know of that, is back, and has its place before others."""
        for span in queue.spans():
            back = [offset for offset in range(span.low, span.high) if (queue.name, offset) in self._removed]
            if back:
                key = (queue.name, span.batch.envelope.priority, span.batch.envelope.key)
                self._top[key] = min(self._top.get(key, 0), back[0] - 1)

    def _is_synced(self, name):
        return "@" not in name and self._options[name]["durability"] == "synced"

    def _watch(self, ledger):
        """Has a ledger tell of every record and every lease, in the order in which the core decided."""
        apply, hold = ledger.apply, ledger._outbox.hold

        def watched_apply(new, *results):
            facts = tuple(new)
            for record in facts:
                self._applied(record)
            apply(facts, *results)

        def watched_hold(effect, mark):
            if type(effect.say) is Delivery:
                self._leased(effect)
            hold(effect, mark)

        ledger.apply, ledger._outbox.hold = watched_apply, watched_hold

    # Records and commits.

    def _applied(self, record):
        """The core has decided on a fact."""
        kind = type(record)
        if kind is records.Declared:
            self._levels[record.queue] = (record.name, record.options["durability"])
            self._floors[record.name] = record.first
            self.options[record.name] = dict(self._options[record.name])
            self.held_before.pop(record.name, None)
        elif kind is records.Changed:
            self._take_changed(self._levels[record.queue][0], record.options)
        elif kind is records.Deleted:
            name = self._levels[record.queue][0]
            self._removed.update(key for key in self.stored if key[0] == name)
            self.leases.deleted(self.key_name(name))
        elif kind is records.Published:
            self._take_published(record)
        elif kind is records.Routed:
            for part in record.parts():
                self._take_published(part)
            self.counts["routed"] += len(record.targets) * record.block.count
        elif kind is records.Removed:
            self._take_removed(record)
        elif kind is records.Rehomed:
            self.counts["rehomed"] += 1

        if kind in {records.Removed, records.Returned, records.Died}:
            self.leases.applied(self.key_name(self._levels[record.queue][0]), record)

    def _take_removed(self, record):
        name = self._levels[record.queue][0]
        self._removed.update([(name, offset) for offset in offsets(record.ranges)])
        if record.cause == records.CANCELLED:
            keys = [(self.key_name(name), offset) for offset in offsets(record.ranges)]
            self._last_tokens.update({key: self._tokens.get(key, NO_TOKEN) for key in keys})

    def _take_changed(self, name, changes):
        """A queue has other options; what it holds already it may go on holding."""
        self.options[name] |= changes
        self.leases.changed(self.key_name(name))
        queue = self._state.names[name]
        self.held_before[name] = (queue.messages_held, queue.bytes_held)
        self.counts["altered"] += 1

    def _take_published(self, record):
        queue = self._levels[record.queue][0]
        name = self.key_name(queue)
        for offset, message in enumerate(messages_of(record.block.lengths, record.block.data), record.first):
            key = (name, offset)
            expect(queue in self.sent.get(message, ()), "nothing is invented", key, message)
            expect(message not in self._refused, "refused means refused", key, message)
            before = self._where.get((queue, message))
            expect(before is None, "a message is stored once in a queue", key, before)
            expect(key not in self.stored, "an id is never used again", key, message)
            self.stored[key] = message
            self._where[queue, message] = key
            self._new_keys.append(key)
            if record.ready_at_ms:
                self._delayed.add(key)

    def issued(self, commit):
        """The broker asks for a commit."""
        index = self.restarts.issued(commit)
        messages, ended = set(), {}
        for record in [part for each in commit.records for part in parts_of(each)]:
            kind = type(record)
            if kind is records.Published:
                name = self._levels[record.queue][0]
                for offset in range(record.first, record.first + record.block.count):
                    self._published[name, offset] = index
                    messages.add(self.stored[name, offset])
            elif kind in {records.Removed, records.Returned, records.Died} and record.cause != records.REDRIVEN:
                name = self._levels[record.queue][0]
                for offset in offsets(record.ranges):
                    attempt = self._attempts[name, offset] = self._attempts.get((name, offset), 0) + 1
                    ended[name, offset, attempt] = record.cause
        self._ended.update({delivery: (index, cause) for delivery, cause in ended.items()})
        self._stored_in.update(dict.fromkeys(messages, index))
        self._together.issued(messages, ended)

    def answered(self, commit):
        """The log says that a commit is as durable as it was to be."""
        note = self.restarts.note(commit)
        note.answered = True
        expect(note.place is not None or not note.records, "nothing is answered before it is written", note.records)
        queues = {part.queue for record in note.records for part in parts_of(record)}
        weak = all(self._levels[queue][1] == "written" for queue in queues)
        if note.place is not None and (commit.sync or not weak):
            durable = self._disk.is_durable(*note.place)
            expect(durable, "nothing is answered before the sync that covers it", note.place)

    # Commands.

    def submitted(self, link, given):
        """The shard gets commands of a client."""
        now = self._clock.now_ms()
        self._latest_ms = max(self._latest_ms, now)
        for command in given:
            kind = type(command)
            if kind is commands.Credit:
                continue
            stale, whole = frozenset(), None
            if kind is commands.Settle:
                stale = self._surely_stale(command, now)
                self._together.settling(command, settled_by(self.key_name(command.queue), command))
            elif kind is commands.Commit:
                stale = frozenset().union(*[self._surely_stale(each, now) for each in commands_of(command)[0]])
                whole = self._together.asked(command, self.key_name)
            elif kind is commands.Cancel:
                whole = self._stored_of(command)
            elif kind is commands.Consume:
                link.consumers.setdefault(command.consumer, self.key_name(command.queue))
            link.asked[command.request] = Asked(command, now, self._latest_ms, stale, whole)

    def _stored_of(self, command):
        """The keys that a CANCEL names, of what is stored, with their last tokens until now."""
        name = self.key_name(command.queue)
        named = [(name, offset) for first, count in command.ranges for offset in range(first, first + count)]
        return {key: self._tokens.get(key, NO_TOKEN) for key in named if key in self.stored}

    def _surely_stale(self, command, now):
        """What a settle names although its lease is over; extends what it extends."""
        stale = set()
        name = self.key_name(command.queue)
        for first, count, attempt in command.deliveries:
            for offset in range(first, first + count):
                held, deadline = self._deadlines.get((name, offset), (0, 0))
                if command.epoch != self.epoch or held != attempt or deadline <= now:
                    stale.add(offset)
                elif command.verb == Verb.EXTEND:
                    longest = now + (command.duration_ms or LEASE_MS_MAX)
                    self._deadlines[name, offset] = (held, max(deadline, longest))
        return frozenset(stale)

    def _leased(self, effect):
        link = self._links[effect.session]
        name = link.consumers[effect.say.consumer]
        first, count, attempt, _, _, priority, message_key = effect.say.row
        options = self.options[name.partition("@")[0]]
        self.leases.leased(link, name, effect.say, options, self._clock.now_ms())
        deadline = self._clock.now_ms() + effect.say.lease_ms
        for key in [(name, offset) for offset in range(first, first + count)]:
            self._deadlines[key] = (attempt, deadline)
            last = self._tokens.get(key, (0, 0))
            expect((self.epoch, attempt) > last, "tokens only grow", key, last, attempt)
            self._tokens[key] = (self.epoch, attempt)
            if key not in self._first_leased:
                self._first_leased.add(key)
                if key not in self._delayed and attempt == 1:
                    top = self._top.get((name, priority, message_key), 0)
                    expect(key[1] > top, "first deliveries are in order", key, top)
                    self._top[name, priority, message_key] = key[1]

    # What is said.

    def said(self, link, says):
        """The broker says something to a client: from now on the world knows."""
        for say in says:
            handler = _SAID.get(type(say))
            if handler is not None:
                handler(self, link, say)
            elif hasattr(say, "request"):
                del link.asked[say.request]

    def _check_out(self, index, promise, *facts):
        """The commit of that index was answered."""
        expect(index is not None and self.restarts.notes[index].answered, promise, index, *facts)

    def _said_delivery(self, link, say):
        name = link.consumers[say.consumer]
        first, count, attempt = say.row[:3]
        messages = messages_of(say.lengths, say.data)
        expect(len(messages) == count, "a delivery is whole", say.row)
        for key, message in zip([(name, offset) for offset in range(first, first + count)], messages, strict=True):
            self.check_identity(key, message)
            # What was leased before it was cancelled may be said after the answer to the CANCEL, to another client.
            last = self.settled.get(key, (self.epoch, attempt))
            expect((self.epoch, attempt) <= last, "what is settled never returns", key)
            if "@" not in name:
                self._check_lease(key, attempt)
        self.counts["delivered"] += count

    def _check_lease(self, key, attempt):
        if key in self._published:
            self._check_out(self._published[key], "nothing is delivered before it is durable", key)
        index, _ = self._ended.get((*key, attempt - 1), (None, ""))
        if index is not None:
            self._check_out(index, "no lease before the end of the last one is durable", key)
        expect(self._attempts.get(key, 0) >= attempt - 1, "one lease a message at a time", key, attempt)

    def check_identity(self, key, message):
        """The message of that key is this one, and was sent."""
        expect(self.stored.get(key) == message, "nothing is damaged, and no id used again", key, message)
        expect(key[0].partition("@")[0] in self.sent.get(message, ()), "nothing is invented", key, message)

    def _said_confirm(self, link, confirm):
        for request, first, duplicate in confirm.confirms:
            asked = link.asked.pop(request)
            command = asked.command
            self._check_dedupe(asked, first, duplicate)
            if duplicate:
                self.counts["duplicates"] += 1
            else:
                messages = messages_of(command.lengths, command.block)
                self._take_confirmed(command.queue, first, messages, confirm.durability)

    def _take_confirmed(self, queue, first, messages, durability):
        name = self.key_name(queue)
        expect(durability == self._options[queue]["durability"], "a confirm names its level", queue, durability)
        for key, message in zip([(name, first + each) for each in range(len(messages))], messages, strict=True):
            self.check_identity(key, message)
            if durability != "memory":
                self._check_out(self._published.get(key), "nothing is confirmed before it is durable", key)
        self._told[name] = max(self._told.get(name, 0), first + len(messages) - 1)
        self.counts["confirmed"] += len(messages)

    def _said_committed(self, link, committed):
        asked = link.asked.pop(committed.request)
        expect(not asked.stale, "a settle counts only while its lease runs", asked)
        settles, publishes = commands_of(asked.command)
        for publish, (first, duplicate, durability) in zip(publishes, committed.publishes, strict=True):
            self._check_dedupe(asked._replace(command=publish), first, duplicate)
            if not duplicate:
                messages = messages_of(publish.lengths, publish.block)
                self._take_confirmed(publish.queue, first, messages, durability)
        for settle in settles:
            for name, offset, attempt, verb in settled_by(self.key_name(settle.queue), settle):
                self._take_settled((name, offset), attempt, verb)
        self._together.done(asked.whole, self._stored_in, self._ended)
        self.counts["commits"] += 1

    def _check_dedupe(self, asked, first, duplicate):
        command, at_ms, latest_ms, *_ = asked
        key = (self.key_name(command.queue), command.dedupe)
        newest = known, until = self._dedupe.get(key, (0, 0))
        if until <= latest_ms or known < self._floors.get(command.queue, 0) or first < known:
            # Forgotten, since the clock was set back meanwhile, or another queue of that name; or not stored yet then.
            known = until = 0
        expect(command.dedupe or not duplicate, "only a dedupe key makes a duplicate", command)
        expect(
            duplicate or until <= at_ms, "a retry under a dedupe key is stored once", key, known, first, until, at_ms
        )
        expect(not duplicate or known in {0, first} or until <= at_ms, "a duplicate is of the first", key, known, first)
        window_ms = self._options[command.queue]["dedupe_window_ms"]
        if command.dedupe and not duplicate and window_ms:
            self._dedupe[key] = max(newest, (first, at_ms + window_ms))

    def _said_routed(self, link, routed):
        command = link.asked.pop(routed.request).command
        for message in messages_of(command.lengths, command.block):
            found = [self._where[queue, message] for queue in self.sent[message] if (queue, message) in self._where]
            if not command.dedupe:
                expect(len(found) == routed.queues, "all queues of a topic have its messages", message, found, routed)
            expect(len(found) <= routed.queues, "ROUTED counts all queues that have it", message, found, routed)
            expect(not (routed.duplicate and found), "a duplicate is not stored", message, found)
            for key in found:
                if "@" not in key[0]:
                    self._check_out(self._published.get(key), "nothing is confirmed before it is durable", key)
                self._told[key[0]] = max(self._told.get(key[0], 0), key[1])

    def _said_settled(self, link, settled):
        for request, stale_ranges in settled.settles:
            command, _, _, surely_stale, _ = link.asked.pop(request)
            stale = {offset for first, count in stale_ranges for offset in range(first, first + count)}
            late = surely_stale - stale
            expect(not late, "a settle counts only while its lease runs", command, sorted(late))
            name = self.key_name(command.queue)
            for _, offset, attempt, verb in settled_by(name, command) if command.verb != Verb.EXTEND else ():
                if offset not in stale:
                    self._take_settled((name, offset), attempt, verb)

    def _take_settled(self, key, attempt, verb):
        if "@" not in key[0]:
            index, cause = self._ended.get((*key, attempt), (None, ""))
            self._check_out(index, "nothing is settled before its record is durable", key, attempt)
            expect(cause == CAUSES[verb], "a settle does what it says", key, attempt, verb, cause)
        if verb == Verb.ACK:
            self.settled[key] = NO_TOKEN
            self.counts["settled"] += 1

    def _said_done(self, link, done):
        command, _, _, _, whole = link.asked.pop(done.request)
        if type(command) is commands.Cancel:
            # Gone for good, like what is settled; what had gone before, had the last token when the CANCEL came.
            self.settled.update({key: self._last_tokens.get(key, last) for key, last in whole.items()})
            self.counts["cancelled"] += done.total
        elif type(command) is commands.Redrive:
            self.counts["redriven"] += done.total

    def _said_cancelled(self, link, cancelled):
        self.leases.told(link, cancelled)

    def _said_error(self, link, error):
        command, _, _, _, whole = link.asked.pop(error.request)
        if isinstance(whole, Whole):
            self._together.refused(whole, self._ended)
            for batch in whole.batches:
                self._take_refused(batch.messages)
        if type(command) not in {commands.Publish, commands.PublishTopic}:
            return
        messages = messages_of(command.lengths, command.block)
        if error.accepted:
            self._take_confirmed(command.queue, error.first, messages[: error.accepted], error.durability)
        self._take_refused(messages[error.accepted :])

    def _take_refused(self, messages):
        for message in messages:
            stored = [queue for queue in self.sent[message] if (queue, message) in self._where]
            expect(not stored, "refused means refused", message, stored)
            self._refused.add(message)
            self.counts["refused"] += 1


LEASE_MS_MAX = 1_000
"""No queue and no consumer of the simulation leases for longer."""
_SAID = {
    Delivery: Audit._said_delivery,
    replies.Confirm: Audit._said_confirm,
    replies.Routed: Audit._said_routed,
    replies.Settled: Audit._said_settled,
    replies.Committed: Audit._said_committed,
    replies.Done: Audit._said_done,
    replies.Cancelled: Audit._said_cancelled,
    replies.Error: Audit._said_error,
}
