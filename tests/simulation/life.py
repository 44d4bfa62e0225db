"""One life of a broker: the real shard, pump, sessions and log, from a start to a stop, a kill or a power cut.

Nothing here decides anything: `world.py` moves bytes, callbacks, time and the disk. The log is the real `FileLog` with
its two threads taken away: `write_step` is one step of the writer's, `read_step` all of the reader's next job.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from simulation.loop import VirtualLoop
from wherry_broker.core.shard import Shard
from wherry_broker.log.file import FileLog
from wherry_broker.log.journal import segment_name
from wherry_broker.server import session
from wherry_broker.server.limits import Limits
from wherry_broker.server.pump import Pump, restore

WRITE_HIGH_BYTES, WRITE_LOW_BYTES = 700, 200
LIMITS = Limits(heartbeat_ms=0)
SCRATCH = memoryview(bytearray(262_144))


class SteppedLog(FileLog):
    """The log in files, whose work is done when the simulation says so.

    Attributes:
        jobs: the commits that are asked for, in order; the first one may be under way.
        reads: the blocks that are asked for.
        broken: whether it has failed.
        replayed: the records that it began with.
        starting: called when all of them are read, and no segment is begun yet.
    """

    def __init__(self, disk, loop, audit, **options):
        self.jobs = deque()
        self.reads = deque()
        self.broken = False
        self.replayed = []
        self.starting = None
        self._steps = None
        self._loop = loop
        self._audit = audit
        super().__init__(disk, loop.call_soon, self._on_failure, **options)

    @property
    def last_entry(self):
        """The number of the last entry that was read."""
        return self._entry - 1

    def replay(self, keeps_blocks):
        for record, segment in super().replay(keeps_blocks):
            self.replayed.append(record)
            yield record, segment

    def start(self, preamble, owed_bytes=0):
        self.starting()
        super().start(preamble, owed_bytes)

    def _start_threads(self):
        pass

    def _on_failure(self, _error):
        """What ends the process in the real broker; the world looks for `broken`."""

    def commit(self, commit, done):
        self._audit.issued(commit)
        self.jobs.append((commit, done))

    def fetch(self, blocks, done):
        self.reads.append((blocks, done))

    def write_step(self, steady_ms):
        """Does one step of the writer."""
        try:
            if self._steps is not None or self.jobs:
                return self._commit_step(steady_ms)
            self._writer.sync()
        except OSError:
            self.broken = True
        return "synced"

    def _commit_step(self, steady_ms):
        if self._steps is None:
            commit, done = self.jobs[0]
            self._audit.restarts.begun(commit, self._journal.entry)
            self._steps = self._writer.steps(commit, partial(self._answer, done), steady_ms / 1000)
        step = next(self._steps, None)
        commit = self.jobs[0][0]
        if step is None:
            self.jobs.popleft()
            self._steps = None
        elif step == "written" and commit.records:
            journal = self._journal
            self._audit.restarts.written(commit, segment_name(journal.segment), journal.size)
        elif step == "answered":
            self._audit.answered(commit)
        return step or "done"

    def sync_is_due(self, steady_ms):
        return not self.jobs and self._writer.wait_s(steady_ms / 1000) == 0

    def read_step(self):
        """Does the next job of the reader."""
        blocks, done = self.reads.popleft()
        self._call(partial(done, [self._read(block) for block in blocks]))

    def close(self):
        while self.jobs and not self.broken:
            self.write_step(0)
        try:
            if not self.broken:
                self._writer.close()
        except OSError:
            self.broken = True
        self._store.unlock()


class Link:
    """A connection, from the broker's side and both ways of the wire.

    Attributes:
        to_broker, to_client: what is on its way.
        number: that of its session in the shard; 0 until it was welcomed.
        closed: whether it is gone.
        asked: the commands without a reply, by request; for the audit.
        consumers: the queue of each consumer; for the audit.
    """

    def __init__(self, life, audit):
        self._life = life
        self._audit = audit
        self.session = session.Session(life.shard.state.epoch, "wherry/simulated", lambda _: True, LIMITS, SCRATCH)
        self.number = 0
        self.to_broker = bytearray()
        self.to_client = bytearray()
        self.closed = False
        self.asked = {}
        self.consumers = {}
        self._held = False
        self._full = False

    # What the pump calls.

    def say(self, says):
        self._audit.said(self, says)
        if self.session.phase == session.OPEN:
            self.session.say(says)
            self._flush()

    def room_bytes(self):
        return WRITE_HIGH_BYTES - len(self.to_client)

    def hold_reading(self, *, hold):
        self._held = hold

    # What the world calls.

    @property
    def is_read(self):
        """Whether the broker takes bytes from it."""
        return bool(self.to_broker) and not self._held and not self._full and not self.closed

    def carry_in(self, size):
        """Brings the next bytes to the broker."""
        data = bytes(self.to_broker[:size])
        del self.to_broker[:size]
        opening = self.session.phase == session.OPENING
        given = self.session.receive(self.session.reader.feed(data))
        if opening and (self.session.phase == session.OPEN or given):
            self.number = self._life.pump.attach(self)
            self._life.links[self.number] = self
        if given and self.number:
            self._audit.submitted(self, given)
            self._life.pump.submit(self.number, given)
        self._flush()
        return data

    def carry_out(self, size):
        """Brings the next bytes to the client."""
        data = bytes(self.to_client[:size])
        del self.to_client[:size]
        if self._full and len(self.to_client) <= WRITE_LOW_BYTES:
            self._full = False
            if self.number:
                self._life.pump.make_room(self.number)
        return data

    def close(self):
        """The socket is gone, for the broker."""
        self.closed = True
        if self.number:
            del self._life.links[self.number]
            self._life.pump.detach(self.number)

    def _flush(self):
        self.to_client += b"".join(self.session.data_to_send())
        self._full = self._full or len(self.to_client) > WRITE_HIGH_BYTES


class Life:
    """A broker that runs.

    Args:
        disk: its directory.
        clock: what time it is.
        rng: what it draws jitter from.
        audit: what is told of everything.
        settings: the options of this run.

    Attributes:
        links: its connections by session number.
    """

    def __init__(self, disk, clock, rng, audit, settings):
        self.clock = clock
        self.loop = loop = VirtualLoop(clock)
        self.links = {}
        self.pump = None
        self.log = SteppedLog(
            disk,
            loop,
            audit,
            segment_bytes=settings.segment_bytes,
            sync_interval_ms=settings.sync_interval_ms,
            reserve_bytes=settings.reserve_bytes,
        )
        self.shard = Shard(
            0, rng.random, settings.defaults, auto_declare=False, resident_bytes_max=settings.resident_bytes_max
        )
        self.log.starting = partial(audit.restarts.recovered, self)
        restore(self.shard, self.log, clock)
        self.pump = Pump(self.shard, self.log, clock, loop, settings.uncommitted_bytes_max)
        audit.begins(self)
