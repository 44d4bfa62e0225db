"""A block: the bytes of a batch's messages, back to back, as they came off the wire.

Never looked into, never altered. A block from which messages were left out has the length 0 in their places.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


LENGTH_BYTES = 4


def shortened(lengths: bytes) -> bytes:
    """Lengths, a big-endian u32 each; the one that all have, if they are all the same."""
    each = lengths[:LENGTH_BYTES]
    return each if lengths == each * (len(lengths) // LENGTH_BYTES) else lengths


def is_sound(lengths: bytes, data: bytes) -> bool:
    """Whether lengths, a big-endian u32 each, add up to the data."""
    if len(lengths) == LENGTH_BYTES:
        return int.from_bytes(lengths, "big") == len(data)
    kept, count = shortened(lengths), len(lengths) // LENGTH_BYTES
    if len(kept) == LENGTH_BYTES:
        return int.from_bytes(kept, "big") * count == len(data)
    total: int = sum(struct.unpack(f">{count}I", lengths))
    return total == len(data)


class Shared:
    """Bytes that several blocks share; `holders` is how many of them are in a queue, and have the bytes in memory."""

    __slots__ = ("holders",)

    def __init__(self) -> None:
        self.holders = 0


class Block:
    """The messages of one batch.

    Args:
        lengths: the length of each message, a big-endian u32 each.
        data: the messages, back to back; None while only a log holds them.
        size: the bytes of all messages, when `data` is None.

    Attributes:
        place: where a log holds the data, as (segment, offset in bytes); None while none does.
        checksum: the log's checksum of the data; 0 when it is not known.
        shared: what it shares its bytes by with its twins; None when it has none.
    """

    __slots__ = ("_ends", "_lengths", "checksum", "count", "data", "place", "shared", "size")

    def __init__(self, lengths: bytes, data: bytes | None, size: int = 0) -> None:
        self._lengths = shortened(lengths)  # in a backlog of short messages, all of them would be 4% of it
        self.data = data
        self.count = len(lengths) // LENGTH_BYTES
        self.size = size if data is None else len(data)
        self.place: tuple[int, int] | None = None
        self.checksum = 0
        self.shared: Shared | None = None
        self._ends: array[int] | None = None

    @property
    def lengths(self) -> bytes:
        """The length of each message, a big-endian u32 each."""
        lengths = self._lengths
        return lengths if len(lengths) != LENGTH_BYTES else lengths * self.count

    @property
    def ends(self) -> array[int]:
        """Where each message ends in the data; made when first asked for, since most batches are never split."""
        if self._ends is None:
            self._ends = array("Q", accumulate(struct.unpack(f">{self.count}I", self.lengths)))
        return self._ends

    def twin(self, shared: Shared) -> Block:
        """A block of the same messages for a queue, with the same bytes, which may be paged or moved by itself.

        Args:
            shared: what all these twins share their bytes by; this block itself is in no queue.
        """
        other = Block(self.lengths, self.data, self.size)
        other.place, other.checksum, other.shared = self.place, self.checksum, shared
        return other

    def bytes_between(self, low: int, high: int) -> int:
        """How many bytes the messages [low, high) have."""
        if high - low == self.count:
            return self.size
        ends = self.ends
        return ends[high - 1] - (ends[low - 1] if low else 0)

    def cut(self, low: int, high: int) -> tuple[bytes, bytes]:
        """The lengths and the data of the messages [low, high); the data must be there."""
        assert self.data is not None
        if high - low == self.count:
            return self.lengths, self.data
        ends = self.ends
        return self.lengths[4 * low : 4 * high], self.data[ends[low - 1] if low else 0 : ends[high - 1]]

    def part(self, low: int, high: int) -> Block:
        """The messages [low, high) as a block of their own."""
        return Block(*self.cut(low, high))

    def keeping(self, ranges: Iterable[tuple[int, int]]) -> Block:
        """A block of as many messages that has the bytes of those in the ranges [low, high) only; they come in order.

        No log holds it yet.
        """
        lengths, datas, end = [], [], 0
        for low, high in ranges:
            of_lengths, data = self.cut(low, high)
            lengths += [bytes(4 * (low - end)), of_lengths]
            datas.append(data)
            end = high
        lengths.append(bytes(4 * (self.count - end)))
        return Block(b"".join(lengths), b"".join(datas))

    def fitting(self, low: int, high: int, room_bytes: int) -> int:
        """How many of the messages [low, high) fit into `room_bytes`, counted from `low`."""
        ends = self.ends
        base = ends[low - 1] if low else 0
        return bisect_right(ends, base + room_bytes, low, high) - low

    def covering(self, low: int, high: int, size: int) -> int:
        """How few of the messages [low, high), counted from `low`, have `size` bytes; too many if not even all do."""
        ends = self.ends
        base = ends[low - 1] if low else 0
        return bisect_left(ends, base + size, low, high) - low + 1
