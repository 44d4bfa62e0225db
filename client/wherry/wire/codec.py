"""Messages to frames and back: the opcode table, and headers as positional msgpack arrays. protocol.md, sections 3, 4.

The table is made from the classes of `wherry.model`; a field's annotation is its check. Missing trailing fields take
their default, further ones are ignored: this is how either end may be newer than the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import msgpack

from wherry.model import commands, replies
from wherry.model.fields import HEADER_BYTES_MAX, ROWS_MAX, Malformed, OutOfRange, Spec, shown
from wherry.wire.framing import Frame, frame_head

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 1
"""The protocol version that this codec speaks."""
JOIN_BYTES_MAX = 16_384
"""A block up to this long is joined to its frame's head: copying it is cheaper than one more buffer to write."""
SHORT_HEADER_BYTES = 64
"""What a header up to this long claims without having it is too little to matter."""

OPCODES: dict[int, type[Any]] = {
    0x01: commands.Hello,
    0x02: commands.Ping,
    0x03: replies.Pong,
    0x04: commands.Goodbye,
    0x10: commands.Publish,
    0x11: commands.Settle,
    0x12: commands.Commit,
    0x13: commands.PublishTopic,
    0x17: commands.ReadGate,
    0x20: commands.Consume,
    0x21: commands.Credit,
    0x22: commands.Stop,
    0x30: commands.Declare,
    0x31: commands.Info,
    0x32: commands.ListQueues,
    0x33: commands.Purge,
    0x34: commands.Delete,
    0x35: commands.Pause,
    0x37: commands.Alter,
    0x3A: commands.Cancel,
    0x3B: commands.Redrive,
    0x36: commands.Peek,
    0x40: commands.Backup,
    0x41: commands.ReadBackup,
    0x50: commands.Put,
    0x51: commands.Fetch,
    0x52: commands.Unset,
    0x53: commands.Increment,
    0x54: commands.Expire,
    0x55: commands.Watch,
    0x60: commands.Status,
    0x61: commands.ReadResults,
    0x62: commands.Await,
    0x70: commands.Schedule,
    0x71: commands.Unschedule,
    0x72: commands.ListSchedules,
    0x73: commands.RunSchedule,
    0x74: commands.PauseSchedule,
    0x81: replies.Welcome,
    0x90: replies.Confirm,
    0x91: replies.Settled,
    0x92: replies.Done,
    0x93: replies.QueueInfo,
    0x94: replies.Queues,
    0x95: replies.Peeked,
    0x96: replies.Snapshot,
    0x97: replies.Piece,
    0x98: replies.Committed,
    0x99: replies.Routed,
    0x9A: replies.Values,
    0x9B: replies.Counted,
    0x9C: replies.Told,
    0x9D: replies.Schedules,
    0x9E: replies.Gate,
    0x9F: replies.Results,
    0xA0: replies.Deliver,
    0xA1: replies.Stopped,
    0xA2: replies.Cancelled,
    0xA3: replies.Returned,
    0xE0: replies.Error,
}


class BadFrame(Exception):
    """The frame cannot be understood; its connection is to be closed."""


class BadValue(Exception):
    """A field of a well-formed request is over its limit; the request is to be refused.

    Attributes:
        request: the number of the request, 0 for a message that has none.
    """

    def __init__(self, text: str, request: int) -> None:
        super().__init__(text)
        self.request = request


_NEVER = object()


class Layout(NamedTuple):
    """How one message type lies on the wire.

    Attributes:
        defaults: of the fields that may be missing.
        sound: for each field a value that needs no check: its default, or what no field ever is.
    """

    opcode: int
    cls: type[Any]
    fields: tuple[str, ...]
    specs: tuple[Spec, ...]
    defaults: tuple[Any, ...]
    sound: tuple[Any, ...]
    required: int
    has_block: bool


def _layout(opcode: int, cls: type[Any]) -> Layout:
    hints = get_type_hints(cls, include_extras=True)
    names: tuple[str, ...] = cls._fields
    has_block = names[-1] == "block"
    fields = names[:-1] if has_block else names
    defaults: dict[str, Any] = cls._field_defaults
    specs = tuple(next(m for m in hints[name].__metadata__ if isinstance(m, Spec)) for name in fields)
    required = sum(name not in defaults for name in fields)
    trailing = tuple(defaults[name] for name in fields[required:])
    return Layout(opcode, cls, fields, specs, trailing, (_NEVER,) * required + trailing, required, has_block)


LAYOUTS: dict[int, Layout] = {opcode: _layout(opcode, cls) for opcode, cls in OPCODES.items()}
_BY_CLASS: dict[type[Any], Layout] = {layout.cls: layout for layout in LAYOUTS.values()}
_new: Callable[[type[Any], tuple[Any, ...]], Any] = tuple.__new__
"""What `_make` does, for a tuple whose length is known to be right."""
_pack: Callable[[Any], bytes] = msgpack.Packer(autoreset=True).pack


