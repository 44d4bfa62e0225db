"""What a task is given arrives as what it was, or as what its annotation says; nothing else can be sent."""

from __future__ import annotations

import collections
import dataclasses
import enum
import types
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.tasks.annotations import Mismatch, convert
from wherry.tasks.values import Unpackable, pack, unpack


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Line:
    begin: Point
    ends: list[Point]
    colour: Colour | None = None


class Pair(NamedTuple):
    left: int
    right: Colour


class Movie(TypedDict):
    name: str
    year: int


class Model:
    """As pydantic's models are, as far as this concerns them."""

    def __init__(self, n: int) -> None:
        self.n = n

    def model_dump(self, *, round_trip: bool) -> dict[str, Any]:
        return {"n": self.n}

    @classmethod
    def model_validate(cls, value: Any) -> Model:
        if "n" not in value:
            raise ValueError("n is missing")
        return cls(value["n"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.n == self.n

    __hash__ = None


UserId = NewType("UserId", int)

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
)
hashable = atoms | st.tuples(atoms, atoms)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(-9, 9), inner, max_size=4)
        | st.sets(hashable, max_size=4)
        | st.frozensets(hashable, max_size=4)
    ),
    max_leaves=12,
)


def same(left, right):
    """Equal, and of equal types all the way down: 1 is not True, and a list no tuple."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return left == right


@given(values)
def test_what_is_sent_arrives_as_it_was(value):
    assert same(unpack(pack(value)), value)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Colour.BLUE, Colour),
        (Level.LOW, Level),
        (Point(1, 2.5), Point),
        (Line(Point(1), [Point(2), Point(3, 4.0)], Colour.RED), Line),
        (Line(Point(1 << 80), []), Line),
        (Pair(1, Colour.RED), Pair),
        ({"name": "M", "year": 1931}, Movie),
        (Model(3), Model),
        ([Model(3)], list[Model]),
        ((1, "a", 2.0), tuple[int, str, float]),
        ((1, 2), tuple[int, ...]),
        ({Colour.RED}, set[Colour]),
        (frozenset({1}), frozenset[int]),
        ({"a": Point(1)}, dict[str, Point]),
        ({"a": Point(1)}, Mapping[str, Point]),
        ([Point(1)], Sequence[Point]),
        (None, Point | None),
        (Point(1), Point | None),
        (UserId(3), UserId),
        (Point(1), Annotated[Point, "what for"]),
        ("x", Literal["x", "y"]),
        ("x", int | str),
        (1, int | str),
        (date(2026, 1, 2), date | None),
        (1.0, float),
    ],
)
def test_annotations_make_of_it_what_it_was(value, annotation):
    back = convert(unpack(pack(value)), annotation)
    assert back == value
    assert type(back) is type(value)


def test_an_int_is_a_float_where_one_is_asked_for():
    assert same(convert(1, float), 1.0)


@pytest.mark.parametrize(
    ("value", "annotation", "named"),
    [
        ("one", int, "int"),
        (True, int, "int"),
        (1, str, "str"),
        ("green", Colour, "green"),
        ({"x": "no"}, Point, "no"),
        ({"z": 1}, Point, "Point"),
        ([1], Point, "Point"),
        ({"m": "x"}, Model, "Model"),
        ([1, "x"], list[int], "x"),
        ([1, 2, 3], tuple[int, int], "3 elements"),
        ("abc", list[str], "list"),
        (b"x", str | int, "str"),
        ([1], dict[str, int], "dict"),
        ("2026-01-01", date, "date"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(value, annotation, named):
    with pytest.raises(Mismatch, match=named):
        convert(value, annotation)


@pytest.mark.parametrize("value", [object(), [types.SimpleNamespace()], {"a": lambda: 1}, Colour, {1: {2: open}}])
def test_what_cannot_travel_is_refused(value):
    with pytest.raises(Unpackable, match="cannot be sent"):
        pack(value)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\xd4\x7f\x00", pack(1) + b"\x00", b"\xc7\x03\x01abc"])
def test_what_is_no_packed_value_is_a_value_error(data):
    with pytest.raises(ValueError, match="are not a packed value"):
        unpack(data)


def test_subclasses_travel_as_what_they_are_of():
    class Name(str):
        __slots__ = ()

    assert same(unpack(pack([Name("x"), collections.OrderedDict(a=1), bytearray(b"b")])), ["x", {"a": 1}, b"b"])


def test_what_has_a_type_of_its_own_keeps_it():
    moment = datetime(2026, 3, 29, 2, 30, tzinfo=UTC, fold=1)
    value = [moment, timedelta(days=-1, microseconds=3), UUID(int=7), Decimal("1.10"), time(1, 2, 3, 4)]
    assert same(unpack(pack(value)), value)
