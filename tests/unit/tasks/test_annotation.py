"""What the parameters of a task are annotated with, by their place or their name."""

from __future__ import annotations

from typing import Any

from wherry.tasks.function import Function


def plain(first: int, /, second: str, third=None, *, named: bool = False) -> None: ...
def more(first: int, *rest: float, named: bool, **others: bytes) -> None: ...


def test_by_place():
    function = Function("plain", plain)
    assert [function.annotation(place) for place in range(5)] == [int, str, Any, Any, Any]


def test_by_name():
    function = Function("plain", plain)
    assert [function.annotation(name) for name in ("second", "named", "third", "unknown")] == [str, bool, Any, Any]


def test_the_rest_of_them():
    function = Function("more", more)
    assert [function.annotation(each) for each in (0, 1, 9, "named", "other")] == [int, float, float, bool, bytes]
