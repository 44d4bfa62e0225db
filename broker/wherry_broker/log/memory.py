"""A log that keeps nothing: a confirm means that the message is held in memory, and a restart begins empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wherry_broker.core.block import Block
    from wherry_broker.core.ledger import Commit
    from wherry_broker.core.records import Preamble, Record
    from wherry_broker.log.interface import Committed, Fetched, Pieced, Pinned


class MemoryLog:
    """The log of the durability level `memory`."""

    level = "memory"
    segment = 0
    oldest = 0
    size_bytes = 0
    slack_bytes = 0
    reserve_bytes = 0
    is_segment_long = False

    def replay(self, keeps_blocks: Callable[[], bool]) -> Iterator[tuple[Record, int]]:  # noqa: ARG002
        """Nothing."""
        return iter(())

    def start(self, preamble: Preamble, owed_bytes: int = 0) -> None:
        """Nothing to do."""

    def commit(self, commit: Commit, done: Committed) -> None:  # noqa: ARG002 (nothing is kept)
        """Done at once."""
        done(())

    def fetch(self, blocks: Sequence[Block], done: Fetched) -> None:  # noqa: ARG002
        """Never called: no block has a place here."""
        raise AssertionError(f"{len(blocks)} blocks are asked for of a log that keeps none")

    def pin(self, done: Pinned) -> None:  # noqa: ARG002
        """Never called: there are no segments here."""
        raise AssertionError("a log without segments cannot be pinned")

    def unpin(self) -> None:
        """Never called: nothing is pinned."""
        raise AssertionError("a log without segments cannot be pinned")

    def read(self, segment: int, offset: int, size: int, done: Pieced) -> None:  # noqa: ARG002
        """Never called: there are no segments here."""
        raise AssertionError(f"segment {segment} is asked for of a log that has none")

    def room_bytes(self) -> int | None:
        """No limit."""
        return None

    def close(self) -> None:
        """Nothing to do."""
