"""Families: which messages were sent by which, so that a cancel reaches all that has come of one.

A publish may name its parent, a message that is in its queue and not dead: the job that sends it. The ids of its
ancestors go into its own envelope, so that nothing has to be remembered of a parent that has gone, and a log that has
forgotten the parent tells of its children still. A publish in the name of a parent that has ended is refused: who says
so works on something that was cancelled, or that others have done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.model.names import split_id
from wherry_broker.core.batch import DEAD
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry_broker.core.batch import Ancestor, Batch
    from wherry_broker.core.state import State

LINEAGE_MAX = 8
"""How many ancestors a message knows: the first one, and those that are nearest."""


class Families:
    """The batches that are left of what messages have sent."""

    def __init__(self) -> None:
        self._batches: dict[Ancestor, dict[Batch, None]] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, batch: Batch) -> None:
        """A batch has come that has ancestors."""
        for ancestor in batch.envelope.lineage:
            self._batches.setdefault(ancestor, {})[batch] = None

    def discard(self, batch: Batch) -> None:
        """Nothing is left of it."""
        for ancestor in batch.envelope.lineage:
            batches = self._batches[ancestor]
            del batches[batch]
            if not batches:
                del self._batches[ancestor]

    def descendants(self, queue: int, ranges: Iterable[tuple[int, int]]) -> list[Batch]:
        """What is left of all that was sent by messages of a queue, and by what these have sent, and so on.

        Args:
            queue: the number of the queue.
            ranges: their offsets, as (first, count); they may have gone.
        """
        known = self._batches
        found: dict[Batch, None] = {}
        for first, count in ranges if known else ():
            for offset in range(first, first + count):
                found.update(known.get((queue, offset), ()))
        return list(found)


def lineage_of(state: State, parent: str) -> tuple[Ancestor, ...]:
    """The ancestors of a message that another one sends, the farthest first.

    Args:
        state: all queues.
        parent: the id of the one that sends it.

    Raises:
        Refusal: invalid, it is no id; stale_delivery, it has ended.
    """
    try:
        name, offset = split_id(parent)
    except ValueError as error:
        raise Refusal("invalid", str(error)) from error
    queue = state.names.get(name)
    span = queue.span_at(offset) if queue is not None else None
    if queue is None or span is None or span.state == DEAD:
        text = f"{parent} has ended: nothing can be published as sent by it any more"
        raise Refusal("stale_delivery", text, queue=name)
    lineage = (*span.batch.envelope.lineage, (queue.number, offset))
    return lineage if len(lineage) <= LINEAGE_MAX else (lineage[0], *lineage[1 - LINEAGE_MAX :])
