"""What keeps a log small: the preamble of a new segment, and batches that move out of an old one.

The log is let grow to twice what is alive in it, and some; beyond that, what is alive in the oldest segment is written
again, a little with every commit, until that segment can be forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry_broker.core.batch import DEAD, DELAYED
from wherry_broker.core.records import Preamble, Rehomed, Stage, Standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry_broker.core.batch import Batch
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.state import State

REHOME_BYTES = 1_048_576
"""How much is written again with one commit."""
LOOK_BATCHES = 2_048
"""How many batches are looked at for that."""


def preamble(state: State) -> Preamble:
    """The standing facts, as they are now."""
    queues = state.queues

    def is_logged(number: int) -> bool:
        return number not in queues or queues[number].is_logged

    standing = tuple(_standing(queue) for queue in queues.values() if not queue.is_temporary)
    known = tuple(state.producers.standing(is_logged))
    kept = tuple(state.schedules.standing())
    gates = tuple(state.gates.standing(queues))
    return Preamble(state.epoch, state.next_number, state.next_first, standing, known, kept, gates)


def _standing(queue: Queue) -> Standing:
    keys = tuple((key, first, until_ms) for key, (first, until_ms) in queue.dedupe.items())
    asked = None if queue.asked is None else tuple(sorted(queue.asked))
    return Standing(queue.number, queue.name, queue.options.as_changes(), queue.next_offset, keys, asked)


class Mover:
    """Finds what is alive in the oldest segment, a little at a time.

    It walks through all queues by offset, and remembers only where it is, so that everything may change between two
    steps. A walk begins anew for each segment that is the oldest.
    """

    def __init__(self) -> None:
        self._segment = 0
        self._queues: list[int] = []
        self._offset = 0

    def step(self, state: State) -> list[Rehomed]:
        """The next batches that should be written again; none when the oldest segment holds none that was not found."""
        oldest = state.homes.oldest
        if oldest != self._segment:
            self._segment, self._queues, self._offset = oldest, list(state.queues), 0
        limit = state.homes.moving_bytes
        moved: list[Rehomed] = []
        size = looked = 0
        while self._queues and size < REHOME_BYTES and looked < LOOK_BATCHES:
            queue = state.queues.get(self._queues[-1])
            for batch in self._walk(queue, LOOK_BATCHES - looked) if queue is not None else ():
                looked += 1
                if batch.home == oldest and limit is not None and size + batch.block.size > limit:
                    return moved  # nothing may fill the disk, and least of all what is to empty it
                self._offset = batch.end
                if batch.home == oldest:
                    moved.append(rehomed(batch))
                    size += batch.block.size
                    if size >= REHOME_BYTES:
                        return moved
            if looked < LOOK_BATCHES:
                self._queues.pop()
                self._offset = 0
        return moved

    def _walk(self, queue: Queue, limit: int) -> Iterator[Batch]:
        for count, batch in enumerate(queue.batches_since(self._offset)):
            if count == limit:
                return
            yield batch


def rehomed(batch: Batch) -> Rehomed:
    """What is left of a batch, to be written again."""
    stages = tuple(
        Stage(
            span.low,
            span.high,
            span.attempt,
            span.released,
            span.due_ms if span.state == DELAYED else 0,
            span.state == DEAD,
            span.failure,
        )
        for span in batch.spans
    )
    return Rehomed(batch.queue.number, batch.first, batch.envelope, stages, batch.block)
