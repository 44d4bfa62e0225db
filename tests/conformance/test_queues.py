"""Connecting, queues, and what one can look at and change."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

import wherry
from patience import PATIENCE_S


def test_it_connects_and_closes(site, broker):
    client = site.client(broker, name="tester")
    assert client.status == "connected"
    assert client.ping() > 0
    client.close()
    assert client.status == "closed"
    with pytest.raises(wherry.Disconnected):
        client.ping()
    client.close()
    site.until(lambda: not broker.connections)


def test_it_is_a_context_manager(site, broker):
    with site.client(broker) as client:
        assert client.queues() == []
    assert client.status == "closed"


def test_a_token_is_shown(site):
    broker = site.broker(token="s3cret")
    for token, problem in (("", "missing"), ("guess", "wrong")):
        with pytest.raises(wherry.Unauthenticated, match=problem):
            site.client(broker, token=token)
    assert site.client(broker, token="s3cret").status == "connected"
    address = f"wherry://any:s3cret@{broker.host}:{broker.port}"
    with site.shell.connect(address) as client:
        assert client.ping() > 0


def test_nobody_listens(site, broker):
    site.on_broker(broker.listener.stop_accepting)
    with pytest.raises(wherry.Disconnected, match=str(broker.port)):
        site.client(broker, timeout=5)


def test_a_broker_that_says_nothing(site):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(wherry.RequestTimeout, match="no broker answered") as caught:
            site.shell.connect(f"wherry://127.0.0.1:{port}", timeout=0.05)
    assert not caught.value.outcome_unknown


def test_an_answer_that_does_not_come(site, broker):
    client = site.client(broker, timeout=0.05)
    connection = next(iter(broker.connections))
    site.on_broker(lambda: connection.hold_reading(hold=True))
    with pytest.raises(wherry.RequestTimeout) as caught:
        client.ping()
    assert caught.value.outcome_unknown
    with pytest.raises(wherry.RequestTimeout):
        client.queue("q").publish(b"x")
    site.on_broker(lambda: connection.hold_reading(hold=False))
    client.queue("q").publish(b"y", timeout=PATIENCE_S)
    assert [each.body for each in client.queue("q").peek()] == [b"x", b"y"]


def test_declare(client):
    queue = client.declare("emails", max_messages=5, lease=30, retry=wherry.Retry(base=1, factor=2, cap=300))
    assert queue.name == "emails"
    options = queue.info().options
    assert (options["max_messages"], options["lease_ms"], options["retry_cap_ms"]) == (5, 30_000, 300_000)
    client.declare("emails", max_messages=5)
    with pytest.raises(wherry.ExistsDifferently, match="max_messages is 5, not 6"):
        client.declare("emails", max_messages=6)
    with pytest.raises(wherry.Invalid, match="max_mesages"):
        client.declare("other", max_mesages=6)
    with pytest.raises(wherry.Invalid):
        client.queue("no/name")


def test_the_broker_says_how_it_is(client):
    before = client.info()
    client.queue("q").publish(b"x" * 1000)
    durability = client.queue("q").info().options["durability"]
    assert (before.clients, before.durability, before.memory_bytes_max >= 0) == (1, durability, True)
    assert client.info().memory_bytes >= before.memory_bytes + 1000


def test_info_names_consumers(client):
    queue = client.queue("q")
    queue.publish_many([b"x"] * 3)
    assert len(queue.get(2)) == 2
    with queue.consume(credit=5):
        (attached,) = queue.info().attached
        assert isinstance(attached.client, str)
        assert attached[1:] == (1, 4)


def test_info_and_queues(client):
    for number in range(105):
        client.declare(f"q{number:03}")
    client.queue("q003").publish(b"x")
    queues = client.queues("q0")
    assert [each.name for each in queues] == [f"q{number:03}" for number in range(100)]
    assert queues[3].ready == 1
    assert len(client.queues()) == 105
    assert client.queues("none") == []
    info = client.queue("q003").info()
    assert (info.name, info.ready, info.leased, info.published) == ("q003", 1, 0, 1)
    with pytest.raises(wherry.NotFound, match="'none'"):
        client.queue("none").info()


def test_pause_and_resume(client):
    queue = client.declare("q")
    queue.pause()
    queue.publish(b"x")
    assert queue.get() == []
    assert queue.info().options["paused"] is True
    queue.resume()
    (message,) = queue.get(wait=PATIENCE_S)
    message.ack().wait()


def test_peek(client):
    queue = client.queue("q")
    queue.publish(b"a", headers={"kind": "first"})
    queue.publish_many([b"b", b"c", b"d"], priority=3, key="user-17")
    seen = queue.peek(3)
    assert seen[0].headers == {"kind": "first"}
    assert (seen[1].priority, seen[1].key, seen[1].id) == (3, "user-17", "q/2")
    assert [each.body for each in queue.peek(first=4)] == [b"d"]
    assert queue.peek(state="dead") == []
    assert len(queue.get(4, PATIENCE_S)) == 4  # peeking took nothing
    assert [each.attempt for each in queue.peek(state="leased")] == [1] * 4


def test_peeking_goes_on_until_it_has_as_many_as_were_asked_for(client):
    queue = client.queue("q")
    queue.publish_many([b"x" * 100_000] * 25)  # three replies long
    assert [each.offset for each in queue.peek(24)] == list(range(1, 25))
    assert [each.offset for each in queue.peek(24, first=24)] == [24, 25]


def test_purge(client):
    queue = client.queue("q")
    queue.publish_many([b"x"] * 3)
    queue.publish(b"later", delay=60)
    (held,) = queue.get(wait=PATIENCE_S)
    assert queue.purge("ready") == 2
    assert queue.purge() == 1
    assert queue.purge("dead") == 0
    with pytest.raises(wherry.Invalid, match="leased"):
        queue.purge("leased")
    held.ack().wait()


def test_delete_stops_consumers(client, together):
    queue = client.queue("q")
    queue.publish(b"x")
    consumer = queue.consume()
    message = next(consumer)

    def wait() -> None:
        with pytest.raises(wherry.NotFound, match="was deleted"):
            next(consumer)

    deleted, _ = together(queue.delete, wait)
    assert deleted == 1
    with pytest.raises(wherry.NotFound):
        message.ack().wait()
    with pytest.raises(wherry.NotFound):
        queue.delete()


def test_without_auto_declare_an_unknown_queue_is_not_found(site):
    queue = site.client(site.broker(auto_declare=False)).queue("q")
    for ask in (lambda: queue.publish(b"x"), queue.get, lambda: next(queue.consume())):
        with pytest.raises(wherry.NotFound):
            ask()


def test_options_can_be_altered_while_a_queue_runs(client):
    queue = client.declare("q", max_messages=10)
    queue.publish_many([b"x"] * 5)
    info = queue.alter(max_messages=5, max_leased=2, key_weights={"gold": 4}, ttl=60)
    assert (info.ready, info.options["max_messages"], info.options["ttl_ms"]) == (5, 5, 60_000)
    assert info.options["key_weights"] == {"gold": 4}
    with pytest.raises(wherry.Busy):
        queue.publish(b"x", timeout=0)
    assert len(queue.get(5, PATIENCE_S)) == 2
    with pytest.raises(wherry.NotFound):
        client.queue("other").alter(max_leased=1)


def test_finding_one_message_whatever_its_state(client):
    queue = client.declare("q", max_attempts=1)
    queue.publish(b"ready", headers={"n": 1})
    queue.publish(b"later", delay=timedelta(minutes=1), ttl=3600)
    ready, later = queue.find("q/1"), queue.find(2)
    assert (ready.state, ready.body, ready.headers, ready.due_at) == ("ready", b"ready", {"n": 1}, None)
    assert (later.state, (later.due_at - later.published_at).seconds) == ("delayed", 60)
    assert (later.expires_at - later.published_at).seconds == 3600
    (message,) = queue.get(wait=PATIENCE_S)
    assert queue.find(1).state == "leased"
    message.nack("no luck").wait()
    dead = queue.find(1)
    assert (dead.state, dead.reason, dead.error, dead.attempt) == ("dead", "attempts", "no luck", 1)
    with pytest.raises(wherry.NotFound, match="q/3"):
        queue.find(3)
    for wrong in ("other/1", "q/x", "q", "/1"):
        with pytest.raises(ValueError, match=wrong):
            queue.find(wrong)


def test_cancel_reaches_every_state_and_tells_who_holds_it(client):
    queue = client.declare("q", max_attempts=1)
    queue.publish_many([b"held", b"in the buffer", b"dead", b"ready"])
    queue.publish(b"later", delay=60)
    with queue.consume(credit=3) as consumer:
        held = next(consumer)
        assert queue.cancel(held.id, 2, "q/5") == 3
        third = next(consumer)  # the second one is gone from the buffer
        assert (third.offset, third.cancelled, held.cancelled) == (3, False, True)
        with pytest.raises(wherry.StaleDelivery):
            held.ack().wait()
        third.reject().wait()
        fourth = next(consumer)  # the credit of the cancelled ones came back
        assert fourth.offset == 4
        fourth.ack().wait()
    assert queue.cancel(3, 3, 4) == 1
    info = queue.info()
    assert (info.ready, info.delayed, info.leased, info.dead) == (0, 0, 0, 0)
    assert info.removed == {"settled": 1, "cancelled": 4}


def test_the_dead_are_listed_redriven_and_purged(client):
    queue = client.declare("q", max_attempts=2, retry=wherry.Retry(base=0))
    other = client.declare("other", max_messages=2)
    for number in range(4):
        queue.publish(b"%d" % number, headers={"n": number}, key="k" if number % 2 else "", priority=3)
    for message in queue.get(4, PATIENCE_S):
        message.reject(f"reason {message.offset}").wait()
    dead = list(queue.dead.messages())
    assert [(each.offset, each.error, each.reason) for each in dead] == [
        (offset, f"reason {offset}", "rejected") for offset in range(1, 5)
    ]
    assert queue.dead.redrive(where=lambda each: each.key == "k", dry_run=True) == 2
    assert queue.dead.redrive(where=lambda each: each.headers["n"] == 3) == 1
    (again,) = queue.get(4, PATIENCE_S)
    assert (again.offset, again.attempt, again.token.attempt) == (4, 1, 2)  # attempts begin anew, the token does not
    again.ack().wait()
    with pytest.raises(wherry.TooLarge, match="3 messages"):
        queue.dead.redrive("other")
    assert queue.dead.redrive("other", lambda each: each.offset < 3, rate=1000) == 2
    found = sorted((each.body, each.key, each.priority) for each in other.get(4, PATIENCE_S))
    assert found == [(b"0", "", 3), (b"1", "k", 3)]
    with pytest.raises(wherry.NotFound):
        queue.dead.redrive("nowhere")
    assert queue.dead.purge(lambda each: each.key == "k") == 0
    assert queue.dead.purge() == 1
    assert queue.info().removed == {"settled": 1, "moved": 2, "purged": 1}
