"""What a message is made of: a msgpack map of headers, then the body. protocol.md, section 5.

The broker never looks inside; only clients do. A message without headers is one byte (an empty map) and its body.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgpack

from wherry.model.fields import NAME_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NO_HEADERS = b"\x80"
HEADERS_MAX = 64
HEADERS_BYTES_MAX = 65_536
"""How long all headers of a message may be together, packed."""
HeaderValue = str | int | float | bool | bytes | None
"""What a header may be."""
_VALUES = (str, int, float, bytes, type(None))


class SharedHeaders(Mapping[str, HeaderValue]):
    """Headers of many messages, whose bytes are made once. They cannot be changed.

    Args:
        headers: names to values.

    Attributes:
        packed: their bytes.

    Raises:
        ValueError, TypeError: as for `pack_headers`.
    """

    __slots__ = ("_headers", "packed")

    def __init__(self, headers: Mapping[str, HeaderValue]) -> None:
        self._headers = dict(headers)
        self.packed = pack_headers(self._headers)

    def __getitem__(self, name: str) -> HeaderValue:
        return self._headers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def pack_headers(headers: Mapping[str, HeaderValue] | None) -> bytes:
    """The bytes of a message's headers.

    Args:
        headers: names to values.

    Raises:
        ValueError: there are more than HEADERS_MAX headers, they are longer than HEADERS_BYTES_MAX together, a name is
            empty or has more than 255 bytes, or an int has more than 64 bits.
        TypeError: a name is not a str, or a value is of another type than headers have.
    """
    if type(headers) is SharedHeaders:
        return headers.packed
    if not headers:
        return NO_HEADERS
    if len(headers) > HEADERS_MAX:
        raise ValueError(f"{len(headers)} headers are over the limit of {HEADERS_MAX}")
    for name, value in headers.items():
        _check_header(name, value)
    try:
        packed: bytes = msgpack.packb(dict(headers))
    except OverflowError as error:
        raise ValueError("a header holds an int of more than 64 bits") from error
    if len(packed) > HEADERS_BYTES_MAX:
        raise ValueError(f"headers of {len(packed)} bytes are over the limit of {HEADERS_BYTES_MAX}")
    return packed


def _check_header(name: Any, value: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a header's name is a str, not {name!r}")
    if not 1 <= len(name.encode()) <= NAME_BYTES_MAX:
        raise ValueError(f"a header's name has 1 to {NAME_BYTES_MAX} bytes, which {name!r:.40} has not")
    if not isinstance(value, _VALUES):
        text = f"header {name!r} is of the type {type(value).__name__}"
        raise TypeError(f"{text}; headers are str, int, float, bool, bytes and None")


def unpack_message(message: bytes) -> tuple[dict[str, Any], bytes]:
    """The headers and the body of one message.

    Raises:
        ValueError: the message does not begin with a msgpack map of headers.
    """
    if message[:1] == NO_HEADERS:
        return {}, message[1:]
    unpacker = msgpack.Unpacker(max_buffer_size=len(message), max_ext_len=0)
    unpacker.feed(message)
    try:
        headers = unpacker.unpack()
    except (msgpack.UnpackException, ValueError) as error:
        raise ValueError(f"a message of {len(message)} bytes does not begin with its headers") from error
    if not isinstance(headers, dict):
        raise ValueError(f"a message of {len(message)} bytes does not begin with a map of headers")  # noqa: TRY004
    return headers, message[unpacker.tell() :]


def unpack_headers(message: bytes, size: int) -> dict[str, Any]:
    """The headers of a message, of which it is known how long they are, in bytes; 0 when that is not known.

    Raises:
        ValueError: as for `unpack_message`.
    """
    if not size:
        return unpack_message(message)[0]
    headers: dict[str, Any] = msgpack.unpackb(message[:size])
    return headers


def pack_lengths(messages: Sequence[bytes]) -> bytes:
    """The lengths of a batch's messages in bytes, a u32 for each."""
    return pack_sizes([len(message) for message in messages])


def pack_sizes(sizes: Sequence[int]) -> bytes:
    """The same, when the lengths are known."""
    return struct.pack(f">{len(sizes)}I", *sizes)


def unpack_lengths(lengths: bytes) -> tuple[int, ...]:
    """The lengths of a batch's messages, in bytes each."""
    return struct.unpack(f">{len(lengths) // 4}I", lengths)


def split_block(lengths: bytes, block: bytes) -> Iterator[bytes]:
    """The messages of a block, in order."""
    start = 0
    for stop in accumulate(unpack_lengths(lengths)):
        yield block[start:stop]
        start = stop
