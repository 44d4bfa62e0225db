"""Stores of values by key, and topics."""

from __future__ import annotations

import pytest

import wherry
from patience import PATIENCE_S


def test_a_store(client):
    store = client.store("sessions")
    assert store.get("a") is None
    version = store.put("a", "one")
    assert store.put("a", b"two", if_version=version) > version
    with pytest.raises(wherry.Conflict):
        store.put("a", b"three", if_version=version)
    with pytest.raises(wherry.Conflict):
        store.put("a", b"a lock", if_version=0)
    store.put("b", b"3", ttl=3600)
    assert store.get_many(["a", "b", "none"]) == {"a": b"two", "b": b"3"}
    assert store.increment("b", 4) == 7
    assert store.expire("b", 60)
    assert store.entry("b").value == b"7"
    assert store.info().ready == 2
    assert store.delete("a", "none") == 1
    assert store.get("a") is None


def test_a_store_is_declared(client):
    store = client.store("small")
    store.declare(max_messages=1)
    store.put("a", b"1")
    with pytest.raises(wherry.Busy):
        store.put("b", b"2")
    with pytest.raises(wherry.ExistsDifferently):
        store.declare(max_messages=2)


def test_watching_a_value(client, together):
    store = client.store("watched")
    assert store.watch("a", 0.01) is None
    found, version = together(lambda: store.watch("a", PATIENCE_S), lambda: store.put("a", b"1"))
    assert (found.value, found.version) == (b"1", version)
    found, _ = together(lambda: store.watch("a", PATIENCE_S, after=version), lambda: store.put("a", b"2"))
    assert found.value == b"2"


def test_a_topic_reaches_every_queue_that_is_bound(client):
    one, other = client.declare("one", bind=["orders.*"]), client.declare("other", bind=["orders.>"])
    topic = client.topic("orders.eu")
    receipt = topic.publish(b"x", headers={"n": 1}, priority=3)
    assert receipt.queues == 2
    assert [each.queues for each in topic.publish_many([b"y", b"z"])] == [2, 2]
    for queue in (one, other):
        assert [each.body for each in queue.get(3, PATIENCE_S)] == [b"x", b"y", b"z"]
    with pytest.raises(wherry.Unroutable):
        client.topic("nowhere").publish(b"x")
    assert client.topic("nowhere").publish(b"x", allow_unroutable=True).queues == 0
    with pytest.raises(wherry.Invalid):
        client.topic("no pattern.*")


@pytest.mark.parametrize("log", ["memory"], indirect=True)  # it takes a second or two
def test_a_topic_waits_for_a_full_queue(client, together):
    full = client.declare("full", bind=["orders"], max_messages=1)
    topic = client.topic("orders")
    topic.publish(b"x")
    with pytest.raises(wherry.Busy):
        topic.publish(b"y", timeout=0)
    with pytest.raises(wherry.Busy) as caught:
        topic.publish_many([b"y"], timeout=0)
    assert caught.value.accepted == 0
    (message,) = full.get(wait=PATIENCE_S)
    receipt, _ = together(lambda: topic.publish(b"y"), lambda: message.ack().wait())
    assert receipt.queues == 1
