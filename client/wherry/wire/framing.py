"""Frames: how the byte stream is cut. protocol.md, section 2.

    u32 length | u8 opcode | u8 flags | u16 zero | u32 header_length | header | block

`length` counts what follows it. All numbers are big-endian. The reader checks a length as soon as its four bytes are
there, before it allocates or waits for anything; memory grows with what has arrived, never with what was claimed.

Goals of the reader: one copy of a block on its way in (out of the receive buffer), no cost for an idle connection
(the receive buffer is shared, only the start of an unfinished frame is a connection's own), and no exception: what is
wrong is remembered in `failure`, after the frames before it have been returned.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from wherry.model.fields import HEADER_BYTES_MAX

PREFIX = struct.Struct(">IBBHI")
PREFIX_BYTES = PREFIX.size
LENGTH_BYTES = 4
AFTER_LENGTH_BYTES = PREFIX_BYTES - LENGTH_BYTES
SCRATCH_BYTES = 1_048_576
"""The length of a receive buffer: a long frame that has come is read at once, and copied once."""
PARTIAL_BYTES = 65_536
"""An unfinished frame may take this much before half of it has come."""
FIRST_FRAME_BYTES_MAX = 4_096
"""The limit of a frame before HELLO has been accepted."""
FRAME_BYTES_MAX = 16 * 1024 * 1024
"""The default limit of a frame once HELLO has been accepted."""

_LENGTH = struct.Struct(">I")
_new = tuple.__new__
"""Makes a named tuple in half the time: there is one for each frame."""


class Frame(NamedTuple):
    """One frame, cut out of the stream; its header is not decoded yet."""

    opcode: int
    header: bytes
    block: bytes


def frame_head(opcode: int, header: bytes, block_bytes: int) -> bytes:
    """The bytes of a frame up to its block.

    Args:
        opcode: what the frame says.
        header: the packed header.
        block_bytes: the length of the block that the caller sends next, in bytes.
    """
    header_bytes = len(header)
    return PREFIX.pack(AFTER_LENGTH_BYTES + header_bytes + block_bytes, opcode, 0, 0, header_bytes) + header


class FrameReader:
    """Cuts received bytes into frames.

    Either `get_buffer` and then `received`, as an asyncio.BufferedProtocol does (with no other reader of the same
    scratch in between), or `feed`.

    Args:
        frame_bytes_max: the longest frame that is taken, its length field included, in bytes; may be raised later.
        scratch: a receive buffer to share with other readers of the same thread.

    Attributes:
        failure: why reading ended, or "" while the stream is sound. Nothing is read after a failure.
        size_exceeded: whether the failure is a length over the limit.
        reserved_bytes: how much memory is held for an unfinished frame.
    """

    __slots__ = ("_filled", "_partial", "_scratch", "failure", "frame_bytes_max", "reserved_bytes", "size_exceeded")

    def __init__(self, frame_bytes_max: int, scratch: memoryview | None = None) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.failure = ""
        self.size_exceeded = False
        self._scratch = memoryview(bytearray(SCRATCH_BYTES)) if scratch is None else scratch
        self._partial: bytearray | None = None
        self._filled = 0
        self.reserved_bytes = 0

    @property
    def buffered_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return self._filled

    def get_buffer(self) -> memoryview:
        """Where to put the next bytes."""
        if self._partial is None:
            return self._scratch
        return memoryview(self._partial)[self._filled :]

    def received(self, size: int) -> list[Frame]:
        """Takes note that `size` bytes were put into the buffer.

        Returns:
            The frames that are whole now, in order.
        """
        if self._partial is None:
            return self._cut(self._scratch[:size])
        self._filled += size
        view = memoryview(self._partial)[: self._filled]
        if self._filled < len(self._partial):  # its room never passes the end of the frame, so the frame is unfinished
            if self._filled >= LENGTH_BYTES:
                self._length_fits(_LENGTH.unpack_from(view)[0])
            return []
        self._partial, self._filled, self.reserved_bytes = None, 0, 0
        return self._cut(view)

    def feed(self, data: bytes) -> list[Frame]:
        """Takes any bytes at once; the same as copying them into the buffer piece by piece."""
        frames: list[Frame] = []
        view = memoryview(data)
        while view and not self.failure:
            buffer = self.get_buffer()
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            frames += self.received(size)
            view = view[size:]
        return frames

    def _cut(self, view: memoryview) -> list[Frame]:
        frames: list[Frame] = []
        position, end = 0, len(view)
        while not self.failure and end - position >= PREFIX_BYTES:
            length, opcode, flags, zero, header_bytes = PREFIX.unpack_from(view, position)
            fits = header_bytes + AFTER_LENGTH_BYTES <= length <= self.frame_bytes_max - LENGTH_BYTES
            if not fits or flags or zero or header_bytes > HEADER_BYTES_MAX:
                self._fail(length, flags, zero, header_bytes)
                return frames
            start = position + PREFIX_BYTES
            stop = position + LENGTH_BYTES + length
            if stop > end:
                break
            block = start + header_bytes
            frames.append(_new(Frame, (opcode, bytes(view[start:block]), bytes(view[block:stop]))))
            position = stop
        if position < end:
            self._keep(view[position:])
        return frames

    def _fail(self, length: int, flags: int, zero: int, header_bytes: int) -> None:
        """Says what is wrong with a prefix."""
        if not self._length_fits(length):
            return
        if flags or zero:
            self.failure = f"flags {flags} and reserved field {zero} must be 0 in this version"
        elif header_bytes > HEADER_BYTES_MAX:
            self.failure = f"a header of {header_bytes} bytes is over the limit of {HEADER_BYTES_MAX} bytes"
        else:
            self.failure = f"a header of {header_bytes} bytes does not fit a frame of {length} bytes"

    def _length_fits(self, length: int) -> bool:
        if length + LENGTH_BYTES > self.frame_bytes_max:
            self.size_exceeded = True
            self.failure = f"a frame of {length + LENGTH_BYTES} bytes is over the limit of {self.frame_bytes_max} bytes"
        elif length < AFTER_LENGTH_BYTES:
            self.failure = f"a frame's length of {length} is under the {AFTER_LENGTH_BYTES} bytes that every frame has"
        return not self.failure

    def _keep(self, rest: memoryview) -> None:
        """Holds the start of an unfinished frame in a buffer of its own, with room for what may come next."""
        if self.failure:
            return
        # No more than the prefix is waited for until all of it can be checked.
        filled, room = len(rest), PREFIX_BYTES
        if filled >= LENGTH_BYTES:
            (length,) = _LENGTH.unpack_from(rest)
            if not self._length_fits(length):
                return
            if filled >= PREFIX_BYTES:
                # At most double what has arrived: a claimed length alone allocates nothing.
                room = min(LENGTH_BYTES + length, max(2 * filled, PARTIAL_BYTES))
        self._partial = bytearray(room)
        self._partial[:filled] = rest
        self._filled, self.reserved_bytes = filled, room
