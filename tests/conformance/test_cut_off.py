"""A client that loses its connection goes on: what its user waits for comes, and nothing is done twice."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter

import pytest

import wherry
from patience import PATIENCE_S
from tcp_proxy import TcpProxy
from wherry.conversation import backoff

RESUME_MS = 20_000
CUTS = int(os.environ.get("WHERRY_TEST_SHELL_CUTS", "40"))


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(backoff, "RECONNECT_BASE_S", 0.001)
    monkeypatch.setattr(backoff, "RECONNECT_CAP_S", 0.02)
    monkeypatch.setattr("wherry.aio.link.AWAY_S", 0.05)
    monkeypatch.setattr("wherry.sync.link.AWAY_S", 0.05)


class Proxy:
    """A `TcpProxy` beside the broker, called from any thread."""

    def __init__(self, site, broker) -> None:
        self._site = site
        self.it = TcpProxy(broker.host, broker.port)
        site.on_broker(self.it.__aenter__)
        self.url = self.it.url

    def __getattr__(self, name: str):
        return lambda *arguments: self._site.on_broker(getattr(self.it, name), *arguments)

    def refuse(self, *, refuses: bool) -> None:
        self.it.refuses = refuses

    def end(self) -> None:
        self._site.on_broker(self.it.__aexit__, None, None, None)


@pytest.fixture
def broker(site):
    return site.broker(resume_ms=RESUME_MS)


@pytest.fixture
def proxy(site, broker):
    proxy = Proxy(site, broker)
    yield proxy
    proxy.end()


@pytest.fixture
def client(site, proxy):
    return site.client(proxy)


def test_a_publish_whose_confirm_was_lost_is_stored_once(site, client, broker, proxy, together):
    queue = client.declare("q")
    receipts = []

    def cut_after(number: int) -> None:
        site.until(lambda: broker.counts("q")[0] > number)
        proxy.cut()

    for number in range(10):
        receipt, _ = together(lambda: queue.publish(b"x"), lambda number=number: cut_after(number))
        receipts.append(receipt)
    assert [(each.offset, each.duplicate) for each in receipts] == [(offset, False) for offset in range(1, 11)]
    assert queue.info().published == 10


def test_what_is_asked_without_a_connection_waits_for_one(client, proxy, together):
    queue = client.declare("q")
    proxy.refuse(refuses=True)
    proxy.cut()

    def come_back() -> None:
        time.sleep(0.05)
        proxy.refuse(refuses=False)

    receipt, info, purged, got, _ = together(
        lambda: queue.publish(b"x"), queue.info, queue.purge, lambda: queue.get(1), come_back
    )
    assert (receipt.offset, info.name) == (1, "q")
    assert purged + len(got) <= 1


def test_what_is_asked_without_a_connection_waits_no_longer_than_its_time(site, proxy, together):
    client = site.client(proxy, timeout=0.2)
    proxy.refuse(refuses=True)
    proxy.cut()
    queue = client.queue("q")

    def refused(ask) -> None:
        with pytest.raises(wherry.RequestTimeout):
            ask()

    asks = (lambda: queue.publish(b"x"), lambda: queue.publish_many([b"y"]), queue.info, queue.get)
    together(*[lambda ask=ask: refused(ask) for ask in asks])
    assert client.status == "reconnecting"
    proxy.refuse(refuses=False)
    assert client.ping() > 0
    assert client.status == "connected"


def test_consumers_go_on_and_keep_what_they_hold(client, broker, proxy):
    queue = client.declare("q")
    queue.publish_many([b"%d" % n for n in range(10)])
    consumer = queue.consume(credit=5)
    held = [next(consumer) for _ in range(3)]
    proxy.cut()
    held += [next(consumer) for _ in range(2)]
    for message in held:
        message.ack().wait()
    rest = [next(consumer) for _ in range(5)]
    queue.ack_many(rest).wait()
    assert [int(each.body) for each in held + rest] == list(range(10))
    assert {each.attempt for each in held + rest} == {1}
    assert queue.info().removed == {"settled": 10}


def test_a_settle_whose_answer_was_lost_is_no_stale_one(site, client, broker, proxy):
    queue = client.declare("q")
    queue.publish_many([b"x"] * 10)
    consumer = queue.consume()
    for number in range(10):
        settle = next(consumer).ack()
        site.until(lambda number=number: sum(broker.counts("q")) == 9 - number)
        proxy.cut()
        settle.wait()
        client.ping()  # the answer may have come before the cut, which a blocking client sees in its next call
    assert queue.info().removed == {"settled": 10}


def test_an_iterator_that_waits_goes_on_by_itself(site, client, broker, proxy, together):
    queue = client.declare("q")
    consumer = queue.consume()

    def publish() -> None:
        site.until(lambda: broker.consumers("q") == 1)
        for number in range(5):
            proxy.cut()
            time.sleep(0.02)
            with site.shell.connect(broker.url) as other:
                other.queue("q").publish(b"%d" % number)

    def take() -> list[bytes]:
        bodies = []
        for message in consumer:
            with message:
                bodies.append(message.body)
            if len(bodies) == 5:
                return bodies
        return bodies

    bodies, _ = together(take, publish)
    assert sorted(bodies) == [b"0", b"1", b"2", b"3", b"4"]
    consumer.stop()


def test_who_comes_back_too_late_has_lost_its_leases(site):
    broker = site.broker(resume_ms=0)
    proxy = Proxy(site, broker)
    client = site.client(proxy)
    queue = client.declare("q")
    queue.publish(b"x")
    consumer = queue.consume(credit=1)
    message = next(consumer)
    proxy.cut()
    again = next(consumer)
    assert message.lost
    with pytest.raises(wherry.StaleDelivery):
        message.ack().wait()
    assert (again.offset, again.attempt) == (1, 2)
    again.ack().wait()
    client.close()
    proxy.end()


@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_a_broker_that_was_started_again_is_another_epoch(site, tmp_path):
    first = site.broker(resume_ms=RESUME_MS, data=tmp_path / "same")
    proxy = Proxy(site, first)
    client = site.client(proxy)
    queue = client.declare("q")
    queue.publish_many([b"a", b"b"])
    consumer = queue.consume(credit=2)
    old = next(consumer)
    site.on_broker(first.stop)
    second = site.broker(resume_ms=RESUME_MS, data=tmp_path / "same")
    proxy.it._target = (second.host, second.port)
    client.ping()
    again = [next(consumer) for _ in range(2)]
    assert [(each.body, each.token > old.token) for each in again] == [(b"a", True), (b"b", True)]
    with pytest.raises(wherry.StaleDelivery):
        old.ack().wait()
    queue.ack_many(again).wait()
    client.close()
    proxy.end()


def test_the_status_is_told(site, proxy):
    told: list[str] = []
    client = site.client(proxy, on_status=told.append)
    proxy.cut()
    time.sleep(0.01)
    client.ping()
    client.close()
    assert told == ["connected", "reconnecting", "connected", "closed"]


def test_who_is_told_the_status_may_use_the_client(site, broker, proxy, together):
    """It is told while it waits: the thread that reads may be the one that asks."""
    if site.shell.__class__.__name__ != "SyncShell":
        pytest.skip("a coroutine that is called back asks in a task of its own")
    found: list[int] = []
    told = threading.Event()

    def on_status(status: str) -> None:
        if status == "connected" and client_is_there.is_set():
            found.append(client.queue("told").publish(b"x").offset)
            told.set()

    client_is_there = threading.Event()
    client = site.client(proxy, on_status=on_status)
    client_is_there.set()
    consumer = client.queue("q").consume()

    def cut() -> None:
        site.until(lambda: broker.consumers("q") == 1)
        proxy.cut()
        assert told.wait(PATIENCE_S / 2)
        consumer.stop()

    together(lambda: next(consumer, None), cut)
    assert found == [1]


def test_draining_and_closing_without_a_connection(client, proxy):
    queue = client.declare("q")
    queue.publish_many([b"x"] * 3)
    consumer = queue.consume(credit=3)
    next(consumer)
    proxy.refuse(refuses=True)
    proxy.cut()
    client.drain(0)
    assert list(consumer) == []
    client.close()
    assert client.status == "closed"
    with pytest.raises(wherry.Disconnected):
        queue.publish(b"x")


def test_a_consumer_that_was_stopped_meanwhile_is_not_attached_again(site, client, broker, proxy):
    queue = client.declare("q")
    queue.publish_many([b"x"] * 3)
    consumer = queue.consume(credit=2)
    message = next(consumer)
    proxy.refuse(refuses=True)
    proxy.cut()
    consumer.stop()
    proxy.refuse(refuses=False)
    message.ack().wait()
    client.ping()
    assert broker.consumers("q") == 0
    site.until(lambda: broker.counts("q") == (2, 0, 0, 0))


def test_who_is_not_wanted_any_more_is_told(site):
    broker, other = site.broker(token="old"), site.broker(token="new")
    proxy = Proxy(site, broker)
    client = site.client(proxy, token="old")
    consumer = client.queue("q").consume(credit=1)
    client.queue("q").publish(b"x")
    next(consumer)
    proxy.it._target = (other.host, other.port)
    proxy.cut()
    with pytest.raises(wherry.Unauthenticated):
        next(consumer)
    assert client.status == "closed"
    client.close()
    proxy.end()


def test_another_address_is_tried(site):
    first, second = site.broker(), site.broker()
    url = f"wherry://127.0.0.1:1,{first.host}:{first.port},{second.host}:{second.port}"
    with site.shell.connect(url, timeout=PATIENCE_S) as client:
        client.declare("one")
        site.on_broker(first.stop)
        client.declare("two")
        assert list(second.shard.state.names) == ["two"]


def test_without_reconnecting_a_lost_connection_is_the_end(site, proxy):
    client = site.client(proxy, reconnect=False)
    queue = client.declare("q")
    proxy.cut()
    with pytest.raises(wherry.Disconnected):
        queue.publish(b"x")
    assert client.status == "closed"


@pytest.mark.parametrize("trouble", ["drip", "delay"])
def test_a_bad_network_is_only_slow(client, proxy, trouble, together):
    queue = client.declare("q")
    if trouble == "drip":
        proxy.it.drip_bytes = 7
    else:
        proxy.it.delay_s = 0.002

    def take() -> list[int]:
        got = []
        with queue.consume(credit=10) as consumer:
            for message in consumer:
                message.ack().wait()
                got.append(int(message.body))
                if len(got) == 30:
                    return got
        return got

    got, _ = together(take, lambda: [queue.publish(b"%d" % number) for number in range(30)])
    assert got == list(range(30))


class Load:
    """Threads that publish and work while the connection is cut again and again.

    Attributes:
        published: the numbers whose publish was confirmed.
        done: how often each number was settled, and that was confirmed.
    """

    LANES = 8

    def __init__(self, queue, proxy) -> None:
        self.published: list[int] = []
        self.done: Counter[int] = Counter()
        self._queue, self._proxy = queue, proxy
        self._consumer = queue.consume(credit=30)
        self._enough = threading.Event()
        self._lanes_left = self.LANES

    def cut(self) -> None:
        draw = random.Random(1)
        for _ in range(CUTS):
            time.sleep(draw.uniform(0, 0.02))
            self._proxy.cut()
        self._enough.set()

    def publish(self, lane: int) -> None:
        number = lane
        while not self._enough.is_set():
            self._queue.publish(b"%d" % number)
            self.published.append(number)
            number += self.LANES
        self._lanes_left -= 1

    def work(self) -> None:
        for message in self._consumer:
            try:
                message.ack().wait()
            except wherry.StaleDelivery:
                continue
            self.done[int(message.body)] += 1

    def finish(self) -> None:
        """Stops the workers once all is done."""
        self._enough.wait()
        deadline = time.monotonic() + PATIENCE_S
        while (self._lanes_left or len(self.done) < len(self.published)) and time.monotonic() < deadline:
            time.sleep(0.005)
        self._consumer.stop()


def test_cuts_at_any_moment_lose_nothing_and_double_nothing(client, proxy, together):
    """A settle that was confirmed is one piece of work done."""
    queue = client.declare("q")
    load = Load(queue, proxy)
    publishers = [lambda lane=lane: load.publish(lane) for lane in range(load.LANES)]
    together(load.cut, load.finish, *publishers, *[load.work] * 3)
    assert set(load.done) == set(load.published)
    assert set(load.done.values()) == {1}
    assert len(load.published) == len(set(load.published)) == queue.info().published
    assert proxy.it.connected > CUTS / 4
