"""More planted bugs: those of single verbs. See `mutants.py`."""

from __future__ import annotations

from simulation.mutants import mutant
from wherry.model.commands import Commit
from wherry_broker.core import catalogue, committing, decide, editing, ledger, records
from wherry_broker.core.keys import Keys
from wherry_broker.core.queue import Queue
from wherry_broker.core.rates import Bucket
from wherry_broker.core.turns import UNLIMITED
from wherry_broker.log import journal

ENUMERATED = frozenset({"a commit is written as two entries"})
"""Those that the states of a disk have to be enumerated for: see `test_crash_states.py`. Chance seldom finds them."""

# Commits.


@mutant
def a_commit_is_written_as_two_entries(patch):
    real = journal.Journal.append

    def append(self, new):
        settled = [each for each in new if getattr(each, "cause", "") == records.SETTLED]
        stored = [each for each in new if type(each) is records.Published]
        if not settled or not stored:
            return real(self, new)
        at = new.index(stored[0])
        return [*real(self, new[:at]), *real(self, new[at:])] if at else real(self, new)

    patch.setattr(journal.Journal, "append", append)


@mutant
def the_publishes_of_a_commit_go_into_the_next_entry(patch):
    real = committing.Committing.commit
    real_batch = ledger.Ledger.take_batch

    def commit(self, session, command, now_ms):
        before = len(self._ledger._records)
        real(self, session, command, now_ms)
        new = self._ledger._records[before:]
        if any(type(each) is records.Removed for each in new):
            self._ledger.late = [each for each in new if type(each) is records.Published]

    def take_batch(self, **more):
        late, self.late = getattr(self, "late", []), []
        self._records = [each for each in self._records if not any(each is other for other in late)]
        result = real_batch(self, **more)
        self._records += late
        self._sync = self._sync or bool(late)
        return result

    patch.setattr(committing.Committing, "commit", commit)
    patch.setattr(ledger.Ledger, "take_batch", take_batch)


@mutant
def a_stale_settle_refuses_no_commit(patch):
    def settle(self, state, settles, now_ms, draw):
        for each in settles:
            held, _ = decide.match(state, self.queue, each)
            self.ended += decide.settle(self.queue, each, held, now_ms, draw)

    patch.setattr(committing.Part, "settle", settle)


@mutant
def a_commit_settles_before_it_looks_for_room(patch):
    real = committing.Committing.commit

    def commit(self, session, command, now_ms):
        say, self._answers.say = self._answers.say, lambda *_: None
        try:
            real(self, session, Commit(command.request, command.settles), now_ms)
        finally:
            self._answers.say = say
        real(self, session, command._replace(settles=()), now_ms)

    patch.setattr(committing.Committing, "commit", commit)


@mutant
def a_commit_looks_at_each_publish_alone(patch):
    real = committing.Part.dropped

    def dropped(self, now_ms):
        stored = self.stored
        result = []
        for each in stored:
            self.stored = [each]
            result = real(self, now_ms)
        self.stored = stored
        return result

    patch.setattr(committing.Part, "dropped", dropped)


@mutant
def a_commit_frees_what_it_only_hands_back(patch):
    def freed(queue, ended):
        ranges = [each for record in ended for each in getattr(record, "ranges", ())]
        return sum(high - low for low, high in ranges), queue.options.max_bytes

    patch.setattr(committing, "_freed", freed)


@mutant
def a_commit_knows_no_dedupe_key_of_its_own(patch):
    patch.setattr(committing.Part, "_known", lambda self, key, now_ms: self.queue.dedupe.known(key, now_ms))


# Keys, caps, and edits.


@mutant
def an_ordered_key_is_delivered_side_by_side(patch):
    patch.setattr(Keys, "allowed", lambda self, name, now_ms: UNLIMITED)


@mutant
def an_ordered_key_does_not_wait_for_its_retries(patch):
    real = Keys.allowed

    def allowed(self, name, now_ms):
        key = self._keys.get(name)
        if key is not None:
            key.retrying = 0
        return real(self, name, now_ms)

    patch.setattr(Keys, "allowed", allowed)


@mutant
def one_more_is_leased_than_may_be(patch):
    real = Queue.may_lease
    patch.setattr(Queue, "may_lease", lambda self, now_ms: real(self, now_ms) + 1)


@mutant
def what_is_delivered_is_not_taken_from_the_rate(patch):
    patch.setattr(Bucket, "take", lambda self, count, now_ms: None)


@mutant
def who_holds_a_cancelled_message_is_not_told(patch):
    patch.setattr(editing, "_holders", lambda parts: {})


def unlogged(patch, cls, name, kind):
    """Has a method leave its records of a kind out of the log."""
    real = getattr(cls, name)

    def method(self, *arguments):
        records_of = self._ledger._records
        before = len(records_of)
        real(self, *arguments)
        records_of[before:] = [each for each in records_of[before:] if type(each) is not kind]

    patch.setattr(cls, name, method)


@mutant
def a_cancel_is_not_logged(patch):
    unlogged(patch, editing.Editing, "cancel", records.Removed)


@mutant
def a_redrive_is_not_logged(patch):
    unlogged(patch, editing.Editing, "redrive", records.Returned)


@mutant
def an_alter_is_not_logged(patch):
    unlogged(patch, catalogue.Catalogue, "alter", records.Changed)


@mutant
def a_redriven_message_begins_its_tokens_anew(patch):
    real = Queue.revive

    def revive(self, low, high):
        real(self, low, high)
        for span in self.spans(low, high):
            span.attempt = span.released = 0

    patch.setattr(Queue, "revive", revive)


@mutant
def an_altered_bound_does_not_hold(patch):
    real = Queue.change

    def change(self, options):
        real(self, options)
        self.options = options.changed({"max_messages": 1000, "max_bytes": 1 << 20})

    patch.setattr(Queue, "change", change)
