"""Every state that a power cut can leave of a log, for small workloads: all moments, and at each what may be kept.

After ALICE (OSDI 2014): which writes, sectors and names of those that are not synced are on the disk is nobody's
promise, so each moment stands for many disks. Random long runs find few of the bugs that a short workload and a full
enumeration find (CrashMonkey, OSDI 2018).
"""

from __future__ import annotations

import random
from itertools import product
from typing import NamedTuple

from durable import durable_state
from simulation.disk import SECTOR, Inode, NameChange, SimulatedDisk, apply_change, assembled
from wherry.model import commands
from wherry_broker.core.effects import Delivery
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard
from wherry_broker.log.file import FileLog

NOW_MS = 1_700_000_000_000
NAME_CHANGES_MAX = 4
"""Up to so many changes of the directory, all outcomes are tried; of more, some."""


class Moment(NamedTuple):
    """The disk between two calls, and what had been said by then.

    Attributes:
        names: what is on the disk for sure.
        changes: what may be.
        confirmed: the number of the newest commit that has to be there.
        issued: the number of the newest commit that can be there.
    """

    names: dict[str, Inode]
    changes: list[NameChange]
    confirmed: int
    issued: int


class RecordingDisk(SimulatedDisk):
    """A disk that remembers each of its moments."""

    def __init__(self):
        super().__init__(random.Random(0))
        self.moments = []
        self.confirmed = self.issued = 0

    def _moment(self):
        twins = {}
        names = {name: twin(inode, twins) for name, inode in self.names_durable.items()}
        changes = [change._replace(inode=twin(change.inode, twins)) for change in self.changes]
        self.moments.append(Moment(names, changes, self.confirmed, self.issued))


def twin(inode, twins):
    """A copy of an inode, the same one for each name of it."""
    if inode is None:
        return None
    if inode not in twins:
        copy = twins[inode] = Inode()
        copy.data, copy.durable, copy.writes = bytes(inode.data), inode.durable, list(inode.writes)
    return twins[inode]


class CommittedLog(FileLog):
    """A log whose commits are made at once, by the caller."""

    def _start_threads(self):
        """None is needed."""

    def steps(self, commit, done):
        return self._writer.steps(commit, done, 0.0)


def fail(_error):
    raise AssertionError("nobody reads in a thread here")


def recovered(disk, segment_bytes=1 << 20):
    """A log on that disk, and the core that was read from it; a new segment has begun."""
    log = CommittedLog(disk, lambda call: call(), fail, segment_bytes=segment_bytes)
    shard = Shard(0, lambda: 0.5, QueueOptions(durability="synced"))
    for record, segment in log.replay(lambda: True):
        shard.restore(record, segment)
    shard.restored(NOW_MS)
    state = durable_state(shard.state, NOW_MS, logged_only=True)
    log.start(shard.ledger.open(log.segment, log.oldest, NOW_MS))
    return log, shard, state


