"""Arguments of a job as they are typed, and values as they are shown. Pure."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin
from uuid import UUID

from wherry.tasks.values import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

READ: dict[Any, Callable[[str], Any]] = {
    str: str,
    bytes: str.encode,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
    Decimal: Decimal,
}
"""Parameters that take what is typed as it stands: JSON has no such type, or its quotes are in the way."""


def argument(text: str, annotation: Any = Any) -> Any:
    """What was typed for a parameter, as the function takes it.

    Text, moments, UUIDs and decimals are typed as they are. All else is JSON; what is none is text.

    Args:
        text: what was typed.
        annotation: what the parameter is annotated with.

    Raises:
        ValueError: it is none of these.
    """
    kind, may_be_none = _kind(annotation)
    if may_be_none and text == "null":
        return None
    read = READ.get(kind)
    if read is None:
        return _json(text)
    try:
        return read(_unquoted(text))
    except (ValueError, ArithmeticError):
        raise ValueError(f"{text[:60]!r} is no {kind.__name__}") from None


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type that an annotation names, and whether None is taken too."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    kinds = [each for each in get_args(annotation) if each is not NoneType]
    may_be_none = len(kinds) < len(get_args(annotation))
    return (kinds[0] if len(kinds) == 1 else annotation), may_be_none


def _unquoted(text: str) -> str:
    """Text, without the quotes of a JSON string around it."""
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            pass
    return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] in ("[", "{", '"'):
            raise ValueError(f"{text[:60]!r} is no JSON: {error}") from None
        return text


class Call(NamedTuple):
    """The arguments of a job."""

    args: list[Any]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, body: bytes) -> Call | None:
        """Those in the body of a message; None when it holds none."""
        try:
            args, kwargs = unpack(body)
        except (TypeError, ValueError):
            return None
        return cls(args, kwargs) if isinstance(args, list) and isinstance(kwargs, dict) else None

    def fields(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"args": jsonable(self.args), "kwargs": jsonable(self.kwargs)}

    def __str__(self) -> str:
        named = (f"{name}={_compact(value)}" for name, value in self.kwargs.items())
        return ", ".join([*map(_compact, self.args), *named])


def jsonable(value: Any) -> Any:
    """A value for JSON: what that has no type for becomes text or a list, and bytes that are no UTF-8 base64."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else _text(jsonable(key)): jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return jsonable(dataclasses.asdict(value))
    return _text(value)


def _text(value: Any) -> str:
    match value:
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return base64.b64encode(value).decode()
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return f"{value.total_seconds():g}"
        case type():
            return value.__qualname__
    return getattr(value, "__qualname__", None) or str(value)


def value_text(value: Any) -> str:
    """A value for people and pipes: text as it is, all else as JSON."""
    shown = jsonable(value)
    return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)


def _compact(value: Any) -> str:
    return json.dumps(jsonable(value), ensure_ascii=False, separators=(",", ":"))
