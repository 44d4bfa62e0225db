"""Tasks that the broker calls at moments to come."""

from __future__ import annotations

import asyncio

import pytest

import wherry
from patience import PATIENCE_S
from wherry.tasks import BadArguments, current


async def test_a_task_is_called_at_its_interval(tasks, working):
    called = asyncio.Event()
    seen = []

    @tasks.every(0.1)
    async def tick() -> None:
        seen.append(current().headers["schedule"])
        called.set()

    async with working():
        async with asyncio.timeout(PATIENCE_S):
            await called.wait()
    assert set(seen) == {"app.tick"}
    await (await tasks.broker()).unschedule("app.tick")


async def test_the_broker_tells_the_newest_job_of_a_schedule_and_what_came_of_it(tasks, working):
    @tasks.cron("0 3 1 1 *")
    def yearly() -> str:
        return "done"

    async with working():
        broker = await tasks.broker()
        ran = await broker.run_schedule("app.yearly")
        handle = await yearly.handle(ran.last_id)
        assert await handle.result(PATIENCE_S) == "done"
        assert (await handle.status()).history[0].who == "schedule app.yearly"
        (found,) = await broker.schedules()
        assert (found.last_id, found.track) == (handle.id, True)


async def test_a_schedule_may_forget_how_its_jobs_end(tasks, working):
    @tasks.every(3600, track=False)
    async def tick() -> None: ...

    async with working():
        (found,) = await (await tasks.broker()).schedules()
    assert not found.track


async def test_workers_declare_cron_schedules_once(tasks, working):
    @tasks.cron("0 3 * * *", zone="Europe/Paris", retries=1)
    def nightly() -> None: ...

    broker = await tasks.broker()
    for _ in range(2):
        async with working():
            (found,) = await broker.schedules()
    assert (found.name, found.queue) == ("app.nightly", "app.nightly")
    assert (found.cron, found.zone, found.overlap, found.missed) == ("0 3 * * *", "Europe/Paris", "skip", "once")
    assert nightly.defined.retries == 1


async def test_what_makes_no_sense_is_refused(tasks, working):
    with pytest.raises(BadArguments, match="missing a required argument: 'a'"):

        @tasks.cron("0 3 * * *")
        def needs(a: int) -> None: ...

    @tasks.cron("0 25 * * *")
    def never() -> None: ...

    with pytest.raises(ExceptionGroup) as caught:
        async with working():
            pass
    assert caught.group_contains(wherry.Invalid, match="0 25")