class Workload:
    """Carries out operations, and notes the state that each commit makes.

    Attributes:
        disk: the disk, with all its moments.
        states: the durable state after each commit; the first one is that of an empty log.
    """

    def __init__(self, operations, segment_bytes):
        self.disk = RecordingDisk()
        self.states = [durable_state(Shard(0, lambda: 0.5).state, NOW_MS, logged_only=True)]
        self._segment_bytes = segment_bytes
        self._request = 0
        self._begin()
        for operation in operations:
            getattr(self, f"_{operation.replace(' ', '_')}")()

    def _begin(self):
        self._log, self._shard, _ = recovered(self.disk, self._segment_bytes)
        self._session = self._shard.attach(1 << 30)
        self._held = []

    def _submit(self, kind, *fields, **more):
        self._request += 1
        self._shard.submit(self._session, kind(self._request, *fields, **more), NOW_MS)
        self._shard.dispatch(NOW_MS)
        self._make_durable()

    def _make_durable(self):
        log, disk = self._log, self.disk
        while True:
            commit = self._shard.take_batch(
                roll=log.is_segment_long, log_bytes=log.size_bytes, slack_bytes=log.slack_bytes
            )
            if commit is None:
                break
            self.states.append(durable_state(self._shard.state, NOW_MS, logged_only=True))
            disk.issued = number = len(self.states) - 1
            for step in log.steps(commit, lambda places, mark=commit.mark: self._shard.committed(mark, places)):
                if step == "answered" and commit.sync:
                    disk.confirmed = number
        for effect in self._shard.take_effects():
            if isinstance(effect.say, Delivery):
                self._held.append(effect.say.row[:3])

    # Operations.

    def _declare(self):
        self._submit(commands.Declare, "q", {"max_attempts": 3})

    def _declare_topics(self):
        for name, level in (("q", "synced"), ("r", "written"), ("s", "synced"), ("m", "memory")):
            self._submit(commands.Declare, name, {"durability": level, "bind": ["topic.>"]})

    def _publish_topic(self):
        bodies = [bytes([65 + (self._request + number) % 26]) * 200 for number in range(3)]
        lengths = b"".join(len(body).to_bytes(4, "big") for body in bodies)
        self._submit(commands.PublishTopic, "topic.a", lengths, dedupe="k", block=b"".join(bodies))

    def _declare_written(self):
        self._submit(commands.Declare, "q", {"durability": "written"})

    def _publish(self, count=1, size=40, **more):
        bodies = [bytes([65 + (self._request + number) % 26]) * size for number in range(count)]
        lengths = b"".join(len(body).to_bytes(4, "big") for body in bodies)
        self._submit(commands.Publish, "q", lengths, block=b"".join(bodies), **more)

    def _publish_batch(self):
        self._publish(count=6, size=400)

    def _publish_large(self):
        self._publish(size=4000)

    def _publish_delayed(self):
        self._publish(delay_ms=5_000)

    def _publish_once(self):
        self._publish(dedupe=f"key-{self._request % 3}")

    def _consume(self):
        self._submit(commands.Consume, 1, "q", 100)

    def _settle(self, verb, **more):
        if self._held:
            self._submit(commands.Settle, "q", verb, self._shard.state.epoch, (self._held.pop(0),), **more)

    def _ack(self):
        self._settle(commands.Verb.ACK)

    def _nack(self):
        self._settle(commands.Verb.NACK, duration_ms=1_000, text="no")

    def _reject(self):
        self._settle(commands.Verb.REJECT)

    def _release(self):
        self._settle(commands.Verb.RELEASE)

    def _commit(self):
        """Settles a message, and publishes into its queue and another one."""
        verb, epoch = commands.Verb.ACK, self._shard.state.epoch
        settles = tuple(("q", verb, epoch, (self._held.pop(0),), None, "") for _ in self._held[:1])
        bodies = [bytes([65 + (self._request + number) % 26]) * 300 for number in range(4)]
        lengths = (300).to_bytes(4, "big") * 2
        publishes = tuple((queue, lengths, 0, "", 0, 0, 0, "") for queue in ("q", "r"))
        self._submit(commands.Commit, settles, publishes, block=b"".join(bodies))

    def _purge(self):
        self._submit(commands.Purge, "q", ("ready", "delayed", "dead"))

    def _delete(self):
        self._submit(commands.Delete, "q")
        self._held = []

    def _pause(self):
        self._submit(commands.Pause, "q", paused=True)

    def _schedule(self):
        """Its moment has passed, so it publishes at once."""
        self._submit(commands.Schedule, "s", "q", at_ms=NOW_MS - 1, block=b"due" * 100, stamp=7)

    def _schedule_later(self):
        self._submit(commands.Schedule, "s", "q", every_ms=60_000, overlap="skip", block=b"due" * 10)

    def _run_schedule(self):
        self._submit(commands.RunSchedule, "s")

    def _pause_schedule(self):
        self._submit(commands.PauseSchedule, "s", paused=True)

    def _unschedule(self):
        self._submit(commands.Unschedule, "s")

    def _restart(self):
        self.disk.killed()
        self._begin()


# What a power cut leaves.


def disks(moment, rng, subsets):
    """The files of every disk that may be left, as {name: bytes}.

    Args:
        moment: when the power goes.
        rng: draws sectors and garbage.
        subsets: how many random sets of sectors, and of names where there are too many, are tried.
    """
    for names in name_outcomes(moment, rng, subsets):
        unsure = list({id(inode): inode for inode in names.values() if inode.writes}.values())
        others = [(inode.durable, inode.data) for inode in unsure[1:]]
        for outcome in product(*[contents(inode, rng, subsets) for inode in unsure[:1]], *others):
            left = dict(zip(map(id, unsure), outcome, strict=True))
            yield {name: bytes(left.get(id(inode), inode.durable)) for name, inode in names.items()}


def name_outcomes(moment, rng, subsets):
    """The directories that may be left."""
    changes = moment.changes
    if len(changes) <= NAME_CHANGES_MAX:
        chosen = product((False, True), repeat=len(changes))
    else:
        prefixes = [[position < count for position in range(len(changes))] for count in range(len(changes) + 1)]
        chosen = prefixes + [[rng.random() < 0.5 for _ in changes] for _ in range(subsets)]
    for outcome in chosen:
        names = dict(moment.names)
        for change, happened in zip(changes, outcome, strict=True):
            if happened:
                apply_change(names, change)
        yield names


def contents(inode, rng, subsets):
    """What may be left of a file with unsynced writes."""
    sectors = {}
    for write in inode.writes:
        for sector in range(write.offset // SECTOR, (write.offset + len(write.data) - 1) // SECTOR + 1):
            sectors[sector] = write.offset + len(write.data)
    yield inode.durable
    yield bytes(inode.data)
    listed = sorted(sectors)
    for count in range(1, len(listed)):
        yield assembled(inode, {sector: sectors[sector] for sector in listed[:count]}, False)
    yield assembled(inode, {}, True)
    yield assembled(inode, {}, True, rng.randbytes(len(inode.data)))
    for _ in range(subsets):
        kept = {sector: sectors[sector] for sector in listed if rng.random() < 0.5}
        yield assembled(inode, kept, rng.random() < 0.5)
        yield assembled(inode, kept, True, rng.randbytes(len(inode.data)))


def disk_of(files):
    """A disk that holds these files, and nothing that is not synced."""
    disk = SimulatedDisk(random.Random(0))
    disk.names_now = {name: Inode(data) for name, data in files.items()}
    disk.names_durable = dict(disk.names_now)
    return disk
