"""What comes of a job: its result, how it stands meanwhile, and how else it can end."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

import wherry
from patience import PATIENCE_S
from wherry.tasks import Reject, Retry, current


@dataclass
class Answer:
    text: str
    at: datetime


NOW = datetime(2026, 11, 24, tzinfo=UTC)


async def test_a_result_is_what_the_function_returned(tasks, working):
    @tasks.task
    async def answer(text: str) -> Answer:
        return Answer(text, NOW)

    @tasks.task
    def nothing() -> None: ...

    async with working():
        handle = await answer.send("yes")
        assert await handle.result(PATIENCE_S) == Answer("yes", NOW)
        again = await answer.handle(handle.id)
        assert await asyncio.gather(again.result(PATIENCE_S), handle.result(PATIENCE_S)) == [Answer("yes", NOW)] * 2
        assert await (await nothing.send()).result(PATIENCE_S) is None
    assert (await handle.status()).state == "settled"


async def test_many_jobs_have_results_in_their_order(tasks, working):
    @tasks.task
    async def double(n: int) -> int:
        return 2 * n

    async with working():
        handles = await double.map(range(300))
        results = await asyncio.gather(*(handle.result(PATIENCE_S) for handle in handles))
    assert results == [2 * n for n in range(300)]


async def test_a_job_that_is_not_begun_says_why(tasks):
    @tasks.task
    async def work() -> None: ...

    first, second = await work.send(), await work.options(delay=60).send()
    assert (await first.status()).state == "ready"
    assert "no consumer" in (await first.status()).why
    assert (await second.status()).state == "delayed"
    with pytest.raises(wherry.RequestTimeout, match="has not ended"):
        await first.result(0)


async def test_a_job_that_failed_raises_what_was_said(tasks, working):
    @tasks.task(retries=1, back_off=Retry(base=0))
    async def fail() -> None:
        raise RuntimeError("out of paper")

    @tasks.task
    async def never() -> None:
        raise Reject("no such user")

    async with working():
        with pytest.raises(wherry.JobFailed, match="RuntimeError: out of paper"):
            await (await fail.send()).result(PATIENCE_S)
        with pytest.raises(wherry.JobFailed, match="no such user"):
            await (await never.send()).result(PATIENCE_S)


async def test_a_job_can_be_cancelled_wherever_it_is(tasks, working):
    begun = asyncio.Event()

    @tasks.task
    async def work() -> None:
        begun.set()
        await asyncio.sleep(60)

    waiting = await work.send()
    assert await waiting.cancel()
    assert not await waiting.cancel()
    async with working():
        running = await work.send()
        await begun.wait()
        assert await running.cancel()
        for handle in (waiting, running):
            with pytest.raises(wherry.JobCancelled):
                await handle.result(PATIENCE_S)


async def test_a_job_whose_time_has_passed_is_expired(tasks):
    @tasks.task(ttl=0.01)
    async def work() -> None: ...

    with pytest.raises(wherry.JobExpired):
        await (await work.send()).result(PATIENCE_S)


@pytest.mark.parametrize("sync", [False, True])
async def test_progress_is_seen(tasks, working, running, sync):
    end = threading.Event()

    def report() -> None:
        current().progress(0.25, "a quarter")
        end.wait(PATIENCE_S)

    async def report_async() -> None:
        current().progress(0.25, "a quarter")
        await asyncio.to_thread(end.wait, PATIENCE_S)

    work = tasks.task(name="work")(report if sync else report_async)
    async with working():
        handle = await work.send()
        async with asyncio.timeout(PATIENCE_S):
            while (status := await handle.status()).progress is None:
                pass
        assert (status.state, status.progress, status.note) == ("leased", 0.25, "a quarter")
        end.set()
        await handle.result(PATIENCE_S)


async def test_a_result_that_cannot_travel_fails_the_job(tasks, working):
    @tasks.task(retries=0)
    async def work() -> object:
        return object()

    async with working():
        with pytest.raises(wherry.JobFailed, match="a object cannot be sent"):
            await (await work.send()).result(PATIENCE_S)


async def test_it_all_goes_without_an_event_loop(tasks, working):
    @tasks.task
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    def program() -> list[int]:
        handles = [double.send_sync(1), *double.map_sync([2, 3])]
        assert handles[0].status().id == handles[0].id
        results = [handle.result(PATIENCE_S) for handle in handles]
        assert double.handle_sync(handles[0].id).result(PATIENCE_S) == 2
        late = double.options(delay=60).send_sync(4)
        assert late.cancel()
        with pytest.raises(wherry.JobCancelled):
            late.result(PATIENCE_S)
        tasks.close_sync()
        return results

    async with working():
        assert await asyncio.to_thread(program) == [2, 4, 6]
