"""The leases of one consumer: which of them to extend now, and which are over. Pure: time is an argument.

The laws:

1. A message in the user's hands is extended until it has been there for `longest`; then its lease ends where that time
   does. A lease is never made shorter than it was given.
2. A message that waits to be taken is extended as well, since it is no fault of its own that the user is slow. When it
   has waited for `longest`, or may not be extended at all, it is handed back before its lease ends: unspent.
3. A lease is extended once a third of it is left, and takes along those whose turn would be soon, so that one frame
   holds many. What is settled before that has cost nothing here.
4. A lease whose end has passed is lost: nothing can be done for it, and its messages are told so.

Messages are taken in the order in which they came, so what is taken and what is not is one number, `waiting`: how many
messages had come before the first that waits. When a message was taken is known from the last look at which it still
waited; so it may be held up to a lease less than `longest`, and never more.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from wherry.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wherry.delivery import Lease, Part

LEFT = 1 / 3
"""How much of a lease is left when it is extended."""
SOON = 1 / 8
"""How much of a lease earlier than that it may be, to go along with others."""
LEAST_S = 0.01
"""By how much a lease is extended at least; the broker gives none that is shorter."""


class Extension(NamedTuple):
    """Messages of one delivery to extend, next to each other, and when their leases would end without it."""

    delivery: Delivery
    low: int
    high: int
    duration_ms: int
    deadline: float


class Due(NamedTuple):
    """What to do now.

    Attributes:
        extend: what to extend, in an order in which neighbours go together.
        hand_back: messages that nobody has taken, to be released: (delivery, low, high).
        lost: how many messages were lost.
    """

    extend: list[Extension]
    hand_back: list[tuple[Delivery, int, int]]
    lost: int


class Leases:
    """The leases that run.

    Args:
        longest: how long a message may be held in the user's hands, in seconds; 0 to extend none.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._open: dict[Delivery, None] = {}  # in the order in which they came
        self._taken: list[int] = []  # how many messages were taken at a look, in rising order
        self._seen: list[float] = []  # for each of these, when its last message was still seen to wait
        self._looked_at = -inf
        self._position = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, deliveries: Iterable[Delivery], lease: Lease) -> float:
        """Deliveries came; returns when to look at them."""
        deadline = lease.since + lease.seconds
        look_at = deadline - LEFT * lease.seconds
        for delivery in deliveries:
            delivery.lease, delivery.deadline, delivery.look_at = lease, deadline, look_at
            delivery.position = self._position
            self._position += delivery.count
            self._open[delivery] = None
        return look_at

    def held(self) -> Iterator[tuple[Delivery, int, int]]:
        """All that is held: (delivery, low, high)."""
        for delivery in self._open:
            for low, high in delivery.held():
                yield delivery, low, high

    def let_go(self, delivery: Delivery, low: int, high: int) -> int:
        """Messages are settled; returns how many of them were held until now."""
        count = delivery.let_go(low, high)
        if not delivery.open:
            self._open.pop(delivery, None)
        return count

    def cancel(self, ranges: Sequence[tuple[int, int, int]]) -> int:
        """Messages were cancelled: (first offset, count, attempt) of each range; returns how many of them were held."""
        total = 0
        for first, count, attempt in ranges:
            for delivery in list(self._open):
                low, high = max(first, delivery.first), min(first + count, delivery.first + delivery.count)
                if delivery.attempt == attempt and low < high:
                    delivery.cancelled += ((low, high),)
                    total += self.let_go(delivery, low, high)
        return total

    def lose(self, delivery: Delivery, low: int, high: int) -> int:
        """Leases are over; those of messages that are held are lost. Returns how many these were."""
        for held_low, held_high in list(delivery.held()):
            if max(low, held_low) < min(high, held_high):
                delivery.lost += ((max(low, held_low), min(high, held_high)),)
        return self.let_go(delivery, low, high)

    def move(self, delivery: Delivery, low: int, high: int, deadline: float) -> float:
        """The leases of [low, high) end at `deadline` now; returns when to look at them."""
        whole = (delivery.first, delivery.first + delivery.count, delivery.deadline)
        parts = list(_without(delivery.parts or [whole], low, high))
        delivery.parts = sorted([*parts, (low, high, deadline)])
        look_at = deadline - LEFT * delivery.lease.seconds
        delivery.look_at = look_at if len(delivery.parts) == 1 else min(delivery.look_at, look_at)
        return delivery.look_at

    def next_look(self) -> float | None:
        """When to look again; None when no lease runs."""
        return min((delivery.look_at for delivery in self._open), default=None)

    def look(self, now: float, waiting: int | None, *, can_extend: bool) -> Due:
        """What is to be done at `now`.

        Args:
            now: the time.
            waiting: how many messages had come before the first that nobody has taken; None when all are taken.
            can_extend: whether the broker can be asked for anything.
        """
        taken = self._position if waiting is None else waiting
        if taken > (self._taken[-1] if self._taken else 0):
            self._taken.append(taken)
            self._seen.append(self._looked_at)
        self._looked_at = now
        extend: list[Extension] = []
        hand_back: list[tuple[Delivery, int, int]] = []
        lost = 0
        for delivery in list(self._open):
            if delivery.look_at <= now + SOON * delivery.lease.seconds:
                lost += self._lose_over(delivery, now)
                if can_extend:
                    self._extend(delivery, now, extend, hand_back)
                else:
                    delivery.look_at = now + SOON * delivery.lease.seconds
        self._forget_looks()
        extend.sort(key=lambda each: (each.duration_ms, each.delivery.attempt, each.low))
        return Due(extend, hand_back, lost)

    def _lose_over(self, delivery: Delivery, now: float) -> int:
        over = [(low, high) for low, high, deadline in delivery.held_parts() if deadline <= now]
        return sum(self.lose(delivery, low, high) for low, high in over)

    def _extend(
        self, delivery: Delivery, now: float, extend: list[Extension], hand_back: list[tuple[Delivery, int, int]]
    ) -> None:
        """Finds what to extend of a delivery, and when to look at it again."""
        seconds = delivery.lease.seconds
        parts: list[Part] = []
        look_at = inf
        for low, high, deadline, since in self._pieces(delivery):
            end = (delivery.lease.since if since is None else since) + self._longest
            new = min(now + seconds, end) if deadline - now <= seconds / 2 else deadline
            if since is None and new < deadline + LEAST_S and deadline - now <= seconds / 2:
                hand_back.append((delivery, low, high))
                continue
            if new < deadline + LEAST_S:
                new = deadline
            else:
                extend.append(Extension(delivery, low, high, round((new - now) * 1000), deadline))
            goes_on = since is None or end >= new + LEAST_S
            look_at = min(look_at, new - LEFT * seconds if goes_on else new)
            parts.append((low, high, new))
        deadlines = {deadline for _, _, deadline in parts}
        if len(deadlines) == 1:
            delivery.parts, delivery.deadline = None, deadlines.pop()
        elif deadlines:
            delivery.parts = parts
        delivery.look_at = look_at

    def _pieces(self, delivery: Delivery) -> Iterator[tuple[int, int, float, float | None]]:
        """What is held of a delivery, with the end of its lease, and since when it is taken; None while it is not."""
        shift = delivery.position - delivery.first
        for low, high, deadline in delivery.held_parts():
            mark = bisect_right(self._taken, low + shift)
            stop = bisect_left(self._taken, high + shift, mark)
            cuts = [low, *(taken - shift for taken in self._taken[mark:stop]), high]
            for piece_low, piece_high in pairwise(cuts):
                since = max(delivery.lease.since, self._seen[mark]) if mark < len(self._seen) else None
                yield piece_low, piece_high, deadline, since
                mark += 1

    def _forget_looks(self) -> None:
        """Forgets looks at which nothing was taken that is still held; not the last one."""
        oldest = next(iter(self._open), None)
        stop = bisect_right(self._taken, self._position if oldest is None else oldest.position)
        stop = min(stop, len(self._taken) - 1)
        if stop > 0:
            del self._taken[:stop], self._seen[:stop]


def _without(parts: Iterable[Part], low: int, high: int) -> Iterator[Part]:
    """The parts, but for [low, high)."""
    for part_low, part_high, deadline in parts:
        if part_low < min(low, part_high):
            yield part_low, min(low, part_high), deadline
        if max(high, part_low) < part_high:
            yield max(high, part_low), part_high, deadline
