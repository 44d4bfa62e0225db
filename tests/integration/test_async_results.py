"""Tracked messages by the asyncio client against a broker, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

import wherry
from patience import PATIENCE_S
from wherry.aio import tracked


@pytest.fixture
async def broker(running):
    async with wherry.connect(running.url, name="web") as broker:
        yield broker


@pytest.fixture
async def worker(running):
    async with wherry.connect(running.url, name="worker-1") as broker:
        yield broker


async def test_a_result_is_pushed_to_all_who_wait(broker, worker):
    queue = broker.queue("jobs")
    receipt = await queue.publish(b"2 + 2", track=True)
    waiting = [asyncio.create_task(receipt.result(PATIENCE_S)) for _ in range(3)]
    waiting.append(asyncio.create_task(worker.queue("jobs").result(receipt.id)))
    (message,) = await worker.queue("jobs").get(wait=PATIENCE_S)
    await message.ack(result="4")
    assert [await each for each in waiting] == [b"4"] * 4
    assert await receipt.result(0) == b"4"


async def test_who_waits_no_more_does_not_keep_the_connection_open(running):
    async with wherry.connect(running.url) as broker:
        receipt = await broker.queue("jobs").publish(b"never done", track=True)
        waiting = asyncio.create_task(receipt.result())
        assert (await receipt.status()).state == "ready"
        assert broker._link.conversation.unanswered == 1
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert broker._link.conversation.unanswered == 0


async def test_how_a_job_stands(broker, worker):
    queue = broker.queue("jobs")
    first, second = await queue.publish_many([b"a", b"b"], track=True)
    assert ((await second.status()).state, (await second.status()).position) == ("ready", 1)
    assert (await second.status()).why == "no consumer is attached"
    (message,) = await worker.queue("jobs").get(wait=PATIENCE_S)
    await message.progress(0.5, "half of it")
    status = await first.status()
    assert (status.state, status.leased_by, status.progress, status.note) == ("leased", "worker-1", 0.5, "half of it")
    assert "it is leased to worker-1 since" in status.why
    await message.ack()
    status = await queue.status(first.offset)
    assert (status.state, status.result, status.has_ended) == ("settled", b"", True)
    assert [(event.what, event.who) for event in status.history] == [
        ("published", "web"),
        ("leased", "worker-1"),
        ("settled", "worker-1"),
    ]


async def test_results_of_one_turn_travel_together_and_stay_apart(broker, worker):
    queue = worker.queue("jobs")
    receipts = await broker.queue("jobs").publish_many([b"%d" % n for n in range(50)], track=True)
    messages = await queue.get(50, wait=PATIENCE_S)
    await asyncio.gather(*(each.ack(each.body * 2) if each.offset % 3 else each.ack() for each in messages))
    results = await asyncio.gather(*(each.result(PATIENCE_S) for each in receipts))
    expected = {each.offset: each.body * 2 if each.offset % 3 else b"" for each in messages}
    assert results == [expected[each.offset] for each in receipts]


async def reject(broker, message):
    await message.reject("spam")


async def cancel(broker, message):
    await broker.queue("jobs").cancel(message.id)


async def remove(broker, message):
    await message.release()
    await broker.queue("jobs").purge()


@pytest.mark.parametrize(
    ("end", "kind", "state", "error"),
    [
        (reject, wherry.JobFailed, "dead", "spam"),
        (cancel, wherry.JobCancelled, "cancelled", ""),
        (remove, wherry.JobRemoved, "purged", ""),
    ],
)
async def test_a_job_that_ends_otherwise_raises_how(broker, worker, end, kind, state, error):
    receipt = await broker.queue("jobs").publish(b"a", track=True)
    (message,) = await worker.queue("jobs").get(wait=PATIENCE_S)
    waiting = asyncio.create_task(receipt.result(PATIENCE_S))
    await end(worker, message)
    with pytest.raises(kind) as raised:
        await waiting
    assert isinstance(raised.value, wherry.NoResult)
    assert (raised.value.state, raised.value.error) == (state, error)


async def test_a_job_that_expires(broker):
    receipt = await broker.queue("jobs").publish(b"a", track=True, ttl=0.05)
    with pytest.raises(wherry.JobExpired):
        await receipt.result(PATIENCE_S)


async def test_waiting_may_end_before_the_job(broker, monkeypatch):
    monkeypatch.setattr(tracked, "WAIT_SLICE_MS", 10)
    receipt = await broker.queue("jobs").publish(b"a", track=True)
    with pytest.raises(wherry.RequestTimeout, match="has not ended: no consumer is attached"):
        await receipt.result(0.05)
    with pytest.raises(TimeoutError):
        await receipt.result(0)


async def test_only_what_is_tracked_can_be_waited_for(broker):
    queue = broker.queue("jobs")
    receipt = await queue.publish(b"a")
    assert type(receipt) is wherry.Receipt
    for timeout in (None, 0):
        with pytest.raises(wherry.Invalid, match="is not tracked"):
            await queue.result(receipt.id, timeout)
    with pytest.raises(wherry.NotFound):
        await queue.status(99)
    with pytest.raises(wherry.NotFound):
        await queue.result(99)


async def test_what_cannot_be_a_result_or_progress_is_refused_here(broker):
    queue = broker.queue("jobs")
    await queue.publish(b"a", track=True)
    (message,) = await queue.get(wait=PATIENCE_S)
    with pytest.raises(wherry.TooLarge):
        message.ack(bytes(1_048_577))
    with pytest.raises(TypeError):
        message.ack(5)
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            message.progress(fraction)
    await message.ack(bytes(1_048_576))
    with pytest.raises(wherry.AlreadySettled):
        message.progress(1)
    assert await queue.result(message.id) == bytes(1_048_576)


async def test_a_transaction_settles_with_results_and_publishes_what_is_tracked(broker, worker):
    queue = broker.queue("jobs")
    receipts = await queue.publish_many([b"a", b"b", b"c"], track=True)
    first, second, third = await worker.queue("jobs").get(3, wait=PATIENCE_S)
    async with worker.transaction() as tx:
        tx.ack(first, result="one")
        tx.ack(second)
        tx.ack(third, b"three")
        child = tx.publish("next", b"x", track=True)
        tx.publish("next", b"y")
    assert [await each.result(PATIENCE_S) for each in receipts] == [b"one", b"", b"three"]
    assert (await worker.queue("next").status(child.id)).tracked
    assert not (await worker.queue("next").status(child.receipt.offset + 1)).tracked
