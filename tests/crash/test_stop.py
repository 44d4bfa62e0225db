"""A broker that is told to end, under load and while it recovers: everything is answered, and nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

import wherry
from crash.broker import Broker
from crash.cycles import STRONG, rounds, run_round
from crash.history import Recorder

if TYPE_CHECKING:
    from crash.cycles import Round

STOPS = int(os.environ.get("WHERRY_TEST_STOPS", "5"))
"""How many cycles."""
DRAIN_S = 10.0
LATE_S = 20.0
"""How much later than that a busy machine may let it end."""
LONG_S = 3600


def end(here: Round) -> None:
    """SIGTERM; the broker has to end in order and in time."""
    started = time.monotonic()
    here.broker.stop()
    code = here.broker.wait(DRAIN_S + LATE_S)
    assert code == 0, here.broker.said()
    assert time.monotonic() - started < DRAIN_S + LATE_S


def test_a_broker_that_is_told_to_end_does_so_and_loses_nothing(tmp_path):
    for seed, count in rounds(STOPS, "stop"):
        figures = run_round(tmp_path / seed, tmp_path / f"{seed}.data", STRONG, seed, count, end)
        assert figures.stops > count


@pytest.fixture
def served(tmp_path):
    """Makes brokers, with options."""
    record = Recorder(tmp_path / "broker.jsonl")
    brokers = []

    def make(*options: str) -> Broker:
        brokers.append(Broker(tmp_path, tmp_path / "data", record, *options))
        brokers[-1].begin()
        brokers[-1].wait_ready()
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.end()
    record.close()


async def _hold_one(broker: Broker) -> wherry.Broker:
    """A client that holds a message, and does not settle it though the broker asks it to."""
    client = await wherry.connect(broker.url, reconnect=False)
    queue = client.queue("q")
    await queue.publish(b"held")
    await queue.publish(b"waiting")
    consumer = queue.consume(1)
    message = await anext(consumer)
    assert message.body == b"held"
    broker.stop()
    with pytest.raises(wherry.Draining):
        await anext(consumer)
    with pytest.raises(wherry.Draining):
        await queue.publish(b"too late")
    return client


async def _bodies(broker: Broker) -> list[bytes]:
    async with wherry.connect(broker.url) as client:
        return [message.body for message in await client.queue("q").peek()]


async def test_a_second_signal_ends_it_at_once(served):
    broker = served("--drain-s", str(LONG_S))
    client = await _hold_one(broker)
    assert broker.process.poll() is None
    broker.stop()
    assert broker.wait() == 128 + signal.SIGTERM
    await client.close()
    assert await _bodies(served()) == [b"held", b"waiting"]


async def test_it_does_not_wait_for_those_who_settle_nothing_longer_than_it_is_told_to(served):
    broker = served("--drain-s", "0.2")
    client = await _hold_one(broker)
    assert broker.wait() == 0
    assert "drain_timed_out" in broker.said()
    await client.close()
    assert await _bodies(served()) == [b"held", b"waiting"]
