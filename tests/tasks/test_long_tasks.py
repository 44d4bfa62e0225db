"""Tasks that take many times as long as their lease run once: what they do does not keep the worker from renewing it.

WHERRY_TEST_TASK_S is for how long they run in the slow run, in seconds.
"""

from __future__ import annotations

import math
import os
from collections import Counter

import pytest
from held import LEASE_S, SHORT_S, computes, holds, holds_apart, waits
from held import tasks as held

from patience import PATIENCE_S
from wherry.aio import consumer
from wherry_broker.core.settling import Settling

TASK_S = float(os.environ.get("WHERRY_TEST_TASK_S", "20"))


@pytest.fixture
async def tasks(running):
    held.url = running.url
    yield held
    await held.close()


@pytest.fixture
def extended(monkeypatch):
    """How often the broker has extended a lease, by queue."""
    counts: Counter[str] = Counter()
    extend = Settling._extend

    def counted(self, queue, *rest):
        counts[queue.name] += 1
        extend(self, queue, *rest)

    monkeypatch.setattr(Settling, "_extend", counted)
    return counts


@pytest.mark.parametrize("seconds", [2.5 * LEASE_S, pytest.param(TASK_S, marks=pytest.mark.slow)])
async def test_they_run_once(working, extended, tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(consumer, "MAX_LEASE_S", LEASE_S)  # the hour after which other consumers lose a message
    told, long = tmp_path / "told", (waits, computes, holds_apart)
    async with working(concurrency=len(long)):
        jobs = [await task.send(seconds, str(told)) for task in long]
        assert [await job.result(seconds + PATIENCE_S) for job in jobs] == [1, 1, 1]
    assert sorted(told.read_text().splitlines()) == ["computes 1", "holds_apart 1", "waits 1"]
    least = math.ceil(seconds / LEASE_S) - 1
    assert all(extended[task.queue] >= least for task in long), (least, extended)


async def test_a_call_that_holds_the_interpreter_loses_its_lease(working, tmp_path):
    """It keeps all threads of its process from running, that one too which renews leases: it needs its own process."""
    told = tmp_path / "told"
    async with working():
        assert await (await holds.send(3.5 * SHORT_S, str(told))).result(PATIENCE_S) == 2
    assert told.read_text().splitlines() == ["holds 1", "holds 2"]
