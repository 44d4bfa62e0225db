"""What comes of tracked messages: results, and why there is none."""

from __future__ import annotations

import threading

import pytest

import wherry
from patience import PATIENCE_S


@pytest.fixture
def receipt(client):
    return client.queue("jobs").publish(b"2 + 2", track=True)


def take(client):
    (message,) = client.queue("jobs").get(wait=PATIENCE_S)
    return message


def test_a_result_is_pushed_to_all_who_wait(site, broker, client, receipt):
    other, results = site.client(broker), []
    waits = [
        lambda: results.append(receipt.result(PATIENCE_S)),
        lambda: results.append(client.queue("jobs").result(receipt.offset, timeout=PATIENCE_S)),
        lambda: results.append(other.queue("jobs").result(receipt.id)),
    ]
    threads = [threading.Thread(target=wait) for wait in waits]
    for thread in threads:
        thread.start()
    take(other).ack(result="4").wait()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert results == [b"4"] * 3
    assert receipt.result(0) == b"4"


def test_a_long_wait_is_asked_for_slice_by_slice(client, receipt, monkeypatch):
    for shell in ("aio", "sync"):
        monkeypatch.setattr(f"wherry.{shell}.tracked.WAIT_SLICE_MS", 1)
    with pytest.raises(wherry.RequestTimeout, match="has not ended"):
        receipt.result(0.02)
    later = threading.Timer(0.02, lambda: take(client).ack(result="4").wait())
    later.start()
    assert receipt.result() == b"4"
    later.join(PATIENCE_S)


def test_how_it_ended_when_there_is_no_result(client, receipt):
    take(client).reject("no such sum").wait()
    with pytest.raises(wherry.JobFailed, match="no such sum"):
        receipt.result(PATIENCE_S)
    cancelled = client.queue("jobs").publish(b"3 + 3", track=True)
    client.queue("jobs").cancel(cancelled.id)
    with pytest.raises(wherry.JobCancelled):
        cancelled.result(PATIENCE_S)


def test_who_cannot_wait_for_a_result_is_told_so(client):
    queue = client.queue("jobs")
    untracked = queue.publish(b"x")
    with pytest.raises(wherry.Invalid, match="not tracked"):
        queue.result(untracked.id)
    with pytest.raises(ValueError, match="no message of queue 'jobs'"):
        queue.result("mails/1")
    with pytest.raises(wherry.NotFound):
        queue.result(untracked.offset + 1, timeout=PATIENCE_S)