def encode(message: Any, block: bytes | None = None) -> bytes:
    """One message as the bytes of its frame, block included.

    Args:
        message: an instance of one of the message types.
        block: the block to send, instead of the message's own.
    """
    layout = _BY_CLASS[type(message)]
    if not layout.has_block:
        return frame_head(layout.opcode, _pack(message), 0)
    payload = message.block if block is None else block
    return frame_head(layout.opcode, _pack(message[:-1]), len(payload)) + payload


def encode_pieces(message: Any, block: bytes) -> tuple[bytes, ...]:
    """The bytes of a message's frame with another block than its own: in one piece, or two if the block is long."""
    head = encode_head(message, len(block))
    return (head + block,) if len(block) <= JOIN_BYTES_MAX else (head, block)


def encode_head(message: Any, block_bytes: int) -> bytes:
    """The bytes of a message's frame up to its block, which the caller sends next.

    Args:
        message: an instance of a message type that has a block; its own block is not looked at.
        block_bytes: the length of the block, in bytes.
    """
    return frame_head(_BY_CLASS[type(message)].opcode, _pack(message[:-1]), block_bytes)


def unpack_header(header: bytes) -> tuple[Any, ...]:
    """A header's fields.

    Raises:
        BadFrame: it is longer than HEADER_BYTES_MAX, or not one msgpack array within the limits of protocol.md.
    """
    if len(header) > HEADER_BYTES_MAX:
        raise BadFrame(f"a header of {len(header)} bytes is over the limit of {HEADER_BYTES_MAX} bytes")
    try:
        if len(header) > SHORT_HEADER_BYTES:
            _walk(header)
        fields = msgpack.unpackb(
            header, use_list=False, strict_map_key=True, max_map_len=64, max_array_len=ROWS_MAX, max_ext_len=0
        )
    except (ValueError, msgpack.UnpackException, RecursionError, OverflowError) as error:
        raise BadFrame(f"the header is not msgpack within the limits: {str(error) or type(error).__name__}") from error
    if type(fields) is not tuple:
        raise BadFrame(f"the header is not an array but {shown(fields)}")
    return fields


def _walk(header: bytes) -> None:
    """Reads through a header without making anything of it; raises what unpackb would raise if it is cut off.

    unpackb makes an array as long as it claims to be: a thousand nested ones of 5,000 elements, in 3,000 bytes, would
    take 40 MB and 50 ms before it is seen that the elements are missing.
    """
    walker = msgpack.Unpacker(max_buffer_size=len(header))
    walker.feed(header)
    walker.skip()


def decode(frame: Frame) -> Any:
    """The message of a frame.

    Returns:
        An instance of the message type of the frame's opcode.

    Raises:
        BadFrame: the opcode is unknown, or the header malformed.
        BadValue: a field is over its limit.
    """
    layout = LAYOUTS.get(frame.opcode)
    if layout is None:
        raise BadFrame(f"opcode 0x{frame.opcode:02x} is unknown in version {VERSION}")
    if frame.block and not layout.has_block:
        raise BadFrame(f"{layout.cls.__name__.upper()} has no block, but {len(frame.block)} bytes of it came")
    fields = unpack_header(frame.header)
    given, known = len(fields), len(layout.fields)
    if given < layout.required:
        raise BadFrame(f"{layout.cls.__name__.upper()} has {given} fields of at least {layout.required}")
    if given > known:
        fields = fields[:known]
    _check(layout, fields)
    if given < known:
        fields += layout.defaults[given - layout.required :]
    if layout.has_block:
        fields += (frame.block,)
    return _new(layout.cls, fields)


def _check(layout: Layout, fields: tuple[Any, ...]) -> None:
    position = -1
    try:
        for value, spec, sound in zip(fields, layout.specs, layout.sound, strict=False):
            position += 1
            if value is sound:  # most fields of most messages: 0, "", False and None are one object each
                continue
            if type(value) is int and spec.low <= value <= spec.high:  # most of the others
                continue
            if type(value) not in spec.types:
                raise Malformed(f"{shown(value)} is not {spec.name}")
            spec.check(value)
    except Malformed as error:
        raise BadFrame(f"{_place(layout, position)}: {error}") from error
    except OutOfRange as error:
        request = fields[0] if layout.fields[0] == "request" and position else 0
        raise BadValue(f"{_place(layout, position)}: {error}", request) from error


def _place(layout: Layout, position: int) -> str:
    return f"{layout.cls.__name__.upper()} field {position} ({layout.fields[position]})"
