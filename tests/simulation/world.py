"""The world: one seed, one thread, no clock. Each step is one thing that happens somewhere.

A step is a few bytes over a wire, a callback of the broker's event loop, a step of the log's writer (so that commands
keep coming while a commit is under way), a read, a moment of time, something a client does, or a misfortune. After the
steps misfortunes end, and everything has to drain.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import accumulate
from zlib import crc32

from simulation.audit import Audit
from simulation.client import Client
from simulation.disk import PowerCut, SimulatedDisk
from simulation.life import Life, Link
from simulation.loop import VirtualClock
from simulation.promises import Violation, expect
from simulation.settings import draw_settings
from wherry_broker.core.batch import DELAYED, LEASED, READY

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
CHECK_EVERY = 64
DRAIN_ROUNDS_MAX = 20_000
MORE_BYTES = 40_000
CALLS = ("sync", "create", "rename", "remove", "sync_names")
"""Calls of the disk at which the power goes by choice; most go at any."""


class World:
    """One run.

    Args:
        seed: decides everything.
        settings: instead of those that the seed draws.

    Attributes:
        trace: a hash of all that has happened.
    """

    def __init__(self, seed, settings=None):
        self.rng = random.Random(seed)
        self.settings = settings or draw_settings(self.rng)
        self.clock = VirtualClock(START_MS)
        self.disk = SimulatedDisk(self.rng, self.settings.capacity)
        self.disk.risks_removals = self.settings.risks_removals
        self.audit = Audit(self.disk, self.clock, self.settings.queues)
        self.clients = [
            Client(number, self.rng, self.audit, self.settings, self.clock) for number in range(self.settings.clients)
        ]
        self.trace = 0
        self.steps = 0
        self.happened = Counter()
        self.life = None
        self._names = list(self.settings.weights)
        self._weights = list(accumulate(self.settings.weights.values()))
        self._doing = {
            "client": self._client,
            "network": self._network,
            "loop": self._loop,
            "writer": self._writer,
            "reader": self._reader,
            "time": self._time,
            "sweep": self._sweep,
            "disconnect": self._disconnect,
            "power": self._power,
            "kill": self._kill,
            "stop": self._stop,
            "sync error": self._sync_error,
            "write error": self._write_error,
        }

    def _below(self, limit):
        return int(self.rng.random() * limit)

    def _note(self, data):
        self.trace = crc32(data, self.trace)

    # A run.

    def run(self, steps):
        """Makes so many steps, then lets everything drain."""
        self._start()
        choices, names, weights = self.rng.choices, self._names, self._weights
        for _ in range(steps):
            what = choices(names, cum_weights=weights)[0]
            self.happened[what] += 1
            self._note(what.encode())
            self._guarded(self._doing[what])
            self.steps += 1
            if self.steps % CHECK_EVERY == 0:
                self._check_bounds()
        self._drain()

    def _guarded(self, work):
        """Does something, after which the broker may be no more."""
        try:
            work()
        except PowerCut:
            self._power_is_gone()
        if self.life.log.broken:
            self.happened["log failure"] += 1
            expect(not self.disk.is_full, "a broker does not fill the disk")
            if self.rng.random() < 0.5:
                self._power_is_gone()
            else:
                self._process_is_gone()

    # Lives.

    def _start(self):
        """Starts the broker; the power may go while it does."""
        rng = self.rng
        while True:
            if self.happened["power"] and self.steps and rng.random() < 0.2 and not self._calm:
                self.disk.fuse = self._below(12)
            try:
                self.life = Life(self.disk, self.clock, rng, self.audit, self.settings)
            except PowerCut:
                self.happened["power cut in recovery"] += 1
                self.audit.restarts.ends(power=True)
                self.disk.cut()
                continue
            except OSError:
                # A full disk, on which a start needs a little: somebody makes room, and starts it again.
                expect(self.disk.is_full, "a broker starts on a disk that works")
                self.happened["disk too full to start"] += 1
                self.disk.capacity += MORE_BYTES
                self.audit.restarts.ends(power=False)
                self.disk.killed()
                continue
            self.disk.fuse = None
            self.happened["start"] += 1
            return

    _calm = False

    def _restart(self):
        for client in self.clients:
            if client.link is not None:
                client.disconnect()
        if self.rng.random() < 0.3:
            self.clock.wall_ms += self._below(2 * HOUR_MS) - HOUR_MS if self.rng.random() < 0.5 else self._below(3000)
        self._start()

    def _power(self):
        """The power goes, now or in a moment, whenever the disk is next asked for something."""
        chance = self.rng.random()
        if chance < 0.3:
            self.disk.fuse, self.disk.fuse_in = self._below(6), ""
        elif chance < 0.6:
            self.disk.fuse, self.disk.fuse_in = self._below(5), CALLS[self._below(len(CALLS))]
        else:
            self._power_is_gone()

    def _power_is_gone(self):
        self.happened["power cut"] += 1
        self.audit.restarts.ends(power=True)
        self.disk.cut()
        self._restart()

    def _kill(self):
        self._process_is_gone()

    def _process_is_gone(self):
        self.happened["killed"] += 1
        self.audit.restarts.ends(power=False)
        self.disk.killed()
        self._restart()

    def _stop(self):
        """An orderly end."""
        for client in self.clients:
            if client.link is not None:
                link = client.link
                client.disconnect()
                link.close()
        self.life.pump.close()
        self.life.log.close()
        if not self.life.log.broken:
            self.audit.restarts.ends(power=True)
            self.disk.cut()
            self._restart()

    def _sync_error(self):
        self.disk.sync_error = self._below(4)

    def _write_error(self):
        self.disk.write_error = self._below(4)

    # What happens in a life.

    def _client(self):
        client = self.clients[self._below(len(self.clients))]
        if client.link is None:
            link = Link(self.life, self.audit)
            client.connect(link)
        client.act()

    def _network(self):
        client = self.clients[self._below(len(self.clients))]
        link = client.link
        if link is None:
            return
        if link.is_read and (not link.to_client or self.rng.random() < 0.5):
            self._note(link.carry_in(self._some(len(link.to_broker))))
        elif link.to_client:
            data = link.carry_out(self._some(len(link.to_client)))
            self._note(data)
            client.hear(data)

    def _some(self, size):
        return size if self.rng.random() < 0.6 else 1 + self._below(size)

    def _loop(self):
        loop = self.life.loop
        if loop.ready:
            loop.run_one()
        elif self.rng.random() < 0.2:
            self._pass_time(self._below(4))

    def _writer(self):
        log = self.life.log
        if log.jobs or log.sync_is_due(self.clock.steady_ms):
            self._note(log.write_step(self.clock.steady_ms).encode())

    def _reader(self):
        if self.life.log.reads:
            self.audit.counts["paged in"] += 1
            self.life.log.read_step()

    def _time(self):
        next_ms = self.life.loop.next_ms()
        if next_ms is not None and self.rng.random() < 0.3:
            self._pass_time(max(0, int(next_ms) - self.clock.steady_ms + self._below(2)))
        else:
            self._pass_time(self._below(30))

    def _pass_time(self, ms):
        self.clock.steady_ms += ms
        self.life.loop.pass_time()

    def _sweep(self):
        """A client empties all queues: many segments of the log hold nothing any more, all at once."""
        client = self.clients[self._below(len(self.clients))]
        if client.link is not None:
            client.purge_all()

    def _disconnect(self):
        client = self.clients[self._below(len(self.clients))]
        if client.link is not None:
            link = client.link
            client.disconnect()
            link.close()

    def _check_bounds(self):
        for queue in self.life.shard.state.queues.values():
            counts, sizes = [0, 0, 0, 0], [0, 0, 0, 0]
            for span in queue.spans():
                counts[span.state] += len(span)
                sizes[span.state] += span.size()
            expect((counts, sizes) == (queue.counts, queue.sizes), "counts are exact", queue.name, counts, queue.counts)
            options = self.audit.options[queue.name]
            messages, size = self.audit.held_before.get(queue.name, (0, 0))
            expect(queue.messages_held <= max(messages, options["max_messages"]), "bounds are exact", queue.name)
            expect(queue.bytes_held <= max(size, options["max_bytes"]), "bounds are exact", queue.name)

    # The end.

    def _drain(self):
        """No more misfortunes: everything that was confirmed is delivered and settled, or visibly gone."""
        self._calm = True
        disk = self.disk
        disk.fuse = disk.write_error = disk.sync_error = None
        disk.risks_removals = False
        for _ in range(DRAIN_ROUNDS_MAX):
            if self._settle_down():
                break
        else:
            left = {queue.name: queue.counts for queue in self.life.shard.state.queues.values()}
            raise Violation(f"everything drains: {left}")
        self._check_bounds()
        self.audit.leases.check_told()
        self._restart_clean()

    def _settle_down(self):
        """One round of everything; whether nothing is left to do."""
        moved = [self._carry_all(client) for client in self.clients]
        moved.append(self._work_all())
        expect(not self.life.log.broken, "a disk that works fails nobody")
        if any(moved) or any(client.held for client in self.clients):
            return False
        queues = self.life.shard.state.queues.values()
        if not any(queue.counts[state] for queue in queues for state in (READY, DELAYED, LEASED)):
            return True
        next_ms = self.life.loop.next_ms()
        self._pass_time(1 if next_ms is None else max(1, int(next_ms) + 1 - self.clock.steady_ms))
        return False

    def _carry_all(self, client):
        """Brings all that is on its way from and to a client; whether there was anything."""
        if client.link is None:
            client.connect(Link(self.life, self.audit))
        client.finish()
        link, moved = client.link, False
        while link.is_read:
            link.carry_in(len(link.to_broker))
            moved = True
        while link.to_client:
            client.hear(link.carry_out(len(link.to_client)))
            moved = True
        return moved

    def _work_all(self):
        """Does all that the broker has to do; whether there was anything."""
        loop, log, rounds = self.life.loop, self.life.log, 0
        while loop.ready or log.jobs or log.reads:
            rounds += 1
            expect(rounds < DRAIN_ROUNDS_MAX, "a broker that nobody asks for anything comes to rest")
            if loop.ready:
                loop.run_one()
            if log.jobs:
                log.write_step(self.clock.steady_ms)
            if log.reads:
                log.read_step()
        return rounds > 0

    def _restart_clean(self):
        for client in self.clients:
            expect(not client.conversation.unanswered, "every request is answered", client.conversation.unanswered)
        self._stop()
        self.audit.counts["segments forgotten"] = self.life.log.oldest - 1
