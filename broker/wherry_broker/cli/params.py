"""What arguments may be: durations, sizes, queue names, headers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from wherry.model.names import queue_name_problem, split_id
from wherry_broker import units

if TYPE_CHECKING:
    from collections.abc import Callable


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """A value that a function reads from text; its ValueError is the complaint.

    Args:
        name: what help calls it.
        parse: the function.
    """

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads the text."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _seconds(text: str) -> float:
    return _said(text, units.duration_ms) / 1000


def _bytes(text: str) -> int:
    return _said(text, units.size_bytes)


def _said(text: str, parse: Callable[[str], int]) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is {error}") from None


def _queue(text: str) -> str:
    problem = queue_name_problem(text)
    if problem:
        raise ValueError(problem)
    return text


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text[:60]!r} is not a header: write NAME=VALUE")
    return name, value


def _moment(text: str) -> datetime:
    example = "write one such as 2026-05-01T03:00+02:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is not a moment: {example}") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text[:60]!r} has no time zone: {example}")
    return moment


def _weight(text: str) -> tuple[str, int]:
    key, equals, weight = text.rpartition("=")
    if not equals or not weight.isdecimal():
        raise ValueError(f"{text[:60]!r} is not a weight: write KEY=NUMBER")
    return key, int(weight)


DURATION = Parsed("duration", _seconds)
"""Seconds as a float, from `30`, `250ms`, `5m`, `1h`, `1d`."""
SIZE = Parsed("size", _bytes)
"""Bytes, from `1000`, `64KiB`, `256MiB`."""
QUEUE = Parsed("queue", _queue)
HEADER = Parsed("header", _header)
MOMENT = Parsed("moment", _moment)
"""A datetime with a zone, from `2026-05-01T03:00+02:00`."""
WEIGHT = Parsed("weight", _weight)
"""A key and its weight, from `KEY=NUMBER`."""
MESSAGE_ID = Parsed("id", split_id)
"""A queue and an offset, from `emails/42`."""
