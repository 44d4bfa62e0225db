"""How results are printed: a table on a terminal, tab-separated lines in a pipe, JSON when it was asked for."""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from wherry.delivery import BaseMessage, PeekedMessage

CELL_MAX = 60
"""The longest body that a table on a terminal shows whole, in characters."""


def as_json(value: Any) -> None:
    """Prints one JSON document: indented on a terminal, one line in a pipe."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def as_json_line(value: Any) -> None:
    """Prints one JSON document on a line of its own, as one of many."""
    click.echo(json_line(value))


def json_line(value: Any) -> str:
    """One JSON document without a newline in it; what JSON cannot hold is shown as Python writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=repr)


def message_fields(message: BaseMessage) -> dict[str, Any]:
    """A message for JSON; a body that is no UTF-8 is `body_base64` instead of `body`."""
    return {
        "id": message.id,
        **body_fields(message.body, "body"),
        "headers": message.headers,
        "attempt": message.attempt,
        "priority": message.priority,
        "key": message.key,
        "published_at": message.published_at.isoformat(),
    }


def body_fields(body: bytes, name: str) -> dict[str, str]:
    """Bytes for JSON, under a name; with `_base64` after it when they are no UTF-8."""
    try:
        return {name: body.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(body).decode()}


def moment(value: datetime | None) -> str:
    """A moment for one cell; "" for none."""
    return value.isoformat(timespec="milliseconds") if value else ""


def peeked_fields(message: PeekedMessage) -> dict[str, Any]:
    """A message that was looked at, for JSON."""
    return {
        **message_fields(message),
        "state": message.state,
        "due_at": moment(message.due_at),
        "expires_at": moment(message.expires_at),
        "reason": message.reason,
        "error": message.error,
        "failed_at": moment(message.failed_at),
    }


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass."""
    return dataclasses.asdict(value)


def plain(value: object) -> object:
    """A value as it is written in a setting: `true`, not `True`; `gold=4`, not a map; `a,b`, not a list."""
    if isinstance(value, dict):
        return ",".join(f"{key}={inner}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else value


def counted(count: int, noun: str) -> str:
    """So many of something: `1 message`, `2 messages`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def body_cell(body: bytes) -> str:
    """A body for one cell: as text if it is any, and cut to fit on a terminal."""
    text = body.decode("utf-8", "backslashreplace")
    return f"{text[: CELL_MAX - 1]}…" if len(text) > CELL_MAX and sys.stdout.isatty() else text


def printable(value: object) -> str:
    """A value for one cell: what would end the line or steer the terminal is escaped."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints rows: aligned under a head on a terminal, else tab-separated and without one."""
    if sys.stdout.isatty():
        for line in aligned(head, rows):
            click.echo(line)
    else:
        for row in rows:
            click.echo("\t".join(map(printable, row)))


def aligned(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table; numbers stand right, the rest left."""
    texts = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    right = [bool(rows) and all(type(row[i]) in {int, float} for row in rows) for i in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in (tuple(name.upper() for name in head), *texts)
    ]
