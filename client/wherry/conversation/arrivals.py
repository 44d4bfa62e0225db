"""Messages that have come and that nobody has taken yet. Pure.

They are made when somebody is about to take them: until then they are the bytes of their frame. A consumer may have
thousands of them waiting, and what is made late lives short, so that the garbage collector of the user's process does
not go through it again and again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wherry.delivery import BaseMessage, columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wherry.conversation.events import Delivered
    from wherry.delivery import Delivery

M = TypeVar("M", bound=BaseMessage)


class Arrivals(Generic[M]):
    """The messages that came for a consumer, in order.

    Args:
        make: makes messages out of their delivery, offsets, bodies, packed headers, and their holder; see
            `Leased.many`.

    Attributes:
        made: the first of them, as messages. Who finds it empty asks `make_some`.
    """

    def __init__(self, make: Callable[[Delivery, range, Iterator[bytes], Iterator[bytes], Any], list[M]]) -> None:
        self.made: deque[M] = deque()
        self._make = make
        self._unmade: deque[tuple[Delivered, Any]] = deque()
        self._unmade_count = 0

    def __len__(self) -> int:
        return len(self.made) + self._unmade_count

    def add(self, delivered: Delivered, holder: Any) -> None:
        """More came, which `holder` is to settle."""
        self._unmade.append((delivered, holder))
        self._unmade_count += len(delivered.lengths) // 4

    def make_some(self, n: int = 1) -> bool:
        """Makes as many that `n` can be taken, if so many are here; returns whether one can be."""
        while len(self.made) < n and self._unmade:
            delivered, holder = self._unmade.popleft()
            self._unmade_count -= len(delivered.lengths) // 4
            bodies, packed = columns(delivered.lengths, delivered.block)
            for delivery in delivered.deliveries:
                offsets = range(delivery.first, delivery.first + delivery.count)
                self.made += self._make(delivery, offsets, bodies, packed, holder)
        return bool(self.made)

    def take(self, n: int) -> list[M]:
        """Takes up to `n` of them."""
        self.make_some(n)
        made = self.made
        if n >= len(made):
            taken = list(made)
            made.clear()
            return taken
        return [made.popleft() for _ in range(n)]

    def take_all(self) -> list[M]:
        """Takes all of them."""
        return self.take(len(self))

    def clear(self) -> None:
        """Drops all of them."""
        self.made.clear()
        self._unmade.clear()
        self._unmade_count = 0
