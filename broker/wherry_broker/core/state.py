"""The durable facts of a shard: its queues by number and by name."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

from wherry_broker.core.bindings import Bindings
from wherry_broker.core.families import Families
from wherry_broker.core.gates import Gates
from wherry_broker.core.homes import Homes
from wherry_broker.core.memory import QUEUE_BYTES, UNBOUNDED, Memory
from wherry_broker.core.producers import Producers
from wherry_broker.core.schedules import Schedules
from wherry_broker.core.timers import Timers

if TYPE_CHECKING:
    from wherry_broker.core.queue import Queue


class State:
    """What records make.

    Args:
        epoch: the number of this start of the log; it grows with every start.
        memory_bytes_max: how much memory all that is stored may take.

    Attributes:
        restoring: whether records of a log are read, so that it is not known what is leased.
        queues: by number.
        names: by name.
        producers: which publishes were stored that may be sent again.
        gates: what waits for others to end.
        families: what was sent by which message.
        homes: which segments of the log hold what is alive.
        bindings: which queues take which subjects.
        schedules: what is published when its time comes.
        memory: how much memory it takes.
        next_number: the number of the next queue to come.
        next_first: the offset at which the next new queue begins: past every offset of every queue ever deleted, so
            that a queue made anew under an old name never uses an id again.
    """

    def __init__(self, epoch: int, memory_bytes_max: int = UNBOUNDED) -> None:
        self.epoch = epoch
        self.restoring = False
        self.timers = Timers()
        self.homes = Homes()
        self.bindings = Bindings()
        self.producers = Producers()
        self.schedules = Schedules(self.homes)
        self.memory = Memory(self.timers, self.producers, memory_bytes_max)
        self.gates = Gates()
        self.families = Families()
        self.queues: dict[int, Queue] = {}
        self.names: dict[str, Queue] = {}
        self.next_number = 1
        self.next_first = 1
        self._sorted_names: list[str] = []

    def add(self, queue: Queue) -> None:
        """Makes a queue known."""
        self.queues[queue.number] = queue
        self.names[queue.name] = queue
        self.memory.take(QUEUE_BYTES)
        if queue.is_temporary:
            return
        insort(self._sorted_names, queue.name)
        self.bindings.bind(queue.number, queue.options.bind)
        self.next_number = max(self.next_number, queue.number + 1)

    def discard(self, queue: Queue) -> None:
        """Forgets a queue."""
        del self.queues[queue.number], self.names[queue.name]
        self.memory.free(QUEUE_BYTES)
        if queue.is_temporary:
            return
        self.bindings.bind(queue.number, ())
        del self._sorted_names[bisect_left(self._sorted_names, queue.name)]
        self.next_first = max(self.next_first, queue.next_offset)

    def page(self, prefix: str, after: str, limit: int) -> tuple[list[Queue], bool]:
        """At most `limit` queues by name, after the name `after`, and whether more follow."""
        names = self._sorted_names
        start = max(bisect_left(names, prefix), bisect_right(names, after) if after else 0)
        found = [name for name in names[start : start + limit + 1] if name.startswith(prefix)]
        return [self.names[name] for name in found[:limit]], len(found) > limit
