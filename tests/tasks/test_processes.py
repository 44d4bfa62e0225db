"""Sync tasks in processes of their own: they compute beside the others, and can be killed."""

from __future__ import annotations

import sys

import pytest

import wherry
from patience import PATIENCE_S
from wherry.tasks import group

MODULE = """
import os, time
from wherry.tasks import Reject, Tasks, current

tasks = Tasks({url!r}, timeout=30)

@tasks.task(process=True)
def pid(a: int) -> tuple[int, int]:
    print("this is no answer")
    current().progress(0.5, "half")
    return a, os.getpid()

@tasks.task(process=True)
def total(numbers: list[int], more: int = 0) -> int:
    return sum(numbers) + more

@tasks.task(process=True, retries=0)
def fail() -> None:
    raise ValueError("no")

@tasks.task(process=True, timeout=0.2, grace=60, retries=0)
def slow() -> None:
    while True:
        time.sleep(0.01)

@tasks.task(process=True, timeout=0.2, grace=0.2, retries=0)
def deaf() -> None:
    while True:
        try:
            time.sleep(60)
        except TimeoutError:
            pass

@tasks.task(process=True, retries=1, back_off={back_off})
def dies_once(flag: str) -> int:
    if current().attempt == 1:
        os.kill(os.getpid(), 9)
    return current().attempt
"""


@pytest.fixture
def tasks(running, tmp_path, monkeypatch):
    back_off = "__import__('wherry').Retry(base=0)"
    (tmp_path / "jobs_of_this_test.py").write_text(MODULE.format(url=running.url, back_off=back_off))
    monkeypatch.syspath_prepend(tmp_path)
    import jobs_of_this_test  # noqa: PLC0415 (it is written here)

    yield jobs_of_this_test.tasks
    del sys.modules["jobs_of_this_test"]


@pytest.fixture
async def done(tasks, working):
    """What comes of the jobs of these tasks."""

    async def done(name, *args):
        task = tasks.known[f"jobs_of_this_test.{name}"]
        return await (await task.send(*args)).result(PATIENCE_S)

    async with working(concurrency=2):
        yield done
    await tasks.close()


async def test_they_run_elsewhere_and_are_used_again(done):
    first, second = await done("pid", 1), await done("pid", 2)
    assert (first[0], second[0]) == (1, 2)
    assert first[1] == second[1]


async def test_they_are_called_with_the_results_of_those_that_they_wait_for(tasks, done):
    total = tasks.known["jobs_of_this_test.total"]
    flow = await (group([total.s([1, 2]), total.s([3])]) | total.then(more=10)).send()
    assert await flow.result(PATIENCE_S) == 16


async def test_they_fail_as_others_do(done):
    with pytest.raises(wherry.JobFailed, match="ValueError: no"):
        await done("fail")


async def test_they_may_tidy_up_when_their_time_is_over(done):
    with pytest.raises(wherry.JobFailed, match=r"TimeoutError: it ran for 0\.2 s"):
        await done("slow")


async def test_those_that_do_not_end_are_killed(done):
    with pytest.raises(wherry.JobFailed, match=r"TimeoutError: it did not end in .* s, and its process was killed"):
        await done("deaf")


async def test_one_that_dies_is_a_failed_attempt(done):
    assert await done("dies_once", "x") == 2
