"""What a consumer holds: messages that nobody has taken yet, leases that run, and the credit of both. Pure.

What becomes of leases as time passes is decided by `Leases`, and asked of the broker here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wherry import errors
from wherry.conversation.arrivals import Arrivals
from wherry.conversation.leases import Leases
from wherry.delivery import BaseMessage, Lease
from wherry.model.commands import Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from wherry.conversation import Conversation, Delivered
    from wherry.conversation.leases import Extension
    from wherry.delivery import Delivery

MAX_LEASE_S = 3600.0
"""How long a message is held in a user's hands at most, when the user does not say it."""
M = TypeVar("M", bound=BaseMessage)


class Holding(Generic[M]):
    """What one consumer has been delivered.

    Times are arguments: `now` in seconds of the shell's monotonic clock, `now_ms` in milliseconds since 1970.

    Args:
        conversation: with the broker.
        queue: the queue's name.
        credit: how many messages may be here, or in the user's hands, at a time.
        lease_ms: how long a lease is to run; 0 for the queue's own.
        max_lease: how long a message may be held in the user's hands by extending its lease, in seconds.
        make: makes messages out of their delivery, offsets, bodies, packed headers, and this; see `Leased.many`.

    Attributes:
        number: the consumer's number; 0 before it has one.
        attached: whether the broker delivers.
        buffer: the messages that nobody has taken.
        leases: those that run.
    """

    def __init__(
        self,
        conversation: Conversation,
        queue: str,
        credit: int,
        lease_ms: int,
        max_lease: float,
        make: Callable[[Delivery, range, Iterator[bytes], Iterator[bytes], Any], list[M]],
    ) -> None:
        self.queue = queue
        self.number = 0
        self.attached = False
        self.buffer: Arrivals[M] = Arrivals(make)
        self.leases = Leases(max_lease)
        self._conversation = conversation
        self._credit = credit
        self._lease_ms = lease_ms

    def consume(self, waiter: Any, deadline: float) -> None:
        """Asks for messages; the waiter is told when the broker delivers."""
        self.number = self._conversation.consume(
            self.queue, self._credit, self._lease_ms, waiter, deadline, self.leases.held
        )
        self.attached = True

    def forget(self) -> None:
        """No more will come. What is held stays so."""
        if self.attached:
            self._conversation.forget(self.number)
            self.attached = False
            self._finish(0)

    def hold(self, delivered: Delivered, now: float, now_ms: int) -> float:
        """Messages came; returns when to look at their leases."""
        self.buffer.add(delivered, self)
        return self.leases.add(delivered.deliveries, Lease(delivered.lease_ms / 1000, now, now_ms / 1000 - now))

    def drop_cancelled(self, ranges: Sequence[tuple[int, int, int]]) -> None:
        """Gives the credit of cancelled messages back, and drops those that nobody has taken."""
        self._finish(self.leases.cancel(ranges))
        self._keep(lambda message: not message.cancelled)

    def lose(self, parts: Iterable[tuple[Delivery, int, int]]) -> None:
        """Messages are held no longer: another consumer may have them."""
        for part in parts:
            self._finish(self.leases.lose(*part))
        self._keep(lambda message: not message.lost)

    def expire(self, now: float, deadline: float | None) -> float | None:
        """Time has passed: extends leases, hands messages back, and gives the credit of those back that are lost.

        Args:
            now: the time.
            deadline: when to give up what is asked now; None when nothing can be asked.

        Returns:
            When to look at the leases again; None when none runs.
        """
        first = self.buffer.made[0] if self.buffer.make_some() else None
        waiting = None if first is None else first.delivery.position + first.offset - first.delivery.first
        due = self.leases.look(now, waiting, can_extend=deadline is not None)
        if due.lost:
            self._finish(due.lost)
            self._keep(lambda message: not message.lost)
        if deadline is not None:
            for delivery, low, high in due.hand_back:
                self.settle_range(delivery, Verb.RELEASE, low, high - low, None, deadline)
            if due.hand_back:
                self._keep(lambda message: message.delivery.holds(message.offset))
            for each in due.extend:
                count = each.high - each.low
                self._conversation.settle(
                    each.delivery, Verb.EXTEND, each.low, count, Renewal(self, each), deadline, each.duration_ms
                )
        return self.leases.next_look()

    def release_all(self, deadline: float) -> None:
        """Hands everything back, unspent: what waits here, and what is in the user's hands."""
        self.buffer.clear()
        for delivery, low, high in list(self.leases.held()):
            self._conversation.settle(delivery, Verb.RELEASE, low, high - low, None, deadline)
            self._finish(self.leases.lose(delivery, low, high))

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
        result: bytes | None = None,
    ) -> None:
        """Settles messages of one delivery, next to each other."""
        self._conversation.settle(delivery, verb, first, count, waiter, deadline, duration_ms, text, result)
        self._finish(self.leases.let_go(delivery, first, first + count))

    def prolong(
        self,
        message: BaseMessage,
        duration_ms: int | None,
        waiter: Any,
        now: float,
        deadline: float,
        progress: int | None = None,
        note: str = "",
    ) -> float:
        """Moves the end of one message's lease; to as long as it was at first when no duration is given.

        Returns:
            When to look at the leases again.
        """
        delivery, offset = message.delivery, message.offset
        duration_ms = round(delivery.lease.seconds * 1000) if duration_ms is None else duration_ms
        self._conversation.settle(
            delivery, Verb.EXTEND, offset, 1, waiter, deadline, duration_ms, note, progress=progress
        )
        return self.leases.move(delivery, offset, offset + 1, now + duration_ms / 1000)

    def finished(self, message: BaseMessage) -> None:
        """A message was settled by other means than `settle_range`: its credit is back."""
        self._finish(self.leases.let_go(message.delivery, message.offset, message.offset + 1))

    def renewed(self, extension: Extension, error: errors.WherryError | None) -> None:
        """The broker has answered an extension, or never will."""
        delivery, low, high = extension.delivery, extension.low, extension.high
        match error:
            case None:
                return
            case errors.StaleDelivery():
                over = [(first, first + count) for first, count in error.ranges]
            case errors.NotFound():  # its queue is gone, and so is all that it held
                over = [(low, high)]
            case _:  # it may not have taken effect: once there is a connection, the next look asks again
                self.leases.move(delivery, low, high, extension.deadline)
                return
        for each in over:
            self._finish(self.leases.lose(delivery, *each))
        self._keep(lambda message: not message.lost)

    def emptied(self) -> None:
        """Called when nothing is held, and nothing more will come."""

    def _finish(self, count: int) -> None:
        """Takes note that so many messages are held no longer."""
        if count:
            self._conversation.finish(self.number, count)
        if not self.attached and not self.leases:
            self.emptied()

    def _keep(self, wanted: Callable[[M], bool]) -> None:
        """Drops the messages that are not wanted, of those that nobody has taken."""
        self.buffer.made += [message for message in self.buffer.take_all() if wanted(message)]


class Renewal:
    """What waits for the answer to an extension."""

    __slots__ = ("_extension", "_holding")

    def __init__(self, holding: Holding[Any], extension: Extension) -> None:
        self._holding = holding
        self._extension = extension

    def resolve(self, error: errors.WherryError | None) -> None:
        """The answer is there."""
        self._holding.renewed(self._extension, error)
