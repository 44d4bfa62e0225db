"""The application whose workers are hurt: calls that leave an effect, and return what they are and by which attempt."""

from __future__ import annotations

import asyncio
import os
import random
import time
from zlib import crc32

from chaos.ledger import Effect, Given, Ledger
from wherry.tasks import Retry, Tasks, current

RETRIES = 999_999
"""No job ever dies of its attempts: how often workers are killed is not its fault."""
LEASE_S = 1.0
WORK_S = (0.0, 0.04)

tasks = Tasks(
    prefix="chaos",
    timeout=60,
    defaults={"retries": RETRIES, "back_off": Retry(base=0.01), "queue_options": {"lease": LEASE_S}},
)
_ledgers: list[Ledger] = []

Result = tuple[str, int, tuple[int, int]]


def value_of(name: str, before: list[int]) -> int:
    """What a call comes to, from the values of those before it."""
    return crc32(f"{name}:{before}".encode())


def _leave(name: str, before: list[Result]) -> Result:
    """Leaves the effect of this attempt; returns its result."""
    if not _ledgers:
        _ledgers.append(Ledger(os.environ["CHAOS_LEDGER"]))
    job = current()
    value, token = value_of(name, [each[1] for each in before]), (job.token.epoch, job.token.attempt)
    _ledgers[0].add(Effect(name, job.id, token, value, tuple(Given(*each) for each in before)))
    return name, value, token


@tasks.task
async def begin(name: str) -> Result:
    """The first call of a workflow, or of a part of it."""
    await asyncio.sleep(random.uniform(*WORK_S))
    return _leave(name, [])


@tasks.task
def step(before: Result, name: str) -> Result:
    """A call after another one, in a thread."""
    time.sleep(random.uniform(*WORK_S))
    return _leave(name, [before])


@tasks.task
async def join(before: list[Result], name: str) -> Result:
    """The callback of a chord."""
    await asyncio.sleep(random.uniform(*WORK_S))
    return _leave(name, before)


@tasks.task(process=True)
def apart(before: list[Result], name: str) -> Result:
    """The callback of a chord, in a process that outlives the worker that is killed."""
    time.sleep(random.uniform(*WORK_S))
    return _leave(name, before)
