"""The consumers of a conversation: their credit, and how they are attached again on another connection. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from wherry.model import commands
from wherry.model.fields import BATCH_MESSAGES_MAX, ROWS_MAX
from wherry.model.names import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from wherry.delivery import Delivery
    from wherry.model.fields import Delivered, Range

Held = tuple["Delivery", int, int]
"""Messages that are held: their delivery, and their offsets [low, high)."""


def nothing_held() -> Iterable[Held]:
    """What a consumer holds that does not say it."""
    return ()


class Attach(NamedTuple):
    """A CONSUME that has no answer yet; the waiter is None when the consumer was attached before."""

    consumer: int
    waiter: Any


class Consumer:
    """One consumer.

    Args:
        queue: the queue's name.
        window: how many messages may be in the client's hands at a time.
        lease_ms: how long its leases run; 0 for the queue's own.
        held: tells what it holds.

    Attributes:
        granted: what the broker was told to deliver in all since it was attached.
        finished: how many messages are out of the client's hands since then; less than 0 while it holds older ones.
        stopping: whether it takes no more, and so is not attached again.
    """

    __slots__ = ("finished", "granted", "held", "lease_ms", "queue", "stopping", "window")

    def __init__(self, queue: str, window: int, lease_ms: int, held: Callable[[], Iterable[Held]]) -> None:
        self.queue = queue
        self.window = window
        self.lease_ms = lease_ms
        self.held = held
        self.granted = window
        self.finished = 0
        self.stopping = False

    def consume(self, request: int, number: int) -> commands.Consume:
        """What attaches it for the first time."""
        return commands.Consume(
            request, number, self.queue, self.window, self.lease_ms, temporary=self.queue.startswith(TEMPORARY_PREFIX)
        )

    def consume_again(self, request: int, number: int, epoch: int) -> commands.Consume:
        """What attaches it on another connection, with all that it holds of that epoch. Its credit begins anew."""
        held = list(self.held())
        self.finished = -sum(high - low for _, low, high in held)
        self.granted = max(0, self.finished + self.window)
        rows = _rows([part for part in held if part[0].epoch == epoch])
        command = self.consume(request, number)
        return command._replace(credit=self.granted, epoch=epoch, held=tuple(rows)[:ROWS_MAX])

    def over(self, epoch: int) -> list[Held]:
        """What it holds of other epochs, and so no longer."""
        return [part for part in self.held() if part[0].epoch != epoch]

    def among(self, stale: Sequence[Range]) -> list[Held]:
        """What it holds of these ranges."""
        held = list(self.held())
        return [
            (delivery, max(low, first), min(high, first + count))
            for delivery, low, high in held
            for first, count in stale
            if max(low, first) < min(high, first + count)
        ]


def _rows(held: Iterable[Held]) -> Iterator[Delivered]:
    total = 0
    for delivery, low, high in held:
        count = min(high - low, BATCH_MESSAGES_MAX - total)
        if not count:
            return
        yield low, count, delivery.attempt
        total += count
