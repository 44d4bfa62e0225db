"""What every log does, and all that the broker knows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry_broker.core.block import Block
    from wherry_broker.core.ledger import Commit, Places
    from wherry_broker.core.records import Preamble, Record

Committed = Callable[["Places"], None]
"""What is called when a commit is durable, with where its blocks lie now."""
Fetched = Callable[[Sequence[bytes | None]], None]
"""What is called with the bytes of blocks, in the order in which they were asked for; None for one that has moved."""


Pinned = Callable[[Sequence[tuple[int, int]]], None]
"""What is called with the segments of a snapshot, and how long each is in it, in bytes."""
Pieced = Callable[[bytes], None]
"""What is called with bytes of a segment."""


class Log(Protocol):
    """A log of records.

    The order of calls: `replay` to its end, `start`, then `commit` and `fetch` at will, at last `close`. A failure of
    a write, a sync or a read is final: no call is answered any more, and the process ends (law 7 of the design).

    Attributes:
        level: the highest durability that a commit reaches, as the promise table names it.
        segment: the number of the segment that `start` will begin; 0 for a log that has none.
        oldest: the number of the oldest segment that matters, at the start.
        reserve_bytes: how much space it owns beyond what settles will need; cleaning may use half of that.
    """

    level: str
    segment: int
    oldest: int
    reserve_bytes: int

    @property
    def size_bytes(self) -> int:
        """How long the log is in all."""

    @property
    def is_segment_long(self) -> bool:
        """Whether the segment that is being written is long enough, and a new one should begin."""

    @property
    def slack_bytes(self) -> int:
        """How much longer than twice what is alive in it the log may be before it is cleaned."""

    def replay(self, keeps_blocks: Callable[[], bool]) -> Iterator[tuple[Record, int]]:
        """All records that were ever committed and still matter, in order, each with its segment.

        Args:
            keeps_blocks: asked for each entry whether the bytes of its blocks should come along.
        """

    def start(self, preamble: Preamble, owed_bytes: int = 0) -> None:
        """Begins a new segment, which opens with `preamble`. It is durable when this returns.

        Args:
            preamble: the standing facts.
            owed_bytes: what the settles of all that the log holds will need.
        """

    def commit(self, commit: Commit, done: Committed) -> None:
        """Makes a commit durable, all or nothing, and calls `done` in the caller's thread once it is.

        One commit is in flight at a time.
        """

    def fetch(self, blocks: Sequence[Block], done: Fetched) -> None:
        """Reads the bytes of blocks back, and calls `done` in the caller's thread with them."""

    def pin(self, done: Pinned) -> None:
        """Makes all that was committed durable, and calls `done` in the caller's thread with the segments that hold it.

        They can be read, as long as they are then, until `unpin`. Not for a log without segments.
        """

    def unpin(self) -> None:
        """Ends what `pin` began."""

    def read(self, segment: int, offset: int, size: int, done: Pieced) -> None:
        """Reads `size` bytes of a pinned segment from `offset` on; calls `done` in the caller's thread with them."""

    def room_bytes(self) -> int | None:
        """How many bytes it can take, settles included, before its reserve is touched; None when it sets no limit."""

    def close(self) -> None:
        """Makes everything durable and ends all work; no commit is in flight."""
