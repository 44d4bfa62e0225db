"""Arguments of jobs as they are typed, and values as they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest

from wherry.tasks.values import pack
from wherry_broker.cli.task.spelling import Call, argument, jsonable, value_text

NUMBER = "5b9b3c5e-2c58-4d57-9ff1-2ac73a1f4d6f"


@dataclass
class Basket:
    owner: str
    until: date


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("17", Any, 17),
        ("1e3", Any, 1000.0),
        ("null", Any, None),
        ('{"a": [1, true]}', Any, {"a": [1, True]}),
        ("apple", Any, "apple"),
        ('"17"', Any, "17"),
        ("2026-05-01", Any, "2026-05-01"),
        ("", Any, ""),
        ("17", str, "17"),
        ('"17"', str, "17"),
        ('"half', str, '"half'),
        ("null", str, "null"),
        ("null", str | None, None),
        ("17", str | None, "17"),
        ("17", int | None, 17),
        ("17", int | str, 17),
        ("3.10", Decimal, Decimal("3.10")),
        ("3.10", Annotated[Decimal | None, "euros"], Decimal("3.10")),
        (NUMBER, UUID, UUID(NUMBER)),
        (f'"{NUMBER}"', UUID, UUID(NUMBER)),
        ("2026-05-01", date, date(2026, 5, 1)),
        ("2026-05-01T03:00+00:00", datetime, datetime(2026, 5, 1, 3, tzinfo=UTC)),
        ("03:00", time, time(3)),
        ("a", bytes, b"a"),
        ("[1]", list[int], [1]),
    ],
)
def test_what_is_typed_is_read_as_the_function_takes_it(text, annotation, value):
    found = argument(text, annotation)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "annotation", "complaint"),
    [
        ("[1,", Any, "'[1,' is no JSON: "),
        ('{"a"}', Any, "is no JSON: "),
        ('"half', int, "is no JSON: "),
        ("tomorrow", datetime, "'tomorrow' is no datetime"),
        ("ten", Decimal, "'ten' is no Decimal"),
        ("5b9b", UUID | None, "'5b9b' is no UUID"),
    ],
)
def test_what_cannot_be_read_is_told(text, annotation, complaint):
    with pytest.raises(ValueError, match=r"is no") as raised:
        argument(text, annotation)
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"at": datetime(2026, 5, 1, tzinfo=UTC), 7: {1}}, {"at": "2026-05-01T00:00:00+00:00", "7": [1]}),
        ({None: 1, date(2026, 5, 1): 2}, {"None": 1, "2026-05-01": 2}),
        ((1, (2.5, None, True)), [1, [2.5, None, True]]),
        ([UUID(NUMBER), Decimal("3.10"), timedelta(minutes=1), time(3)], [NUMBER, "3.10", "60", "03:00:00"]),
        ([b"text", b"\xff"], ["text", "/w=="]),
        (Basket("ann", date(2026, 5, 1)), {"owner": "ann", "until": "2026-05-01"}),
        ((ValueError, KeyError), ["ValueError", "KeyError"]),
    ],
)
def test_a_value_becomes_what_json_has(value, shown):
    assert jsonable(value) == shown


def test_text_is_shown_as_it_is_and_all_else_as_json():
    assert [value_text(value) for value in ("é", 6, None, {"é": (1,)})] == ["é", "6", "null", '{"é": [1]}']


def test_a_call_is_shown_as_it_is_written():
    call = Call.of(pack([["apple", date(2026, 5, 1)], {"count": 3, "of": [1, 2]}]))
    assert str(call) == '"apple", "2026-05-01", count=3, of=[1,2]'
    assert call.fields() == {"args": ["apple", "2026-05-01"], "kwargs": {"count": 3, "of": [1, 2]}}


@pytest.mark.parametrize("body", [b"", b"hello", b"\xff", pack(7), pack([1, 2]), pack([[], {}, 3])])
def test_what_is_no_call_has_no_arguments(body):
    assert Call.of(body) is None
