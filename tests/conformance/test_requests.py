"""Requests and replies."""

from __future__ import annotations

import threading

import pytest

import wherry
from patience import PATIENCE_S


@pytest.fixture
def asked(client):
    """Asks in a thread of its own; the function that it returns gives the reply, or raises."""
    threads = []

    def ask(queue, *arguments, **options):
        outcome = []

        def run():
            try:
                outcome.append(client.queue(queue).request(*arguments, timeout=PATIENCE_S, **options))
            except wherry.WherryError as error:
                outcome.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)

        def reply():
            thread.join(PATIENCE_S)
            (found,) = outcome
            if isinstance(found, Exception):
                raise found
            return found

        return reply

    yield ask
    for thread in threads:
        thread.join(PATIENCE_S)


def test_a_request_gets_its_reply(site, broker, client, asked):
    other = site.client(broker)
    reply = asked("sums", json=[1, 2], headers={"kind": "sum"})
    (request,) = other.queue("sums").get(wait=PATIENCE_S)
    assert (request.json(), request.headers["kind"]) == ([1, 2], "sum")
    assert request.reply(json=3, headers={"by": "worker"}).durability == "memory"
    request.ack().wait()
    found = reply()
    assert (found.json(), found.headers["by"], found.settled) == (3, "worker", "ack")
    assert [each.name for each in client.queues()] == ["sums"]


def test_replies_find_their_requests_in_any_order(site, broker, client, asked):
    other = site.client(broker)
    replies = {body: asked("q", body) for body in ("a", "b", "c")}
    requests = []
    while len(requests) < 3:
        requests += other.queue("q").get(3, PATIENCE_S)
    for request in sorted(requests, key=lambda each: each.body, reverse=True):
        request.reply(request.body.upper())
        request.ack().wait()
    assert {body: reply().body for body, reply in replies.items()} == {"a": b"A", "b": b"B", "c": b"C"}


def test_nobody_answers(client):
    queue = client.queue("q")
    with pytest.raises(wherry.RequestTimeout, match=r"no reply to a request in q came within 0\.05 s") as caught:
        queue.request(b"anybody?", timeout=0.05)
    assert caught.value.outcome_unknown


def test_a_request_lives_as_long_as_somebody_waits_for_its_reply(client):
    queue = client.queue("q")
    with pytest.raises(wherry.RequestTimeout):
        queue.request(b"short", timeout=0.05)
    with pytest.raises(wherry.RequestTimeout):
        queue.request(b"long", timeout=0.05, ttl=60)
    assert [message.body for message in queue.get(2, PATIENCE_S)] == [b"long"]
    assert queue.info().removed == {"expired": 1}


def test_a_reply_that_comes_too_late_is_dropped(site, broker, client, asked):
    other = site.client(broker)
    with pytest.raises(wherry.RequestTimeout):
        client.queue("q").request(b"first", timeout=0.05, ttl=60)
    (late,) = other.queue("q").get(wait=PATIENCE_S)
    late.reply(b"late")
    late.ack().wait()
    reply = asked("q", b"second")
    (request,) = other.queue("q").get(wait=PATIENCE_S)
    request.reply(b"in time")
    assert reply().body == b"in time"


def test_a_requester_that_has_gone(site, broker):
    asker, worker = site.client(broker), site.client(broker)
    with pytest.raises(wherry.RequestTimeout):
        asker.queue("q").request(b"x", timeout=0.05, ttl=60)
    asker.close()
    (request,) = worker.queue("q").get(wait=PATIENCE_S)
    with pytest.raises(wherry.NotFound):
        request.reply(b"y")


def test_a_message_that_is_no_request(client):
    queue = client.queue("q")
    queue.publish(b"x")
    (message,) = queue.get(wait=PATIENCE_S)
    with pytest.raises(wherry.Invalid, match="q/1 is no request"):
        message.reply(b"y")


def test_a_reply_and_the_end_of_its_request_in_one_commit(site, broker, asked):
    other = site.client(broker)
    reply = asked("q", b"x")
    (request,) = other.queue("q").get(wait=PATIENCE_S)
    with other.transaction() as tx:
        tx.ack(request)
        tx.reply(request, json="done")
    assert reply().json() == "done"
    assert other.queue("q").info().leased == 0
