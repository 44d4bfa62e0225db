"""The wall clock is set while a real broker runs, and between two starts of it: by an hour, and by ten years.

libfaketime makes up the wall clock and leaves the monotonic one alone, as a real machine does.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import wherry
from faults.tracing import Broker, need_program, note
from installing import skip_loudly
from serving import DEADLINE_S

if TYPE_CHECKING:
    from wherry.delivery import Token

HOUR, YEAR = 3_600, 365 * 86_400
JUMPS = [*(pytest.param(by_s, marks=pytest.mark.slow) for by_s in (HOUR, -HOUR, 10 * YEAR)), -10 * YEAR]
EARLY_S = 0.010
"""K8: how much earlier than asked a delayed message may come."""
LATE_S = 20.0
"""And how much later, on a machine that has much else to do; the jumps are an hour and more."""
DELAY_S = 1.0


@pytest.fixture
def wall(tmp_path) -> Wall:
    need_program("faketime", "faketime")
    return Wall(tmp_path)


class Wall:
    """The wall clock of the brokers that are started with it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall"
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        if library is None:
            skip_loudly("the package faketime has no libfaketimeMT.so.1")
        settings = (f"FAKETIME_TIMESTAMP_FILE={self._file}", "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")
        self.prefix = ("env", f"LD_PRELOAD={library}", *settings)
        self.set(0)

    def set(self, by_s: int) -> None:
        """It is this much ahead of the truth from now on."""
        self._file.write_text(f"{by_s:+d}\n", "utf-8")


async def take(queue: wherry.Queue, body: bytes) -> tuple[wherry.Message, float]:
    """Takes and settles a message, which is the one with that body; when it came."""
    (message,) = await queue.get(1, wait=DEADLINE_S)
    arrived = time.monotonic()
    assert message.body == body
    await message.ack()
    return message, arrived


async def publish(queue: wherry.Queue, body: bytes, **options: float) -> float:
    """Publishes; when that began."""
    began = time.monotonic()
    await queue.publish(body, **options)
    return began


def check_delay(began: float, arrived: float) -> float:
    late_s = arrived - began - DELAY_S
    assert -EARLY_S <= late_s <= LATE_S, f"{late_s:.3f} s late"
    return late_s


async def jump_while_it_runs(url: str, wall: Wall, by_s: int) -> float:
    """A delay, a lease and a time to live that the clock is set during; how late the delayed message came."""
    async with wherry.connect(url) as broker:
        queue = await broker.declare("jobs", retry=wherry.Retry(base=0, cap=0), lease=DELAY_S)
        short = await broker.declare("short")
        await short.publish(b"short", ttl=DELAY_S)
        long = await broker.declare("long")
        await long.publish(b"long", ttl=DEADLINE_S)
        await queue.publish(b"held")
        (held,) = await queue.get(1, wait=DEADLINE_S, lease=DEADLINE_S)
        began = await publish(queue, b"later", delay=DELAY_S)
        wall.set(by_s)
        assert (await long.info()).ready == 1
        late_s = check_delay(began, (await take(queue, b"later"))[1])
        await held.ack()
        assert (await short.info()).ready == 0
        began = await publish(queue, b"after", delay=DELAY_S)
        check_delay(began, (await take(queue, b"after"))[1])
    return late_s


@pytest.mark.parametrize("by_s", JUMPS)
def test_a_jump_while_it_runs(tmp_path, wall, by_s):
    with Broker(tmp_path, tmp_path / "data", prefix=wall.prefix) as broker:
        assert broker.port, broker.said()
        late_s = asyncio.run(jump_while_it_runs(broker.url, wall, by_s))
        assert broker.stop() == 0
    note(
        f"the clock set by {by_s:+d} s while it runs: a message delayed by {DELAY_S} s came {late_s * 1000:.1f} ms late"
    )


async def before(url: str) -> tuple[Token, float]:
    """What waits when the broker ends; the token of a delivery, and when the wait began."""
    async with wherry.connect(url) as broker:
        queue = await broker.declare("jobs", dedupe_window=DELAY_S)
        await publish(queue, b"once", dedupe="once")
        once, _ = await take(queue, b"once")
        await (await broker.declare("short")).publish(b"short", ttl=DELAY_S)
        return once.token, await publish(queue, b"later", delay=DELAY_S)


async def after(url: str, token: Token, began: float, started: float, *, backward: bool) -> float:
    """Nothing waits longer than was asked, counted from the start; how long the message had waited when it came."""
    async with wherry.connect(url) as broker:
        queue, short = broker.queue("jobs"), broker.queue("short")
        message, arrived = await take(queue, b"later")
        assert arrived - started <= DELAY_S + LATE_S
        if backward:
            assert arrived - began >= DELAY_S - EARLY_S
        await asyncio.sleep(max(0.0, started + DELAY_S + EARLY_S - time.monotonic()))
        assert (await short.info()).ready == 0
        assert not (await queue.publish(b"again", dedupe="once")).duplicate
        assert message.token > token
    return arrived - began


@pytest.mark.parametrize("by_s", JUMPS)
def test_a_jump_across_a_restart(tmp_path, wall, by_s):
    with Broker(tmp_path, tmp_path / "data", prefix=wall.prefix) as broker:
        assert broker.port, broker.said()
        token, began = asyncio.run(before(broker.url))
        broker.kill()
    wall.set(by_s)
    with Broker(tmp_path, tmp_path / "data", prefix=wall.prefix) as broker:
        assert broker.port, broker.said()
        waited_s = asyncio.run(after(broker.url, token, began, time.monotonic(), backward=by_s < 0))
        assert broker.stop() == 0
    shutil.rmtree(tmp_path / "data")
    note(f"the clock set by {by_s:+d} s before a restart: a message delayed by {DELAY_S} s came after {waited_s:.2f} s")
