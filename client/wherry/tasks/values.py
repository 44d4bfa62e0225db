"""Arguments and results as bytes: msgpack, and never code. Pure.

What msgpack has no type for travels as an extension type, and comes back as what it was: datetime, date, time,
timedelta, UUID, Decimal, tuple, set, frozenset, and an int of any size. (A datetime keeps its offset from UTC, not the
name of its zone.) Of an Enum its value travels, of a dataclass or a pydantic model its fields: the annotation of the
parameter, or of the result, says what to make of them again (see `annotations`), so that sender and worker may have
different versions of a class as long as its fields agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgpack

DATETIME, DATE, TIME, TIMEDELTA, IDENTIFIER, DECIMAL, TUPLE, SET, FROZENSET, LARGE = range(1, 11)
"""The extension types. Their payload is text, or for what holds others a msgpack array."""


class Unpackable(TypeError):
    """A value cannot travel: its type is none of those that this module knows."""


def pack(value: Any) -> bytes:
    """A value as bytes.

    Raises:
        Unpackable: it is, or holds, something of a type that cannot travel.
    """
    try:
        packed: bytes = msgpack.packb(value, default=_extended, strict_types=True)
    except OverflowError:  # an int over 64 bits, which msgpack does not hand to `default`
        packed = msgpack.packb(_without_large(value), default=_extended, strict_types=True)
    return packed


def unpack(data: bytes) -> Any:
    """The value of `pack`, with Enums, dataclasses and models still as what they travelled as.

    Raises:
        ValueError: it is no such bytes.
    """
    try:
        return msgpack.unpackb(data, ext_hook=_from_extended, strict_map_key=False)
    except (msgpack.UnpackException, ValueError, ArithmeticError) as error:
        raise ValueError(f"{len(data)} bytes are not a packed value: {error}") from error


def _extended(value: Any) -> Any:
    """What to pack in place of a value that msgpack has no type for."""
    for kind, extend in _EXTENSIONS:
        if isinstance(value, kind):
            return extend(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for name, plain in _PYDANTIC.items():
        if callable(getattr(value, name, None)):
            return plain(value)
    for kind, plain in _SUBCLASSED:
        if isinstance(value, kind):
            return plain(value)
    raise Unpackable(f"a {type(value).__qualname__} cannot be sent: {value!r:.80}")


def _extension(code: int, text: Callable[[Any], str]) -> Callable[[Any], msgpack.ExtType]:
    return lambda value: msgpack.ExtType(code, text(value).encode())


def _holder(code: int) -> Callable[[Any], msgpack.ExtType]:
    return lambda value: msgpack.ExtType(code, pack(list(value)))


def _tuple(value: tuple[Any, ...]) -> Any:
    return msgpack.ExtType(TUPLE, pack(list(value)))


_EXTENSIONS: Sequence[tuple[type[Any], Callable[[Any], Any]]] = (
    (Enum, lambda value: value.value),
    (datetime, _extension(DATETIME, datetime.isoformat)),  # before date, which it is one of
    (date, _extension(DATE, date.isoformat)),
    (time, _extension(TIME, time.isoformat)),
    (timedelta, _extension(TIMEDELTA, lambda value: f"{value.days} {value.seconds} {value.microseconds}")),
    (UUID, _extension(IDENTIFIER, str)),
    (Decimal, _extension(DECIMAL, str)),
    (tuple, _tuple),
    (frozenset, _holder(FROZENSET)),
    (AbstractSet, _holder(SET)),
)
_SUBCLASSED: Sequence[tuple[Any, Callable[[Any], Any]]] = (
    (bool, bool),
    (int, int),
    (float, float),
    (str, str.__str__),
    (bytearray | memoryview, bytes),
    (Mapping, dict),
    (list, list),
)
"""Subclasses of what msgpack has types for travel as those."""
_PYDANTIC: dict[str, Callable[[Any], Any]] = {
    "model_dump": lambda model: model.model_dump(round_trip=True),  # only what it can be made of again
    "unicode_string": str,  # a URL
}
"""Its classes, known by their methods: it is not imported for this."""
_PLAIN = {type(None), bool, int, float, str, bytes, msgpack.ExtType}


def _without_large(value: Any) -> Any:
    """The same value, with the ints that msgpack cannot hold extended."""
    if isinstance(value, int) and not isinstance(value, bool | Enum) and not -(1 << 63) <= value < 1 << 64:
        return msgpack.ExtType(LARGE, str(value).encode())
    if type(value) is list:
        return [_without_large(each) for each in value]
    if type(value) is dict:
        return {_without_large(key): _without_large(each) for key, each in value.items()}
    return value if type(value) in _PLAIN else _without_large(_extended(value))


def _from_extended(code: int, payload: bytes) -> Any:
    make = _FROM_EXTENSION.get(code)
    if make is None:
        raise ValueError(f"a packed value has the extension type {code}, which is none of ours")
    return make(payload)


def _from_text(make: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda payload: make(payload.decode())


def _timedelta(text: str) -> timedelta:
    days, seconds, microseconds = map(int, text.split())
    return timedelta(days, seconds, microseconds)


def _hashed(make: Callable[[Any], Any], values: list[Any]) -> Any:
    try:
        return make(values)
    except TypeError:  # the fields of dataclasses: the annotation makes these of them, and then the set
        return values


_FROM_EXTENSION: dict[int, Callable[[bytes], Any]] = {
    DATETIME: _from_text(datetime.fromisoformat),
    DATE: _from_text(date.fromisoformat),
    TIME: _from_text(time.fromisoformat),
    TIMEDELTA: _from_text(_timedelta),
    IDENTIFIER: _from_text(UUID),
    DECIMAL: _from_text(Decimal),
    LARGE: _from_text(int),
    TUPLE: lambda payload: tuple(unpack(payload)),
    SET: lambda payload: _hashed(set, unpack(payload)),
    FROZENSET: lambda payload: _hashed(frozenset, unpack(payload)),
}
