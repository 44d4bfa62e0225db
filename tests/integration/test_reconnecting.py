"""A client that loses its connection goes on: what its user waits for comes, and nothing is done twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

import wherry
from patience import PATIENCE_S
from tcp_proxy import TcpProxy
from wherry.aio import link, reconnecting
from wherry.conversation import backoff

RESUME_MS = 20_000


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(backoff, "RECONNECT_BASE_S", 0.001)
    monkeypatch.setattr(backoff, "RECONNECT_CAP_S", 0.02)
    monkeypatch.setattr(link, "AWAY_S", 0.05)


@pytest.fixture
async def broker(harness):
    return await harness.broker(resume_ms=RESUME_MS)


@pytest.fixture
async def proxy(broker):
    async with TcpProxy(broker.host, broker.port) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy):
    client = await wherry.connect(proxy.url, timeout=PATIENCE_S)
    yield client
    await client.close()


async def until(true):
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 (what is waited for is state, which has no event)
            await asyncio.sleep(0.001)


async def lose(client, proxy):
    """Cuts the connection; returns once the client has noticed."""
    before = proxy.connected
    proxy.cut()
    await until(lambda: client.status != "connected" or proxy.connected > before)


async def test_a_publish_that_waits_is_confirmed_after_the_connection_was_lost(client, broker, proxy):
    queue = await client.declare("q")
    proxy.stall()
    waiting = [asyncio.ensure_future(queue.publish(b"%d" % n)) for n in range(20)]
    await asyncio.sleep(0.01)
    proxy.cut()
    proxy.flow()
    receipts = await asyncio.gather(*waiting)
    assert [each.offset for each in receipts] == list(range(1, 21))
    assert not any(each.duplicate for each in receipts)
    assert broker.counts("q") == (20, 0, 0, 0)


async def test_a_publish_whose_confirm_was_lost_is_stored_once(client, broker, proxy):
    queue = await client.declare("q")
    receipts = []
    for n in range(30):
        waiting = asyncio.ensure_future(queue.publish(b"%d" % n))
        await broker.until(lambda n=n: sum(broker.counts("q")) > n)
        proxy.cut()
        receipts.append(await waiting)
    assert [each.offset for each in receipts] == list(range(1, 31))
    assert broker.counts("q") == (30, 0, 0, 0)


async def test_a_publish_to_a_topic_whose_answer_was_lost_is_stored_once(client, broker, proxy):
    for name in ("one", "two"):
        await client.declare(name, bind=["orders.*"])
    topic, receipts = client.topic("orders.eu"), []
    for n in range(15):
        waiting = asyncio.ensure_future(topic.publish(b"%d" % n))
        await broker.until(lambda n=n: sum(broker.counts("two")) > n)
        proxy.cut()
        receipts.append(await waiting)
    assert receipts == [wherry.TopicReceipt("orders.eu", 2, "memory", False)] * 15
    assert broker.counts("one") == broker.counts("two") == (15, 0, 0, 0)


async def test_what_is_asked_without_a_connection_waits_for_one(client, broker, proxy):
    await client.declare("q")
    proxy.refuses = True
    await lose(client, proxy)
    queue = client.queue("q")
    asked = [asyncio.ensure_future(each) for each in (queue.publish(b"x"), queue.info(), queue.purge(), queue.get(1))]
    await asyncio.sleep(0.02)
    assert client.status == "reconnecting"
    assert not any(each.done() for each in asked)
    proxy.refuses = False
    receipt, info, purged, _ = await asyncio.gather(*asked)
    assert (receipt.offset, info.name, purged) == (1, "q", 1)


async def test_what_is_asked_without_a_connection_waits_no_longer_than_its_time(broker, proxy):
    async with wherry.connect(proxy.url, timeout=0.2) as client:
        proxy.refuses = True
        await lose(client, proxy)
        queue = client.queue("q")
        asked = (queue.publish(b"x"), queue.publish_many([b"y"]), queue.info(), queue.get(1))
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in outcomes] == [wherry.RequestTimeout] * 4
        assert client.status == "reconnecting"


async def test_a_request_that_may_do_harm_twice_is_not_made_again(client, proxy):
    queue = await client.declare("q")
    proxy.stall()
    purging, asking = asyncio.ensure_future(queue.purge()), asyncio.ensure_future(queue.info())
    await asyncio.sleep(0.01)
    proxy.cut()
    proxy.flow()
    with pytest.raises(wherry.Disconnected):
        await purging
    assert (await asking).name == "q"


async def test_consumers_go_on_and_keep_what_they_hold(client, broker, proxy):
    queue = await client.declare("q")
    await queue.publish_many([b"%d" % n for n in range(10)])
    consumer = queue.consume(credit=5)
    held = [await anext(consumer) for _ in range(3)]
    await lose(client, proxy)
    held += [await anext(consumer) for _ in range(2)]
    for message in held:
        await message.ack()
    rest = [await anext(consumer) for _ in range(5)]
    await queue.ack_many(rest)
    bodies = [int(each.body) for each in held + rest]
    assert bodies == list(range(10))
    assert {each.attempt for each in held + rest} == {1}
    assert broker.counts("q") == (0, 0, 0, 0)
    assert broker.shard.state.names["q"].removed == {"settled": 10}


async def test_a_settle_whose_answer_was_lost_is_no_stale_one(client, broker, proxy):
    queue = await client.declare("q")
    await queue.publish_many([b"x"] * 10)
    consumer = queue.consume()
    for n in range(10):
        settle = (await anext(consumer)).ack()
        await broker.until(lambda n=n: sum(broker.counts("q")) == 9 - n)
        proxy.cut()
        await settle
    assert broker.shard.state.names["q"].removed == {"settled": 10}


async def test_a_commit_whose_answer_was_lost_is_done_once(client, broker, proxy):
    queue = await client.declare("q")
    await queue.publish_many([b"x"] * 20)
    posted = []
    for n in range(20):
        (message,) = await queue.get(1, PATIENCE_S)
        waiting = asyncio.ensure_future(_moved(client, message, "r"))
        await broker.until(lambda n=n: broker.counts("q")[0] + broker.counts("q")[2] == 19 - n)
        proxy.cut()
        posted.append(await waiting)
    assert [each.id for each in posted] == [f"r/{n}" for n in range(1, 21)]
    assert not any(each.receipt.duplicate for each in posted)
    assert broker.counts("q") == (0, 0, 0, 0)
    assert broker.counts("r") == (20, 0, 0, 0)


async def _moved(client, message, to):
    async with client.transaction() as tx:
        tx.ack(message)
        return tx.publish(to, message.body)


async def test_a_commit_that_was_lost_on_its_way_is_made_after_all(client, broker, proxy):
    queue = await client.declare("q")
    await queue.publish(b"x")
    (message,) = await queue.get(1, PATIENCE_S)
    proxy.stall()
    waiting = asyncio.ensure_future(_moved(client, message, "r"))
    await asyncio.sleep(0.01)
    proxy.cut()
    proxy.flow()
    assert (await waiting).id == "r/1"
    assert broker.counts("q") == (0, 0, 0, 0)


async def test_a_reply_finds_a_requester_that_has_lost_its_connection(client, broker, proxy):
    async with wherry.connect(broker.url) as worker:
        asking = asyncio.ensure_future(client.queue("q").request(b"?", timeout=PATIENCE_S))
        (request,) = await worker.queue("q").get(1, PATIENCE_S)
        proxy.refuses = True
        await lose(client, proxy)
        await request.reply(b"!")
        proxy.refuses = False
        assert (await asking).body == b"!"


async def test_deliveries_that_were_lost_on_their_way_come_again_and_cost_nothing(client, broker, proxy):
    queue = await client.declare("q")
    consumer = queue.consume(credit=4)
    async with consumer:
        await client.ping()
        proxy.stall()
        broker_side = await wherry.connect(broker.url)
        async with broker_side:
            await broker_side.queue("q").publish_many([b"a", b"b"])
        await broker.until(lambda: broker.counts("q")[2] == 2)
        await asyncio.sleep(0.01)
        proxy.cut()
        proxy.flow()
        messages = [await anext(consumer) for _ in range(2)]
        assert [(each.body, each.attempt) for each in messages] == [(b"a", 1), (b"b", 1)]
        await queue.ack_many(messages)


async def test_who_comes_back_too_late_has_lost_its_leases(harness):
    broker = await harness.broker(resume_ms=0)
    async with TcpProxy(broker.host, broker.port) as proxy, wherry.connect(proxy.url, timeout=PATIENCE_S) as client:
        queue = await client.declare("q")
        await queue.publish(b"x")
        consumer = queue.consume(credit=1)
        message = await anext(consumer)
        await lose(client, proxy)
        again = await anext(consumer)
        assert message.lost
        with pytest.raises(wherry.StaleDelivery):
            await message.ack()
        assert (again.offset, again.attempt) == (1, 2)
        await again.ack()


async def test_a_broker_that_was_started_again_is_another_epoch(harness, tmp_path):
    first = await harness.broker(data=tmp_path, resume_ms=RESUME_MS)
    async with TcpProxy(first.host, first.port) as proxy, wherry.connect(proxy.url, timeout=PATIENCE_S) as client:
        queue = await client.declare("q")
        await queue.publish_many([b"a", b"b"])
        consumer = queue.consume(credit=2)
        old = await anext(consumer)
        await first.stop()
        second = await harness.broker(data=tmp_path, resume_ms=RESUME_MS)
        proxy._target = (second.host, second.port)
        await client.ping()
        again = [await anext(consumer) for _ in range(2)]
        assert [(each.body, each.token > old.token) for each in again] == [(b"a", True), (b"b", True)]
        with pytest.raises(wherry.StaleDelivery):
            await old.ack()
        await queue.ack_many(again)


async def test_the_status_is_told(broker, proxy):
    told = []
    async with wherry.connect(proxy.url, timeout=PATIENCE_S, on_status=told.append) as client:
        await lose(client, proxy)
        await client.ping()
    assert told == ["connected", "reconnecting", "connected", "closed"]


async def test_close_and_drain_work_without_a_connection(client, proxy):
    queue = await client.declare("q")
    await queue.publish_many([b"x"] * 3)
    consumer = queue.consume(credit=3)
    await anext(consumer)
    proxy.refuses = True
    await lose(client, proxy)
    await client.drain(0)
    with pytest.raises(StopAsyncIteration):
        await anext(consumer)
    await client.close()
    assert client.status == "closed"
    with pytest.raises(wherry.Disconnected):
        await queue.publish(b"x")


async def test_close_ends_an_attempt_that_waits_for_its_welcome(broker, proxy):
    """The socket of that attempt, lost as well, once began the next one, for a client that was closed."""
    client = await wherry.connect(proxy.url, timeout=PATIENCE_S)
    before = proxy.connected
    proxy.stall()
    proxy.cut()
    await until(lambda: proxy.connected > before and client._link.transport is not None)
    await client.close()
    connected = proxy.connected
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert client._link._reconnecting is None
    assert (client.status, proxy.connected) == ("closed", connected)


async def test_a_consumer_that_was_stopped_meanwhile_is_not_attached_again(client, broker, proxy):
    queue = await client.declare("q")
    await queue.publish_many([b"x"] * 3)
    consumer = queue.consume(credit=2)
    message = await anext(consumer)
    proxy.refuses = True
    await lose(client, proxy)
    await consumer.stop()
    proxy.refuses = False
    await message.ack()
    await client.ping()
    assert broker.consumers("q") == 0
    assert broker.counts("q") == (2, 0, 0, 0)


async def test_a_connection_that_is_silent_is_given_up(harness, monkeypatch):
    monkeypatch.setattr("wherry.aio.broker.HEARTBEAT_MS", 50)
    broker = await harness.broker(resume_ms=RESUME_MS)
    async with TcpProxy(broker.host, broker.port) as proxy, wherry.connect(proxy.url, timeout=PATIENCE_S) as client:
        proxy.stall()
        waiting = asyncio.ensure_future(client.ping())
        await until(lambda: client.status == "reconnecting")
        proxy.cut()
        proxy.flow()
        await waiting
        assert proxy.connected >= 2


async def test_who_is_not_wanted_any_more_is_told(harness, monkeypatch):
    broker = await harness.broker(token="old")
    async with TcpProxy(broker.host, broker.port) as proxy:
        client = await wherry.connect(proxy.url, token="old", timeout=PATIENCE_S)
        consumer = client.queue("q").consume()
        waiting = asyncio.ensure_future(anext(consumer))
        await client.ping()
        other = await harness.broker(token="new")
        proxy._target = (other.host, other.port)
        proxy.cut()
        with pytest.raises(wherry.Unauthenticated):
            await waiting
        assert client.status == "closed"
        await client.close()


async def test_another_address_is_tried(harness, tmp_path):
    first = await harness.broker()
    second = await harness.broker()
    url = f"wherry://127.0.0.1:1,{first.host}:{first.port},{second.host}:{second.port}"
    async with wherry.connect(url, timeout=PATIENCE_S) as client:
        await client.declare("one")
        await first.stop()
        await client.declare("two")
        assert list(second.shard.state.names) == ["two"]


async def test_an_address_that_hangs_up_is_not_the_last(broker, proxy):
    proxy.refuses = True
    told = []
    url = f"{proxy.url},{broker.host}:{broker.port}"
    async with wherry.connect(url, timeout=PATIENCE_S, on_status=told.append) as client:
        await client.declare("q")
    assert told == ["connected", "closed"]


async def test_an_attempt_that_is_given_up_keeps_no_other_from_coming(client, proxy, monkeypatch):
    """A socket that came while its attempt ended was kept, and never told that it was closed."""
    monkeypatch.setattr(reconnecting, "ATTEMPT_S", 0.02)
    proxy.stall()
    before = proxy.connected
    proxy.cut()
    await until(lambda: proxy.connected > before + 3)
    link = client._link
    late = link.make_connection()
    link.discard(wherry.Disconnected("given up"))

    class Dead:
        def set_write_buffer_limits(self, high, low):
            pass

        def abort(self):
            pass

    late.connection_made(Dead())
    assert link.transport is None
    proxy.flow()
    monkeypatch.setattr(reconnecting, "ATTEMPT_S", PATIENCE_S)
    await client.ping()


async def test_without_reconnecting_a_lost_connection_is_the_end(proxy):
    async with wherry.connect(proxy.url, reconnect=False) as client:
        queue = await client.declare("q")
        proxy.stall()
        waiting = asyncio.ensure_future(queue.publish(b"x"))
        await asyncio.sleep(0.01)
        proxy.cut()
        with pytest.raises(wherry.Disconnected):
            await waiting
        assert client.status == "closed"


@pytest.mark.parametrize("trouble", ["drip", "delay"])
async def test_a_bad_network_is_only_slow(client, proxy, trouble):
    queue = await client.declare("q")
    if trouble == "drip":
        proxy.drip_bytes = 7
    else:
        proxy.delay_s = 0.002
    async with queue.consume(credit=10) as consumer:
        await asyncio.gather(*(queue.publish(b"%d" % n) for n in range(50)))
        got = []
        async for message in consumer:
            got.append(int(message.body))
            await message.ack()
            if len(got) == 50:
                break
    assert got == list(range(50))


async def test_cuts_at_any_moment_lose_nothing_and_double_nothing(client, broker, proxy):
    """Bodies are counted where they are worked on: a settle that was confirmed is one piece of work done."""
    queue = await client.declare("q")
    draw, done, total = random.Random(1), Counter(), 1_500
    stopping = asyncio.Event()

    async def cut():
        while not stopping.is_set():
            await asyncio.sleep(draw.uniform(0, 0.02))
            proxy.cut()

    async def publish(numbers):
        for number in numbers:
            await queue.publish(b"%d" % number)

    async def consume():
        async for message in queue.consume(credit=30):
            try:
                await message.ack()
            except wherry.StaleDelivery:
                continue
            done[int(message.body)] += 1
            if len(done) == total:
                return

    cutting = asyncio.ensure_future(cut())
    async with asyncio.timeout(60):
        await asyncio.gather(consume(), *(publish(range(start, total, 30)) for start in range(30)))
    stopping.set()
    await cutting
    assert set(done.values()) == {1}
    assert broker.shard.state.names["q"].published.total == total
    assert proxy.connected > 10


def test_pauses_grow_and_are_drawn_from_all_of_them(monkeypatch):
    monkeypatch.setattr(backoff, "RECONNECT_BASE_S", 0.1)
    monkeypatch.setattr(backoff, "RECONNECT_CAP_S", 5.0)
    longest = [backoff.reconnect_pause_s(tries, 1.0) for tries in range(8)]
    assert longest == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.reconnect_pause_s(3, 0.0) == 0.0
    assert backoff.reconnect_pause_s(10_000, 0.5) == 2.5
    assert reconnecting.ATTEMPT_S > 0
