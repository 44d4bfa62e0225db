"""pydantic's models, and what else has fields, as arguments and results: they arrive as what they were."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Collection, Iterable, MutableMapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, Flag, StrEnum
from typing import TYPE_CHECKING, Annotated, Generic, Literal, NotRequired, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest

from wherry.tasks.annotations import Mismatch, convert, hints_of
from wherry.tasks.function import BadArguments, Function
from wherry.tasks.values import Unpackable, pack, unpack

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")


class Size(StrEnum):
    SMALL = "s"
    LARGE = "l"


class Extra(Flag):
    NAPKIN = 1
    SPOON = 2


class Code(Enum):
    NONE = 0
    SOME = 1


class Topping(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    name: str
    price: Decimal = Decimal("0.50")


class Ice(pydantic.BaseModel):
    kind: Literal["ice"] = "ice"
    id: UUID
    size: Size
    made: datetime
    best_before: date | None = None
    keeps: timedelta = timedelta(days=2)
    toppings: list[Topping] = []
    colours: set[str] = set()
    position: tuple[int, float] = (0, 0.0)


class Cake(pydantic.BaseModel):
    kind: Literal["cake"]
    slices: int


class Aliased(pydantic.BaseModel):
    count: int = pydantic.Field(alias="Count")
    inner: Aliased | None = pydantic.Field(None, validation_alias="in", serialization_alias="out")


class Computed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    side: float
    data: pydantic.Json[list[int]] = [1]

    @pydantic.computed_field
    @property
    def area(self) -> float:
        return self.side**2


class Linked(pydantic.BaseModel):
    link: pydantic.HttpUrl
    raw: bytes


class Narrow(pydantic.BaseModel):
    a: int


class Wide(pydantic.BaseModel):
    a: int
    b: int = 0


class Names(pydantic.RootModel[list[str]]):
    pass


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


@pydantic.dataclasses.dataclass
class Checked:
    n: pydantic.PositiveInt


@dataclasses.dataclass
class Order:
    ice: Ice
    at: datetime
    others: dict[str, Topping]
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Spot:
    x: int
    y: int = 0


@dataclasses.dataclass(frozen=True)
class Box(Generic[T]):
    content: T
    more: tuple[T, ...] = ()


@dataclasses.dataclass(frozen=True)
class Late:
    a: int
    b: int = dataclasses.field(init=False, default=0)


class Movie(TypedDict):
    name: str
    shown: NotRequired[list[Spot]]


ICE = Ice(
    id=UUID(int=7),
    size=Size.LARGE,
    made=datetime(2026, 3, 1, 12, tzinfo=UTC),
    best_before=date(2026, 3, 9),
    toppings=[Topping(name="nuts"), Topping(name="sauce", price=Decimal("1.10"))],
    colours={"red", "white"},
    position=(1, 2.5),
)
INNER = Aliased.model_validate({"Count": 2})
LATE = Late(1)
object.__setattr__(LATE, "b", 5)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (ICE, Ice),
        ([ICE, ICE], list[Ice]),
        ((ICE, None), tuple[Ice, Ice | None]),
        ({"a": [ICE]}, dict[str, list[Ice]]),
        ({Size.SMALL: ICE}, dict[Size, Ice]),
        ({UUID(int=1): ICE}, MutableMapping[UUID, Ice]),
        (Order(ICE, datetime(2026, 1, 1), {"x": Topping(name="y")}), Order),  # noqa: DTZ001 (naive stays naive)
        ([Order(ICE, datetime(2026, 1, 1, tzinfo=UTC), {}, "now")], list[Order] | None),
        ({Topping(name="a"), Topping(name="b")}, set[Topping]),
        (frozenset({Spot(1), Spot(2)}), frozenset[Spot]),
        (ICE, Cake | Ice),
        (Cake(kind="cake", slices=3), Annotated[Ice | Cake, pydantic.Field(discriminator="kind")]),
        (Wide(a=1, b=2), Narrow | Wide),
        (Narrow(a=1), Wide | Narrow),
        (Aliased.model_validate({"Count": 1, "in": INNER}), Aliased),
        (Computed(side=2.0), Computed),
        (Linked(link="https://example.org/x", raw=b"\xff"), Linked),
        (Names(["a", "b"]), Names),
        (Page[Topping](items=[Topping(name="a")]), Page[Topping]),
        (Checked(3), Checked),
        (Box(Spot(1), (Spot(2),)), Box[Spot]),
        (Box(ICE), Box[Ice]),
        (LATE, Late),
        ({"name": "M", "shown": [Spot(1)]}, Movie),
        ({"name": "M"}, Movie),
        (Extra.NAPKIN | Extra.SPOON, Extra),
        (Code.NONE, Literal[Code.NONE, "x"]),
        ([Spot(1)], Iterable[Spot]),
        ((Spot(1),), Collection[Spot]),
        (1, Decimal | int),
        (Decimal(1), int | Decimal),
        (Spot(1), int | str | Spot | None),
        (datetime(2026, 1, 1, tzinfo=UTC), date | datetime),
    ],
)
def test_they_arrive_as_what_they_were(value, annotation):
    back = convert(unpack(pack(value)), annotation)
    assert back == value
    assert type(back) is type(value)


def test_a_datetime_keeps_its_moment_and_offset_and_not_the_name_of_its_zone():
    moment = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))
    back = unpack(pack(moment))
    assert (back, back.utcoffset(), back.tzname()) == (moment, timedelta(hours=2), "UTC+02:00")


@pytest.mark.parametrize(
    ("value", "annotation", "said"),
    [
        ({"kind": "cake", "slices": "many"}, Cake, "is no Cake: slices: Input should be a valid integer"),
        ({"kind": "cake"}, Cake, "is no Cake: slices: Field required$"),
        ({"n": -1}, Checked, "is no Checked: n: Input should be greater than 0$"),
        (["a", 1], Names, "is no Names: 1: Input should be a valid string$"),
        ([{"kind": "cake", "slices": 1}, {}], list[Cake], "is no Cake: kind: Field required; slices: Field required$"),
        ({"content": {"x": "no"}}, Box[Spot], "^content: x: 'no' is no int$"),
        ({"shown": []}, Movie, "it has no name$"),
        ("z", Literal["x", "y"], "^'z' is no .*Literal"),
        (True, Literal[1], "^True is no "),
        (3, Iterable[int], "^3 is no Iterable$"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(value, annotation, said):
    with pytest.raises(Mismatch, match=said) as caught:
        convert(value, annotation)
    assert "\n" not in str(caught.value)


def test_a_secret_does_not_travel_unseen():
    class Login(pydantic.BaseModel):
        password: pydantic.SecretStr

    with pytest.raises(Unpackable, match="a SecretStr cannot be sent"):
        pack(Login(password="x"))


def test_what_is_imported_for_type_checkers_only_leaves_the_others_converted():
    @dataclasses.dataclass
    class Mixed:
        spot: Spot
        part: Fraction

    def work(spot: Spot, part: Fraction, *rest: Fraction) -> Fraction: ...

    function = Function("work", work)
    assert function.unknown == ["part", "rest", "return"]
    args, _ = function.unpack(function.pack((Spot(1), {"a": 1}, 3), {}))
    assert args == [Spot(1), {"a": 1}, 3]
    assert hints_of(Mixed) == {"spot": Spot}
    assert Function("f", convert).unknown == []


def test_a_task_says_which_parameter_does_not_fit():
    def bake(cake: Cake) -> None: ...

    function = Function("shop.bake", bake)
    with pytest.raises(
        BadArguments, match=r"^task 'shop.bake', parameter 'cake': .* is no Cake: slices: Field required$"
    ):
        function.unpack(function.pack(({"kind": "cake"},), {}))


def test_it_goes_without_pydantic():
    program = """
import sys, dataclasses
sys.modules["pydantic"] = None  # an import of it fails
from wherry.tasks.annotations import convert
from wherry.tasks.values import pack, unpack
@dataclasses.dataclass
class Spot:
    x: int
assert convert(unpack(pack([Spot(1)])), list[Spot]) == [Spot(1)]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
