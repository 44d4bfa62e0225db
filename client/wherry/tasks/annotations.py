"""What has travelled, as what an annotation says. Pure, and it knows pydantic's models by their methods only."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

from wherry.tasks.values import pack, unpack


class Mismatch(ValueError):
    """A value that has come is not what the annotation says."""


def convert(value: Any, annotation: Any) -> Any:
    """A value that has travelled, as what an annotation says.

    Args:
        value: what `unpack` gave.
        annotation: a type, as `typing.get_type_hints` gives it; what is not known here is taken as it is.

    Raises:
        Mismatch: the value cannot be one of that type.
    """
    if type(value) is annotation:
        return value
    annotation = _plain(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if origin is Literal:
        return _literal(value, arguments)
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments)
    make = _GENERIC.get(origin or annotation)
    if make is not None:
        return make(value, arguments)
    cls = origin or annotation
    return _of_class(value, cls, arguments) if isinstance(cls, type) else value


@cache
def hints_of(thing: Any) -> dict[str, Any]:
    """The annotations of a function or a class, but for those that name what was imported for type checkers only."""
    try:
        return get_type_hints(thing, include_extras=True)
    except NameError:
        return dict(_knowable(thing))


def _knowable(thing: Any) -> Iterator[tuple[str, Any]]:
    for owner in reversed(getattr(thing, "__mro__", (thing,))):
        names = getattr(owner, "__globals__", None) or vars(sys.modules[owner.__module__])
        for name, annotation in inspect.get_annotations(owner).items():
            alone = types.SimpleNamespace(__annotations__={name: annotation})
            with contextlib.suppress(NameError):
                yield from get_type_hints(alone, names, include_extras=True).items()


def _plain(annotation: Any) -> Any:
    while True:
        if get_origin(annotation) in (Annotated, Required, NotRequired):
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif hasattr(annotation, "__value__"):  # type Name = ..., since Python 3.12
            annotation = annotation.__value__
        else:
            return annotation


def _literal(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        plain = choice.value if isinstance(choice, Enum) else choice
        if type(plain) is type(value) and plain == value:
            return choice
    raise _mismatch(value, Literal[choices])


def _one_of(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:  # what it is already, before what it could be made
        if isinstance(choice, type) and type(value) is choice:
            return value
    found = []
    for choice in choices:
        try:
            found.append(convert(value, choice))
        except Mismatch:
            continue
    if not found:
        raise _mismatch(value, Union[choices])  # noqa: UP007 (made of a tuple)
    if len(found) > 1 and isinstance(value, dict):  # a class that drops what it does not know takes all of them
        return next((each for each in found if _travels_as(each, value)), found[0])
    return found[0]


def _travels_as(made: Any, value: Any) -> bool:
    try:
        return bool(unpack(pack(made)) == value)
    except TypeError:  # it was made of a packed value, but is none itself
        return False


def _of_class(value: Any, cls: type[Any], arguments: tuple[Any, ...]) -> Any:
    if cls in _EXACT:
        return _exactly(value, cls)
    if is_typeddict(cls):
        return _of_fields(value, _typed_dict(cls), cls, arguments)
    if dataclasses.is_dataclass(cls):
        return value if isinstance(value, cls) else _of_fields(value, _dataclass(cls), cls, arguments)
    if hasattr(cls, "model_validate"):
        return _made(value, cls, _validating(cls))
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


def _of_fields(value: Any, make: Callable[..., Any], cls: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(value, cls)
    bound = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    hints = hints_of(cls)
    fields = {}
    for name, each in value.items():
        try:
            fields[name] = convert(each, _substituted(hints.get(name, Any), bound))
        except Mismatch as error:
            raise Mismatch(f"{name}: {error}") from error
    return _made(fields, cls, lambda given: make(**given))


def _substituted(hint: Any, bound: Mapping[Any, Any]) -> Any:
    """An annotation within a generic class, with what stands for its variables."""
    if isinstance(hint, TypeVar):
        return bound.get(hint, Any)
    free = getattr(hint, "__parameters__", ())
    return hint[tuple(bound.get(each, Any) for each in free)] if free and not isinstance(hint, type) else hint


def _typed_dict(cls: Any) -> Callable[..., Any]:
    # __required_keys__ does not see what stands in an annotation that is text.
    said = {name: get_origin(hint) for name, hint in hints_of(cls).items()}
    needed = cls.__required_keys__ - {name for name, origin in said.items() if origin is NotRequired}

    def make(**given: Any) -> dict[str, Any]:
        missing = sorted(needed - given.keys())
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        return given

    return make


def _dataclass(cls: type[Any]) -> Callable[..., Any]:
    """Makes a dataclass of all its fields, those too that its `__init__` does not take."""
    late = {field.name for field in dataclasses.fields(cls) if not field.init}
    if not late:
        return cls

    def make(**given: Any) -> Any:
        made = cls(**{name: each for name, each in given.items() if name not in late})
        for name in late & given.keys():
            object.__setattr__(made, name, given[name])  # a frozen one too
        return made

    return make


def _validating(cls: Any) -> Callable[[Any], Any]:
    """What makes a model of what its `model_dump` gave: fields by their names, whatever their aliases."""
    if _knows_names(cls.model_validate.__func__):
        return lambda value: cls.model_validate(value, by_name=True)
    validate: Callable[[Any], Any] = cls.model_validate
    return validate


@cache
def _knows_names(validate: Any) -> bool:
    return "by_name" in inspect.signature(validate).parameters  # pydantic has it since 2.11


def _named_tuple(value: Any, cls: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise _mismatch(value, cls)
    hints = hints_of(cls)
    names: tuple[str, ...] = cls._fields
    fields = [convert(each, hints.get(name, Any)) for name, each in zip(names, value, strict=False)]
    return _made(fields, cls, lambda given: cls(*given))


def _made(value: Any, cls: type[Any], make: Callable[[Any], Any]) -> Any:
    try:
        return make(value)
    except (TypeError, ValueError) as error:
        raise Mismatch(f"{value!r:.80} is no {cls.__qualname__}: {_said(error)}") from error


def _said(error: Exception) -> str:
    """The text of an error, in one line; pydantic's are a paragraph for each field."""
    listed = getattr(error, "errors", None)
    if not callable(listed):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in listed())


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


def _iterable(value: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple | set | frozenset | dict):
        raise _mismatch(value, Iterable)
    if not arguments or isinstance(value, dict):
        return value
    return type(value)(convert(each, arguments[0]) for each in value)


_LIST = _collection(list, (list, tuple))
_SET = _collection(set, (set, frozenset, list, tuple))
_GENERIC: dict[Any, Callable[[Any, tuple[Any, ...]], Any]] = {
    list: _LIST,
    Sequence: _LIST,
    MutableSequence: _LIST,
    set: _SET,
    AbstractSet: _SET,
    frozenset: _collection(frozenset, (set, frozenset, list, tuple)),
    Iterable: _iterable,
    Collection: _iterable,
    tuple: _any_tuple,
    dict: _mapping,
    Mapping: _mapping,
    MutableMapping: _mapping,
}


def _mismatch(value: Any, wanted: Any) -> Mismatch:
    name = wanted.__qualname__ if isinstance(wanted, type) else str(wanted)
    return Mismatch(f"{value!r:.80} is no {name}")
