"""Transactions of the asyncio client against a broker, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

import wherry
from patience import PATIENCE_S


@pytest.fixture
async def broker(running):
    async with wherry.connect(running.url) as client:
        yield client


async def held(queue, *bodies) -> list[wherry.Message]:
    """Messages that were published and taken."""
    await queue.publish_many(bodies)
    return await queue.get(len(bodies), PATIENCE_S)


async def committed(broker, *steps, timeout=None):
    """Takes steps in one transaction."""
    async with broker.transaction(timeout=timeout) as tx:
        for step in steps:
            step(tx)


async def counts(queue):
    info = await queue.info()
    return (info.ready, info.delayed, info.leased, info.dead)


async def test_all_of_it_is_done(broker):
    jobs, done = await broker.declare("jobs"), await broker.declare("done")
    one, two, three, four = await held(jobs, b"1", b"2", b"3", b"4")
    async with broker.transaction() as tx:
        tx.ack(one)
        tx.nack(two, ValueError("no"), delay=60)
        tx.reject(three, "never")
        tx.release(four)
        first = tx.publish(done, b"a", headers={"k": "v"}, priority=3)
        second = tx.publish("later", b"b", delay=60)
        assert await counts(jobs) == (0, 0, 4, 0)
    assert await counts(jobs) == (1, 1, 0, 1)
    assert (first.id, second.id) == ("done/1", "later/1")
    assert first.receipt.durability == "memory"
    (message,) = await done.get()
    assert (message.body, message.headers, message.priority) == (b"a", {"k": "v"}, 3)
    assert (await jobs.find(two.id)).error == "ValueError: no"
    with pytest.raises(wherry.AlreadySettled):
        one.ack()


async def test_a_block_that_raises_sends_nothing(broker):
    queue = await broker.declare("q")
    (message,) = await held(queue, b"1")
    with pytest.raises(ZeroDivisionError):
        await committed(broker, lambda tx: tx.ack(message), lambda tx: tx.publish(queue, b"2"), lambda _: 1 / 0)
    assert await counts(queue) == (0, 0, 1, 0)
    await message.ack()


async def test_a_lost_lease_refuses_all_of_it(broker):
    queue = await broker.declare("q")
    one, two = await held(queue, b"1", b"2")
    await queue.cancel(two.id)
    with pytest.raises(wherry.StaleDelivery, match=r"q/2 is not leased"):
        await committed(broker, lambda tx: tx.ack(one), lambda tx: tx.ack(two), lambda tx: tx.publish("r", b"x"))
    assert await counts(queue) == (0, 0, 1, 0)
    with pytest.raises(wherry.NotFound):
        await broker.queue("r").info()
    async with broker.transaction() as tx:
        tx.ack(one)
    assert await counts(queue) == (0, 0, 0, 0)


async def test_it_tries_again_while_a_queue_is_full(broker):
    jobs, full = await broker.declare("jobs"), await broker.declare("full", max_messages=1)
    (job,) = await held(jobs, b"1")
    (blocker,) = await held(full, b"1")

    steps = (lambda tx: tx.ack(job), lambda tx: tx.publish(full, b"2"))
    with pytest.raises(wherry.Busy) as caught:
        await committed(broker, *steps, timeout=0)
    assert (caught.value.queue, caught.value.bound) == ("full", "max_messages")
    assert not job.settled
    work = asyncio.create_task(committed(broker, *steps))
    await asyncio.sleep(0)
    await broker.ping()
    assert job.settled == "ack"
    await blocker.ack()
    async with asyncio.timeout(PATIENCE_S):
        await work
    assert await counts(full) == (1, 0, 0, 0)
    assert await counts(jobs) == (0, 0, 0, 0)


async def test_what_is_acknowledged_makes_room(broker):
    queue = await broker.declare("q", max_messages=1)
    (message,) = await held(queue, b"1")
    async with broker.transaction(timeout=0) as tx:
        tx.ack(message)
        tx.publish(queue, b"2")
    assert await counts(queue) == (1, 0, 0, 0)


async def test_who_is_cancelled_while_it_waits_leaves_the_messages_as_they_were(broker):
    jobs, full = await broker.declare("jobs"), await broker.declare("full", max_messages=1)
    (job,) = await held(jobs, b"1")
    await full.publish(b"1")
    work = asyncio.create_task(committed(broker, lambda tx: tx.ack(job), lambda tx: tx.publish(full, b"2")))
    await asyncio.sleep(0)
    await broker.ping()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not job.settled
    await job.ack()


async def test_an_answer_that_nobody_waits_for_counts_all_the_same(broker):
    queue = await broker.declare("q")
    (job,) = await held(queue, b"1")
    posted = []
    publish = lambda tx: posted.append(tx.publish("r", b"2"))  # noqa: E731 (a step like the others)
    work = asyncio.create_task(committed(broker, lambda tx: tx.ack(job), publish))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await broker.ping()
    assert job.settled == "ack"
    assert posted[0].id == "r/1"
    assert await counts(queue) == (0, 0, 0, 0)


async def test_credit_comes_back(broker):
    queue = await broker.declare("q")
    await queue.publish_many([b"x"] * 20)
    taken = 0
    async with queue.consume(credit=1) as consumer, asyncio.timeout(PATIENCE_S):
        async for message in consumer:
            async with message, broker.transaction() as tx:
                tx.ack(message)
                tx.publish("r", message.body)
            taken += 1
            if taken == 20:
                break
    assert await counts(queue) == (0, 0, 0, 0)
    assert await counts(broker.queue("r")) == (20, 0, 0, 0)


async def test_nothing_to_commit_is_nothing_to_send(running):
    broker = await wherry.connect(running.url)
    await broker.close()
    async with broker.transaction():
        pass
    with pytest.raises(wherry.Disconnected):
        await committed(broker, lambda tx: tx.publish("q", b"x"))
