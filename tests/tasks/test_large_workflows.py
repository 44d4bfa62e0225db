"""Workflows of many jobs: each is done once, and what waits for them is called once, with all results in order."""

from __future__ import annotations

from collections import Counter

import pytest

from wherry.tasks import chain, chord

DEADLINE_S = 600


@pytest.mark.parametrize(
    ("jobs", "waiting"),
    [(1_500, 300), pytest.param(10_000, 0, marks=pytest.mark.slow), pytest.param(100_000, 0, marks=pytest.mark.slow)],
)
async def test_all_jobs_once_and_one_callback_with_the_results_in_order(tasks, working, jobs, waiting):
    done: Counter[int] = Counter()
    reduced = []

    @tasks.task
    async def square(n: int) -> int:
        done[n] += 1
        return n * n

    @tasks.task
    async def plus(n: int, more: int) -> int:
        return n + more

    @tasks.task
    async def reduce(numbers: list[int]) -> int:
        reduced.append(numbers)
        return sum(numbers)

    every = jobs // waiting if waiting else jobs + 1
    calls = (chain(square.s(n), plus.then(0)) if n % every == every - 1 else square.s(n) for n in range(jobs))
    async with working(concurrency=200):
        flow = await chord(calls, reduce.then()).send()
        expected = [n * n for n in range(jobs)]
        assert await flow.result(DEADLINE_S) == sum(expected)
    assert reduced == [expected]
    assert done == Counter(range(jobs))
