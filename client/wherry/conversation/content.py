"""From what users publish to the bytes of a message: bytes and str as they are, or a value as JSON or msgpack. Pure.

How a value was written says the header `content-type`, so that whoever reads the message in another language knows too.
"""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING, Any, Final

import msgpack

from wherry.delivery import CONTENT_TYPE
from wherry.wire.messages import pack_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wherry.wire.messages import HeaderValue

JSON = "application/json"
MSGPACK = "application/msgpack"


class Unset:
    """What an argument is that was not given; None is a value that JSON and msgpack have."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
_ONE_OF = "a message has a body, or a value by json= or pack=: one of them"


def body_bytes(body: Any) -> bytes:
    """A body as bytes; a str becomes UTF-8.

    Raises:
        TypeError: it is neither bytes nor str.
    """
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    if body is UNSET:
        raise TypeError(_ONE_OF)
    raise TypeError(f"a message's body is bytes or str, not {type(body).__name__}; json= and pack= take other values")


def json_bytes(value: Any) -> bytes:
    """A value as JSON, in UTF-8.

    Raises:
        TypeError: JSON has no such value.
        ValueError: it is NaN or infinite, or refers to itself.
    """
    return json_format.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def msgpack_bytes(value: Any) -> bytes:
    """A value as msgpack.

    Raises:
        TypeError: msgpack has no such value.
        ValueError: an int has more than 64 bits, or it nests too deep.
    """
    try:
        packed: bytes = msgpack.packb(value)
    except OverflowError as error:
        raise ValueError("msgpack holds no int of more than 64 bits") from error
    return packed


_WRITERS: dict[str, Callable[[Any], bytes]] = {"": body_bytes, JSON: json_bytes, MSGPACK: msgpack_bytes}


def compose(body: Any, headers: Mapping[str, HeaderValue] | None, json: Any, pack: Any) -> tuple[bytes, bytes]:
    """A message of what users give to a publish: its packed headers, and its body.

    Raises:
        TypeError: not just one of body, json and pack is given; or a value cannot be written.
        ValueError: a value cannot be written; or headers are over their limits.
    """
    if json is UNSET and pack is UNSET:
        return pack_headers(headers), body_bytes(body)
    value, kind = _given(body, json, pack)
    return pack_headers(_typed(headers, kind)), _WRITERS[kind](value)


def compose_many(
    bodies: Any, headers: Mapping[str, HeaderValue] | None, json: Any, pack: Any
) -> tuple[bytes, list[bytes]]:
    """The same for many messages that share their headers; of each argument, an iterable."""
    values, kind = _given(bodies, json, pack)
    each = _listed(values)
    if kind or set(map(type, each)) != {bytes}:
        each = list(map(_WRITERS[kind], each))
    return pack_headers(_typed(headers, kind)), each


def _listed(values: Iterable[Any]) -> list[Any]:
    if isinstance(values, bytes | str | bytearray | memoryview):
        raise TypeError(f"many messages are a list of bodies, not one {type(values).__name__}")
    return list(values)


def _given(body: Any, json: Any, pack: Any) -> tuple[Any, str]:
    """What is given, and its content type; "" for bytes, which have none."""
    given = [pair for pair in ((body, ""), (json, JSON), (pack, MSGPACK)) if pair[0] is not UNSET]
    if len(given) != 1:
        raise TypeError(_ONE_OF)
    return given[0]


def _typed(headers: Mapping[str, HeaderValue] | None, kind: str) -> Mapping[str, HeaderValue] | None:
    return {CONTENT_TYPE: kind, **(headers or {})} if kind else headers
