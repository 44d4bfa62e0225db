"""Tasks as type checkers see them: this is checked, by mypy and by pyright, and not run.

Each line that has to be refused says so; if a type gets loose, mypy tells that there is nothing to ignore.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, assert_type

from wherry.tasks import (
    AsyncTask,
    Chain,
    Continuation,
    Flow,
    Handle,
    Signature,
    SyncFlow,
    SyncHandle,
    SyncTask,
    Tasks,
    chain,
    chord,
    current,
    group,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from wherry import NoResult

tasks = Tasks("wherry://localhost", defaults={"retries": 1})


@tasks.task
async def halve(number: int, *, note: str = "") -> float:
    return number / 2


@tasks.task(retries=3, timeout=5)
async def describe(number: float, digits: int = 2) -> str:
    return f"{number:.{digits}}"


@tasks.task
def divisors(number: int) -> list[int]:
    return [each for each in range(1, number) if not number % each]


@tasks.task(queue="slow")
def longest(texts: Sequence[str]) -> bytes:
    return max(texts).encode()


@tasks.cron("30 3 * * *", zone="Europe/Paris")
def nightly() -> None: ...


@tasks.every(timedelta(minutes=5))
async def often() -> int:
    return current().attempt


async def decorated() -> None:
    assert_type(nightly, SyncTask[[], None])
    assert_type(often, AsyncTask[[], int])
    called: Coroutine[Any, Any, float] = halve(3, note="x")
    assert_type(await called, float)
    assert_type(divisors(3), list[int])
    assert_type(divisors.options(delay=3).queue, str)
    await halve("3")  # type: ignore[arg-type]
    divisors(3, 4)  # type: ignore[call-arg]


async def sent() -> None:
    assert_type(await halve.send(3, note="x"), Handle[float])
    assert_type(await divisors.send(number=3), Handle[list[int]])
    assert_type(await (await halve.delay(3)).result(timeout=5), float)
    assert_type((await (await halve.send(3)).status()).progress, float | None)
    assert_type(await halve.options(priority=9, key="ann").send(3), Handle[float])
    assert_type(await halve.handle("halve/3"), Handle[float])
    assert_type(await halve.s(3).send(), Handle[float])
    await halve.send("3")  # type: ignore[arg-type]
    await halve.send()  # type: ignore[call-arg]
    await halve.send(3, "x")  # type: ignore[call-arg]
    await halve.delay(3, nte="x")  # type: ignore[call-arg]
    await halve.options(speed=9).send(3)  # type: ignore[call-arg]
    await divisors.send([3])  # type: ignore[arg-type]
    text: str = await (await halve.send(3)).result()  # type: ignore[assignment]
    assert text


def sent_without_a_loop() -> None:
    assert_type(halve.send_sync(3, note="x"), SyncHandle[float])
    assert_type(divisors.send_sync(3).result(timeout=timedelta(seconds=5)), list[int])
    assert_type(divisors.handle_sync("divisors/3"), SyncHandle[list[int]])
    assert_type(divisors.map_sync([1, 2]), list[SyncHandle[list[int]]])
    assert_type((halve.s(3) | describe.then()).send_sync(), SyncFlow[str])
    halve.send_sync("3")  # type: ignore[arg-type]
    divisors.map_sync(["1"])  # type: ignore[list-item]
    number: int = divisors.send_sync(3).result()  # type: ignore[assignment]
    assert number


async def mapped() -> None:
    assert_type(await halve.map(range(5)), list[Handle[float]])
    assert_type(await describe.map([0.5]), list[Handle[str]])
    assert_type(await divisors.map({3, 4}), list[Handle[list[int]]])
    await halve.map(["3"])  # type: ignore[list-item]
    await halve.map(3)  # type: ignore[arg-type]


def calls() -> None:
    assert_type(halve.s(3, note="x"), Signature[float])
    assert_type(divisors.si(3), Signature[list[int]])
    assert_type(describe.then(digits=3), Continuation[float, str])
    halve.s("3")  # type: ignore[arg-type]
    divisors.si()  # type: ignore[call-arg]
    describe.then("3")  # type: ignore[arg-type]
    describe.then(3, 4)  # type: ignore[call-arg]


async def workflows() -> None:
    described = halve.s(3) | describe.then(3)
    assert_type(described, Chain[str])
    assert_type(await described.send(), Flow[str])
    assert_type(await (await described.send()).result(), str)
    assert_type(halve.s(3) | divisors.si(4), Chain[list[int]])
    assert_type(chain(halve.s(3), describe.then(), divisors.si(3)), Chain[list[int]])
    assert_type(group(halve.s(number) for number in range(5)), group[float])
    assert_type(await group([halve.s(3)]).send(), list[Handle[float]])
    assert_type(group([described]) | longest.then(), Chain[bytes])
    assert_type(chord([described], longest.then()), Chain[bytes])
    assert_type(described | group([divisors.si(3)]), Chain[list[int]])
    halve.s(3) | divisors.then()  # type: ignore[operator]
    described | longest.then() | describe.then()  # type: ignore[operator]
    halve.s(3) | 4  # type: ignore[operator]
    group([halve.s(3)]) | describe.then()  # type: ignore[operator]
    group([halve.s(3)]) | longest.then()  # type: ignore[operator]
    chord([halve.s(3)], longest.then())  # type: ignore[misc]
    group([3])  # type: ignore[arg-type]
    await describe.then().send()  # type: ignore[attr-defined]


@tasks.task
async def survey(results: Sequence[float | NoResult]) -> int:
    return sum(1 for each in results if isinstance(each, float))


def collected() -> None:
    assert_type(chord([halve.s(3)], survey.then(), collects=True), Chain[int])
    assert_type(group([halve.s(3)], collects=True) | survey.then(), Chain[int])
    chord([halve.s(3)], longest.then(), collects=True)  # type: ignore[call-overload]
