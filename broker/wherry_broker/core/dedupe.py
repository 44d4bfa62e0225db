"""Dedupe keys: under which of them a batch was stored lately, so that a retry is not stored again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from wherry_broker.core.memory import DEDUPE_BYTES, text_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry_broker.core.memory import Memory


KEYS_MAX = 1_000_000
"""How many keys a queue remembers at a time: each new segment of the log begins with all of them."""


class DedupeKeys(dict[str, tuple[int, int]]):
    """Each remembered key, with the first offset of its batch and when it is forgotten.

    Args:
        memory: where it is told what they take.
    """

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory
        self._order: deque[tuple[int, str]] = deque()

    def remember(self, key: str, first: int, now_ms: int, window_ms: int) -> None:
        """Remembers a key for `window_ms`, and forgets those whose window has passed."""
        self.sweep(now_ms)
        if window_ms > 0:
            self.restate(key, first, now_ms + window_ms)

    def sweep(self, now_ms: int) -> None:
        """Forgets the keys whose window has passed."""
        order = self._order
        while order and order[0][0] <= now_ms:
            until_ms, old = order.popleft()
            if self.get(old, (0, 0))[1] == until_ms:
                del self[old]
                self._memory.free(DEDUPE_BYTES + text_bytes(old))

    def full_until_ms(self, now_ms: int, more: int = 0) -> int:
        """Until when there are too many keys for one more, beside `more` others; 0 for not at all."""
        if len(self) + more < KEYS_MAX or not self._order or self._order[0][0] <= now_ms:
            return 0
        return self._order[0][0]

    def restate(self, key: str, first: int, until_ms: int) -> None:
        """Remembers a key until then."""
        if key not in self:
            self._memory.take(DEDUPE_BYTES + text_bytes(key))
        self[key] = (first, until_ms)
        self._order.append((until_ms, key))

    def known(self, key: str, now_ms: int) -> int | None:
        """The first offset of the batch that was stored under a key, while it is remembered."""
        first, until_ms = self.get(key, (0, 0))
        return first if until_ms > now_ms else None

    def shorten(self, by_ms: int) -> None:
        """The window is shorter by `by_ms` now, for what is remembered too.

        So nothing is remembered for longer than the window that there is, and a restart need not know of another one.
        A longer window changes nothing of what is remembered: it would bring back what was forgotten and is not swept.
        """
        self._change(lambda until_ms: until_ms - by_ms)

    def limit(self, limit_ms: int) -> None:
        """Forgets all keys at that moment at the latest.

        A clock that was set back would make a key last longer, and what is published under it count as a duplicate.
        """
        self._change(lambda until_ms: min(until_ms, limit_ms))

    def forget(self) -> None:
        """Forgets all keys."""
        self._memory.free(sum(DEDUPE_BYTES + text_bytes(key) for key in self))
        self.clear()
        self._order.clear()

    def _change(self, until: Callable[[int], int]) -> None:
        changed = sorted((until(until_ms), key, first) for key, (first, until_ms) in self.items())
        self.forget()
        for until_ms, key, first in changed:
            self.restate(key, first, until_ms)
