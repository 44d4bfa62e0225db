"""Arguments and results as bytes: msgpack, and never code. Pure.

What msgpack has no type for travels as an extension type, and comes back as what it was: datetime, date, time,
timedelta, UUID, Decimal, tuple, set, frozenset, and an int of any size. Of an Enum its value travels, of a dataclass or
a pydantic model its fields: the annotation of the parameter, or of the result, says what to make of them again, so
that sender and worker may have different versions of a class as long as its fields agree.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, get_type_hints, is_typeddict
from uuid import UUID

import msgpack

DATETIME, DATE, TIME, TIMEDELTA, IDENTIFIER, DECIMAL, TUPLE, SET, FROZENSET, LARGE = range(1, 11)
"""The extension types. Their payload is text, or for what holds others a msgpack array."""


class Unpackable(TypeError):
    """A value cannot travel: its type is none of those that this module knows."""


class Mismatch(ValueError):
    """A value that has come is not what the annotation says."""


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
    dump = getattr(value, "model_dump", None)  # pydantic's; it is not imported for this
    if callable(dump):
        return dump()
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


_FROM_EXTENSION: dict[int, Callable[[bytes], Any]] = {
    DATETIME: _from_text(datetime.fromisoformat),
    DATE: _from_text(date.fromisoformat),
    TIME: _from_text(time.fromisoformat),
    TIMEDELTA: _from_text(_timedelta),
    IDENTIFIER: _from_text(UUID),
    DECIMAL: _from_text(Decimal),
    LARGE: _from_text(int),
    TUPLE: lambda payload: tuple(unpack(payload)),
    SET: lambda payload: set(unpack(payload)),
    FROZENSET: lambda payload: frozenset(unpack(payload)),
}


# Annotations.


def convert(value: Any, annotation: Any) -> Any:
    """A value that has travelled, as what an annotation says.

    Args:
        value: what `unpack` gave.
        annotation: a type, as `typing.get_type_hints` gives it; what is not known here is taken as it is.

    Raises:
        Mismatch: the value cannot be one of that type.
    """
    annotation = _plain(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any or origin is Literal:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments)
    make = _GENERIC.get(origin or annotation)
    if make is not None:
        return make(value, arguments)
    return _of_class(value, annotation) if isinstance(annotation, type) else value


def _plain(annotation: Any) -> Any:
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        else:
            return annotation


def _one_of(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:  # what it is already, before what it could be made
        if isinstance(choice, type) and type(value) is choice:
            return value
    for choice in choices:
        try:
            return convert(value, choice)
        except Mismatch:
            continue
    raise _mismatch(value, Union[choices])  # noqa: UP007 (made of a tuple)


def _of_class(value: Any, cls: type[Any]) -> Any:
    if cls in _EXACT:
        return _exactly(value, cls)
    if is_typeddict(cls):
        return _of_fields(value, dict, cls)
    if dataclasses.is_dataclass(cls):
        return _of_fields(value, cls, cls)
    if hasattr(cls, "model_validate"):
        return _made(value, cls, cls.model_validate)
    if issubclass(cls, Enum):
        return _made(value, cls, cls)
    return _named_tuple(value, cls) if issubclass(cls, tuple) and hasattr(cls, "_fields") else value


def _exactly(value: Any, cls: type[Any]) -> Any:
    if cls is float and type(value) is int:
        return float(value)
    if not isinstance(value, cls) or (cls in (int, float) and isinstance(value, bool)):
        raise _mismatch(value, cls)
    return value


_EXACT = {bool, int, float, str, bytes, datetime, date, time, timedelta, UUID, Decimal, type(None)}


def _of_fields(value: Any, make: Callable[..., Any], cls: type[Any]) -> Any:
    if make is cls and isinstance(value, cls):
        return value
    if not isinstance(value, dict):
        raise _mismatch(value, cls)
    hints = get_type_hints(cls, include_extras=True)
    fields = {name: convert(each, hints.get(name, Any)) for name, each in value.items()}
    return _made(fields, cls, lambda given: make(**given))


def _named_tuple(value: Any, cls: type[Any]) -> Any:
    if not isinstance(value, list | tuple):
        raise _mismatch(value, cls)
    hints = get_type_hints(cls)
    names: tuple[str, ...] = cls._fields
    fields = [convert(each, hints.get(name, Any)) for name, each in zip(names, value, strict=False)]
    return _made(fields, cls, lambda given: cls(*given))


def _made(value: Any, cls: type[Any], make: Callable[[Any], Any]) -> Any:
    try:
        return make(value)
    except (TypeError, ValueError) as error:
        raise Mismatch(f"{value!r:.80} is no {cls.__qualname__}: {error}") from error


def _collection(make: Callable[[Any], Any], kinds: Any) -> Callable[[Any, tuple[Any, ...]], Any]:
    def collect(value: Any, arguments: tuple[Any, ...]) -> Any:
        if not isinstance(value, kinds):
            raise _mismatch(value, make)
        element = arguments[0] if arguments else Any
        return make(value) if element is Any else make([convert(each, element) for each in value])

    return collect


def _any_tuple(value: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        raise _mismatch(value, tuple)
    if not arguments:
        return tuple(value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:  # noqa: PLR2004 (tuple[T, ...])
        return tuple(convert(each, arguments[0]) for each in value)
    if len(arguments) != len(value):
        raise Mismatch(f"{value!r:.80} has {len(value)} elements, not {len(arguments)}")
    return tuple(convert(each, argument) for each, argument in zip(value, arguments, strict=True))


def _mapping(value: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(value, dict)
    if not arguments:
        return value
    return {convert(key, arguments[0]): convert(each, arguments[1]) for key, each in value.items()}


_GENERIC: dict[Any, Callable[[Any, tuple[Any, ...]], Any]] = {
    list: _collection(list, (list, tuple)),
    Sequence: _collection(list, (list, tuple)),
    set: _collection(set, (set, frozenset, list, tuple)),
    AbstractSet: _collection(set, (set, frozenset, list, tuple)),
    frozenset: _collection(frozenset, (set, frozenset, list, tuple)),
    tuple: _any_tuple,
    dict: _mapping,
    Mapping: _mapping,
}


def _mismatch(value: Any, wanted: Any) -> Mismatch:
    name = wanted.__qualname__ if isinstance(wanted, type) else str(wanted)
    return Mismatch(f"{value!r:.80} is no {name}")
