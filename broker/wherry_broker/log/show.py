"""Records as plain values, to be printed: what `wherry log dump` writes, and what the golden files hold. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry_broker.core.block import Block

if TYPE_CHECKING:
    from wherry_broker.core.records import Record

BYTES_SHOWN_MAX = 64
"""How much is shown of a message that stands in a record."""


def kind_of(record: Record) -> str:
    """The kind of a record in small letters, such as `published`."""
    return type(record).__name__.lower()


def record_fields(record: Record) -> dict[str, Any]:
    """A record by its field names; of a block, how many messages and bytes it has."""
    return {"kind": kind_of(record), **_fields(record)}


def _fields(value: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, inner in zip(value._fields, value, strict=True):
        if isinstance(inner, Block):
            result |= {"messages": inner.count, "bytes": inner.size}
        else:
            result[name] = _plain(inner)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value[:BYTES_SHOWN_MAX].hex() + ("…" if len(value) > BYTES_SHOWN_MAX else "")
    if isinstance(value, tuple):
        return _fields(value) if hasattr(value, "_fields") else [_plain(each) for each in value]
    return value
