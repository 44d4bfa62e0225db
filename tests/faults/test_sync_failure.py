"""A sync that fails once: what it covered is never confirmed, and the broker ends at once without a second try.

Linux forgets a failed write with the sync that tells of it: the next sync succeeds, and the data is gone. So here the
next one would succeed too, and whatever was not synced before is cut off when the broker has ended.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress

import pytest

import wherry
from faults import tracing
from faults.tracing import Broker, Fault, attached, note, read_trace
from faults.workload import OPTIONS, Account, check_restart, lose_unsynced
from serving import DEADLINE_S
from wherry_broker.app import EXIT_LOG_FAILED

PUBLISHERS = 8
SYNCS_MAX = 60
FEW, MANY = 3, 20
CUT_OFF = (wherry.Disconnected, wherry.RequestTimeout)


@pytest.fixture(autouse=True)
def strace() -> None:
    tracing.need_strace()


async def publish(queue: wherry.Queue, account: Account, name: int) -> None:
    for number in range(1000):
        await account.publish(queue, f"{name}/{number} ".encode().ljust(200, b"."))


async def consume(queue: wherry.Queue, account: Account) -> None:
    while True:
        for message in await queue.get(2, wait=1):
            await account.ack(message)


async def work(url: str, account: Account) -> int:
    """Publishers and a consumer, until the broker goes away; returns how many of them were told so."""
    async with asyncio.timeout(DEADLINE_S), wherry.connect(url, reconnect=False) as broker:
        queue = await broker.declare("jobs")
        workers = [publish(queue, account, name) for name in range(PUBLISHERS)]
        told = await asyncio.gather(*workers, consume(queue, account), return_exceptions=True)
    assert all(isinstance(each, CUT_OFF) for each in told), told
    return len(told)


def fail_sync(folder, when: int) -> Account:
    """The `when`th sync of a broker that is at work fails."""
    folder.mkdir()
    account = Account()
    with Broker(folder, folder / "data", *OPTIONS) as broker:
        assert broker.port, broker.said()
        with attached(broker, Fault("fdatasync", "EIO", when)):
            with suppress(*CUT_OFF):
                assert asyncio.run(work(broker.url, account)) == PUBLISHERS + 1
            assert broker.wait() == EXIT_LOG_FAILED, broker.said()
    assert account.unsure, "somebody waited for that sync"
    failed = [line for line in broker.said().splitlines() if "log_failed" in line]
    assert len(failed) == 1
    assert "Input/output error" in failed[0]
    calls = read_trace(broker.trace)
    position = next(n for n, call in enumerate(calls) if call.faulted)
    assert calls[position + 1 :] == [], "the writer went on after a failed sync"
    lose_unsynced(broker)
    check_restart(folder, broker.data, account, f"sync {when}")
    shutil.rmtree(folder)
    return account


def fail_syncs(folder, count: int) -> None:
    confirmed = unsure = 0
    for number in range(count):
        account = fail_sync(folder / str(number), 2 + number * SYNCS_MAX // count)
        confirmed += len(account.confirmed)
        unsure += len(account.unsure)
    note(f"{count} failed syncs: {confirmed} messages confirmed before, none lost; {unsure} left without an answer")


def test_a_failed_sync(tmp_path):
    fail_syncs(tmp_path, FEW)


@pytest.mark.slow
def test_many_failed_syncs(tmp_path):
    fail_syncs(tmp_path, MANY)
