"""The public API as type checkers see it: this is checked, by mypy and by pyright, and not run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import assert_type

import wherry
from wherry import sync


async def asynchronous() -> None:
    async with wherry.connect("wherry://localhost", token="t", timeout=5) as broker:
        assert_type(broker, wherry.Broker)
        assert_type(broker.status, str)
        queue = await broker.declare("q", max_messages=5, retry=wherry.Retry(base=timedelta(seconds=1)))
        assert_type(queue, wherry.Queue)
        assert_type(await queue.publish(b"x", headers={"n": 1}, delay=1.5, priority=3), wherry.Receipt)
        assert_type(await queue.publish_many([b"a", b"b"]), Sequence[wherry.Receipt])
        assert_type(await queue.get(5, wait=1), list[wherry.Message])
        assert_type(await queue.info(), wherry.QueueInfo)
        assert_type(await queue.peek(), list[wherry.PeekedMessage])
        assert_type(await broker.queues(), list[wherry.QueueCounts])
        assert_type(await broker.info(), wherry.BrokerInfo)
        async for message in queue.consume(credit=10, lease=60):
            assert_type(message, wherry.Message)
            async with message as same:
                assert_type(same, wherry.Message)
                assert_type(message.body, bytes)
            assert_type(message.ack(), wherry.Settlement)
            await message.nack(ValueError("no"), delay=timedelta(minutes=1))
        async for batch in queue.consume().batches(100):
            assert_type(batch, list[wherry.Message])
            await queue.ack_many(batch)
        async with broker.transaction() as tx:
            assert_type(tx, wherry.Transaction)
            assert_type(tx.publish(queue, b"x").id, str)
        assert_type(await broker.store("s").get("k"), bytes | None)
        assert_type((await broker.topic("t").publish(b"x")).queues, int)
        assert_type(await queue.dead.redrive(where=lambda each: each.reason == "attempts"), int)


async def awaited() -> None:
    assert_type(await wherry.connect(), wherry.Broker)


def blocking() -> None:
    with sync.connect("wherry://localhost", token="t", timeout=5) as broker:
        assert_type(broker, sync.Broker)
        assert_type(broker.status, str)
        queue = broker.declare("q", max_messages=5, retry=wherry.Retry(base=timedelta(seconds=1)))
        assert_type(queue, sync.Queue)
        assert_type(queue.publish(b"x", headers={"n": 1}, delay=1.5, priority=3), wherry.Receipt)
        assert_type(queue.publish_many([b"a", b"b"]), Sequence[wherry.Receipt])
        assert_type(queue.get(5, wait=1), list[sync.Message])
        assert_type(queue.info(), wherry.QueueInfo)
        assert_type(queue.peek(), list[wherry.PeekedMessage])
        for message in queue.consume(credit=10, lease=60, wait=5):
            assert_type(message, sync.Message)
            with message as same:
                assert_type(same, sync.Message)
            assert_type(message.ack(), sync.Settlement)
            message.nack(ValueError("no"), delay=timedelta(minutes=1)).wait(timeout=5)
        for batch in queue.consume().batches(100):
            assert_type(batch, list[sync.Message])
            queue.ack_many(batch).wait()
        with broker.transaction() as tx:
            assert_type(tx, sync.Transaction)
            assert_type(tx.publish(queue, b"x").id, str)
        assert_type(broker.store("s").get("k"), bytes | None)
        assert_type(broker.topic("t").publish(b"x").queues, int)
        assert_type(queue.dead.redrive(where=lambda each: each.reason == "attempts"), int)
