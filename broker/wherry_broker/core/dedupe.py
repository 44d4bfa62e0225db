"""Dedupe keys: under which of them a batch was stored lately, so that a retry is not stored again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class DedupeKeys(dict[str, tuple[int, int]]):
    """Each remembered key, with the first offset of its batch and when it is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self._order: deque[tuple[int, str]] = deque()

    def remember(self, key: str, first: int, now_ms: int, window_ms: int) -> None:
        """Remembers a key for `window_ms`, and forgets those whose window has passed."""
        order = self._order
        while order and order[0][0] <= now_ms:
            until_ms, old = order.popleft()
            if self.get(old, (0, 0))[1] == until_ms:
                del self[old]
        if window_ms > 0:
            self.restate(key, first, now_ms + window_ms)

    def restate(self, key: str, first: int, until_ms: int) -> None:
        """Remembers a key until then."""
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

    def _change(self, until: Callable[[int], int]) -> None:
        changed = sorted((until(until_ms), key, first) for key, (first, until_ms) in self.items())
        self.clear()
        self._order.clear()
        for until_ms, key, first in changed:
            self.restate(key, first, until_ms)
