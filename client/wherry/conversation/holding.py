"""What a consumer holds: messages that nobody has taken yet, leases that run, and the credit of both. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wherry.delivery import BaseMessage, bodies
from wherry.model.commands import Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry.conversation import Conversation, Delivered
    from wherry.delivery import Delivery

M = TypeVar("M", bound=BaseMessage)


class Holding(Generic[M]):
    """What one consumer has been delivered.

    Times are arguments: `now` in seconds of the shell's monotonic clock, `now_ms` in milliseconds since 1970.

    Args:
        conversation: with the broker.
        queue: the queue's name.
        credit: how many messages may be here, or in the user's hands, at a time.
        lease_ms: how long a lease is to run; 0 for the queue's own.
        make: makes a message out of its delivery, offset, body, packed headers, and this.

    Attributes:
        number: the consumer's number while the broker delivers, else 0.
        buffer: the messages that nobody has taken.
    """

    def __init__(
        self,
        conversation: Conversation,
        queue: str,
        credit: int,
        lease_ms: int,
        make: Callable[[Delivery, int, bytes, bytes, Any], M],
    ) -> None:
        self.queue = queue
        self.number = 0
        self.buffer: deque[M] = deque()
        self._conversation = conversation
        self._credit = credit
        self._lease_ms = lease_ms
        self._make = make
        self._leases: dict[Delivery, None] = {}  # those that are open, the one that ends first first
        self._leased_ms = 0

    @property
    def attached(self) -> bool:
        """Whether the broker delivers."""
        return self.number > 0

    def consume(self, waiter: Any, deadline: float) -> None:
        """Asks for messages; the waiter is told when the broker delivers."""
        self.number = self._conversation.consume(self.queue, self._credit, self._lease_ms, waiter, deadline)

    def forget(self) -> None:
        """No more will come."""
        if self.number:
            self._conversation.forget(self.number)
            self.number = 0

    def hold(self, delivered: Delivered, now: float, now_ms: int) -> float:
        """Messages came; returns when their leases end."""
        buffer, make = self.buffer, self._make
        deadline, deadline_ms = now + delivered.lease_ms / 1000, now_ms + delivered.lease_ms
        self._leased_ms = delivered.lease_ms
        messages = bodies(delivered.lengths, delivered.block)
        for delivery in delivered.deliveries:
            delivery.deadline, delivery.deadline_ms = deadline, deadline_ms
            self._leases[delivery] = None
            offsets = range(delivery.first, delivery.first + delivery.count)
            buffer.extend(make(delivery, at, *next_one, self) for at, next_one in zip(offsets, messages, strict=False))
        return deadline

    def drop_cancelled(self, ranges: Sequence[tuple[int, int, int]]) -> None:
        """Gives the credit of cancelled messages back, and drops those that nobody has taken."""
        for first, count, attempt in ranges:
            for delivery in list(self._leases):
                low, high = max(first, delivery.first), min(first + count, delivery.first + delivery.count)
                if delivery.attempt == attempt and low < high:
                    delivery.cancelled += ((low, high),)
                    self._finish(delivery, high - low)
        kept = [message for message in self.buffer if not message.cancelled]
        self.buffer.clear()
        self.buffer.extend(kept)

    def expire(self, now: float) -> float | None:
        """Gives the credit of messages back whose lease has run out unsettled: another consumer may have them.

        Returns:
            When the next lease runs out; None when none runs.
        """
        over = []
        for delivery in self._leases:
            if delivery.deadline > now:
                break
            over.append(delivery)
        for delivery in over:
            self._finish(delivery, delivery.open)
        return next(iter(self._leases)).deadline if self._leases else None

    def settle_range(
        self,
        delivery: Delivery,
        verb: Verb,
        first: int,
        count: int,
        waiter: Any,
        deadline: float,
        duration_ms: int | None = None,
        text: str = "",
    ) -> None:
        """Settles messages of one delivery, next to each other."""
        self._conversation.settle(delivery, verb, first, count, waiter, deadline, duration_ms, text)
        self._finish(delivery, count)

    def prolong(
        self, message: BaseMessage, duration_ms: int | None, waiter: Any, now: float, now_ms: int, deadline: float
    ) -> None:
        """Moves the deadline of one message's lease; to as long as it was at first when no duration is given."""
        duration_ms = self._leased_ms if duration_ms is None else duration_ms
        delivery = message.delivery
        self._conversation.settle(delivery, Verb.EXTEND, message.offset, 1, waiter, deadline, duration_ms)
        # The others of its delivery run out sooner; what is late here is only their credit.
        delivery.deadline = max(delivery.deadline, now + duration_ms / 1000)
        delivery.deadline_ms = max(delivery.deadline_ms, now_ms + duration_ms)
        if delivery in self._leases:
            self._leases[delivery] = self._leases.pop(delivery)  # to the end, where those stand that end last

    def finished(self, message: BaseMessage) -> None:
        """A message was settled by other means than `settle_range`: its credit is back."""
        self._finish(message.delivery, 1)

    def _finish(self, delivery: Delivery, count: int) -> None:
        if delivery.open > 0:  # else its lease had run out, and its credit was given back then
            count = min(count, delivery.open)
            delivery.open -= count
            if not delivery.open:
                del self._leases[delivery]
            self._conversation.finish(self.number, count)
