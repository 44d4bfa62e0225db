"""Workflows: jobs that wait for others, as a sequential interpreter of the same workflow would have them."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest

import wherry
from patience import PATIENCE_S
from wherry.tasks import Reject, chain, chord, current, group


@pytest.fixture
def add(tasks):
    @tasks.task
    async def add(a: int, b: int) -> int:
        return a + b

    return add


@pytest.fixture
def total(tasks):
    @tasks.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    return total


@pytest.fixture
def fail(tasks):
    @tasks.task(retries=0)
    async def fail(*_: int) -> int:
        raise Reject("not today")

    return fail


async def test_a_chain_hands_each_result_on(working, add):
    async with working():
        flow = await (add.s(1, 2) | add.then(3) | add.then(b=4)).send()
        assert await flow.result(PATIENCE_S) == 10
        assert len(flow.jobs) == 3
        assert await (await chain(add.s(1, 2), add.si(5, 5)).send()).result(PATIENCE_S) == 10


async def test_a_group_is_done_side_by_side_and_a_chord_collects_it(working, add, total):
    async with working():
        handles = await group(add.s(n, n) for n in range(5)).send()
        assert [await handle.result(PATIENCE_S) for handle in handles] == [0, 2, 4, 6, 8]
        flow = await chord((add.s(n, 1) for n in range(100)), total.then()).send()
        assert await flow.result(PATIENCE_S) == sum(range(1, 101))
        assert await (await chord([add.s(1, 1)], total.then()).send()).result(PATIENCE_S) == 2


async def test_they_nest(working, add, total):
    inner = add.s(1, 1) | group([add.then(10), add.then(20) | add.then(5)]) | total.then()
    async with working():
        assert await (await chord([inner, add.s(0, 1)], total.then()).send()).result(PATIENCE_S) == 12 + 27 + 1


async def test_a_callback_has_results_in_the_order_of_the_calls_whichever_of_them_waited(tasks, working, add):
    @tasks.task
    async def listed(numbers: list[int]) -> list[int]:
        return numbers

    def call(n):
        return add.s(n, 0) | add.then(0) if n in (1, 4, 5) else add.s(n, 0)

    async with working():
        flow = await chord(map(call, range(8)), listed.then()).send()
        assert await flow.result(PATIENCE_S) == list(range(8))


async def test_what_fails_fails_all_that_waits_for_it(working, add, total, fail):
    async with working():
        flow = await (chord([add.s(1, 1), fail.s()], total.then()) | add.then(1)).send()
        with pytest.raises(wherry.JobFailed, match="which it waited for, is dead"):
            await flow.result(PATIENCE_S)


async def test_what_fails_may_be_collected(tasks, working, add, fail):
    @tasks.task
    async def kinds(results: list) -> list[str]:
        return [type(each).__name__ for each in results]

    async with working():
        flow = await chord([add.s(1, 1), fail.s()], kinds.then(), collects=True).send()
        assert await flow.result(PATIENCE_S) == ["int", "JobFailed"]


async def test_all_of_it_can_be_cancelled(running, working, add, total):
    flow = await chord([add.s(1, 1), add.s(2, 2)], total.then()).send()
    assert await flow.cancel()
    assert not await flow.cancel()
    assert running.counts(add.queue) == running.counts(total.queue) == (0, 0, 0, 0)
    with pytest.raises(wherry.JobCancelled):
        await flow.result(0)


async def test_none_of_it_dies_of_the_end_of_what_it_waits_for(running, tasks, working, add, total):
    flow = await (add.s(1, 1) | total.si([1]) | add.si(2, 2) | total.si([2])).send()
    assert await flow.cancel()
    for result in await (await tasks.broker()).results(flow.jobs):
        assert isinstance(result, wherry.JobCancelled)


async def test_a_cancel_reaches_what_its_jobs_have_sent(running, tasks, working, add, total):
    begun, stopped = asyncio.Event(), asyncio.Event()
    sent = []

    @tasks.task
    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    @tasks.task
    async def split() -> None:
        sent.append(await wait.send())
        sent.append(await add.options(delay=60).send(1, 1))
        sent.append(await chord([wait.si(), add.options(delay=60).s(1, 2)], total.then()).send())
        await asyncio.sleep(60)

    async with working() as worker:
        root = await split.send()
        await begun.wait()
        await running.until(lambda: len(sent) == 3)
        assert await root.cancel()
        await stopped.wait()
        await running.until(lambda: not worker.running)
    for handle in (root, *sent):
        with pytest.raises(wherry.JobCancelled):
            await handle.result(0)
    assert all(running.counts(name) == (0, 0, 0, 0) for name in (split.queue, wait.queue, add.queue, total.queue))


async def test_a_job_that_was_cancelled_sends_nothing_more(running, tasks, working, add):
    cancelled, refused = threading.Event(), []

    @tasks.task
    def stubborn() -> None:
        while not current().cancelled:
            time.sleep(0.001)
        for call in (lambda: add.send_sync(1, 1), (add.s(1, 1) | add.then(2)).send_sync):
            try:
                call()
            except wherry.StaleDelivery as error:
                refused.append(str(error))
        tasks.close_sync()
        cancelled.set()

    async with working() as worker:
        handle = await stubborn.send()
        await running.until(lambda: worker.running)
        await handle.cancel()
        await asyncio.to_thread(cancelled.wait)
        await running.until(lambda: not worker.running)
    assert len(refused) == 2
    assert all("has ended" in text for text in refused)
    assert running.counts(add.queue) == (0, 0, 0, 0)


async def test_it_goes_without_an_event_loop(working, tasks, add, total):
    def program():
        flow = chord([add.s(1, 1), add.s(2, 2)], total.then()).send_sync()
        handles = group([add.s(1, 2)]).send_sync()
        result = flow.result(PATIENCE_S), handles[0].result(PATIENCE_S)
        tasks.close_sync()
        return result

    async with working():
        assert await asyncio.to_thread(program) == (6, 3)


async def test_wrong_arguments_are_told_before_anything_is_sent(running, add):
    with pytest.raises(TypeError, match="too many positional arguments"):
        await (add.s(1, 2) | add.then(1, 2)).send()
    assert add.queue not in running.shard.state.names
    with pytest.raises(ValueError, match="at least one call"):
        group([])
    with pytest.raises(ValueError, match="ends in a call, not in a group"):
        await (add.s(1, 2) | group([add.then(1), add.then(2)])).send()


async def test_more_jobs_than_a_commit_takes(working, tasks, total):
    @tasks.task
    async def one(n: int) -> int:
        return n

    async with working(concurrency=200):
        flow = await chord((one.s(n) for n in range(10_500)), total.then()).send()
        assert await flow.result(4 * PATIENCE_S) == sum(range(10_500))


def invent(draw, add, total, depth, value):
    """A workflow, and what comes of it; `value` is what it is called with, None for nothing."""
    kind = draw.choice(["call", "call", "chain", "chord"]) if depth else "call"
    if kind == "call":
        b = draw.randrange(100)
        if value is None:
            return add.s(b, 1), b + 1
        return add.then(b), value + b
    if kind == "chain":
        first, result = invent(draw, add, total, depth - 1, value)
        second, result = invent(draw, add, total, depth - 1, result)
        return chain(first, second), result
    members = [invent(draw, add, total, depth - 1, value) for _ in range(draw.randint(1, 3))]
    return chain(group([each for each, _ in members]), total.then()), sum(result for _, result in members)


@pytest.mark.parametrize("seed", range(20))
async def test_any_workflow_comes_to_what_a_sequential_interpreter_comes_to(working, add, total, seed):
    draw = random.Random(seed)
    async with working(concurrency=draw.randint(1, 5)):
        flow, expected = invent(draw, add, total, 3, None)
        assert await (await flow.send()).result(PATIENCE_S) == expected
