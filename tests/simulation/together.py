"""The books of commits: what a COMMIT asks for is in one entry of the log, all of it, or nowhere.

That an entry is there whole or not at all after a crash is for `restarts.py` to see.
"""

from __future__ import annotations

from typing import NamedTuple

from simulation.promises import expect, messages_of
from wherry.model import commands
from wherry.model.commands import Verb
from wherry_broker.core import records

CAUSES = {
    Verb.ACK: records.SETTLED,
    Verb.NACK: records.FAILED,
    Verb.REJECT: records.REJECTED,
    Verb.RELEASE: records.RELEASED,
}
"""How a delivery has ended when the broker says that a settle of that verb was done."""


class Settle(NamedTuple):
    """One message that is to be settled; `name` is what its queue is called in the books."""

    name: str
    offset: int
    attempt: int
    verb: int


class Batch(NamedTuple):
    """Messages of one publish."""

    name: str
    messages: list
    dedupe: str


def commands_of(command):
    """The settles and the publishes of a COMMIT, as commands of their own."""
    settles = [commands.Settle(command.request, *row) for row in command.settles]
    publishes, end = [], 0
    for row in command.publishes:
        size = sum(int.from_bytes(row[1][at : at + 4], "big") for at in range(0, len(row[1]), 4))
        publishes.append(commands.Publish(command.request, *row, block=command.block[end : end + size]))
        end += size
    return settles, publishes


def settled_by(name, settle):
    """Each message that a SETTLE names."""
    return [
        Settle(name, offset, attempt, settle.verb)
        for first, count, attempt in settle.deliveries
        for offset in range(first, first + count)
    ]


class Whole:
    """What one COMMIT asks for."""

    def __init__(self, settles, batches):
        self.settles = settles
        self.batches = batches


class Together:
    """All commits of one life of a broker."""

    def __init__(self):
        self._of_message = {}
        self._acks = {}

    def settling(self, asker, settles):
        """Somebody asks for settles; `asker` stands for the request."""
        for each in settles:
            if each.verb == Verb.ACK:
                self._acks.setdefault(each[:3], []).append(asker)

    def asked(self, command, key_name):
        """A client asks for a commit; returns what it comes to."""
        settles, publishes = commands_of(command)
        whole = Whole(
            [each for settle in settles for each in settled_by(key_name(settle.queue), settle)],
            [Batch(key_name(each.queue), messages_of(each.lengths, each.block), each.dedupe) for each in publishes],
        )
        for batch in whole.batches:
            self._of_message.update(dict.fromkeys(batch.messages, whole))
        self.settling(whole, whole.settles)
        return whole

    def issued(self, messages, ended):
        """An entry is to be written that publishes these messages, and ends deliveries: (name, offset, attempt)."""
        touched = {id(whole): whole for message in messages if (whole := self._of_message.get(message))}
        for whole in touched.values():
            for batch in whole.batches:
                missing = [] if "@" in batch.name else [each for each in batch.messages if each not in messages]
                known = batch.dedupe and len(missing) == len(batch.messages)
                expect(not missing or known, "a commit is in one entry", batch, missing)
            for name, offset, attempt, verb in whole.settles:
                cause = ended.get((name, offset, attempt))
                expect("@" in name or cause == CAUSES[verb], "a commit is in one entry", name, offset, attempt, cause)

    def done(self, whole, published, ended):
        """The broker says that a commit was done.

        Args:
            whole: what it asked for.
            published: the entry that has published a message, by message.
            ended: the entry that has ended a delivery, and how, by (name, offset, attempt).
        """
        entries = {published.get(each) for batch in whole.batches if "@" not in batch.name for each in batch.messages}
        entries |= {ended.get(each[:3], (None, ""))[0] for each in whole.settles if "@" not in each.name}
        expect(len(entries - {None}) <= 1, "a commit is in one entry", entries)

    def refused(self, whole, ended):
        """The broker says that nothing of a commit was done."""
        for each in whole.settles if whole else ():
            askers = self._acks.get(each[:3], [])
            if whole in askers:
                askers.remove(whole)
                cause = ended.get(each[:3], (None, ""))[1]
                expect(askers or cause != records.SETTLED, "a commit that is refused has done nothing", each)
