from __future__ import annotations

from types import SimpleNamespace

import pytest

from wherry.model import commands
from wherry_broker.core import decide, records
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.refusal import Refusal


def full(make_queue, *bodies, **options):
    driver = make_queue(QueueOptions(**options))
    for body in bodies:
        driver.publish(body)
    return driver.queue


def refusal(call, *args, **more):
    with pytest.raises(Refusal) as caught:
        call(*args, **more)
    return caught.value


@pytest.mark.parametrize(
    ("attempts", "ms"), [(1, 1_000), (2, 2_000), (5, 16_000), (9, 256_000), (10, 300_000), (10**6, 300_000)]
)
def test_back_off_doubles_up_to_its_cap(attempts, ms):
    assert decide.back_off_max_ms(QueueOptions(), attempts) == ms


def test_a_back_off_of_any_size_is_a_number():
    options = QueueOptions(retry_base_ms=86_400_000, retry_factor=100.0)
    assert decide.back_off_max_ms(options, 10**6) == options.retry_cap_ms


def test_neighbouring_ranges_are_joined():
    assert records.joined([(1, 3), (3, 4), (5, 6)]) == ((1, 4), (5, 6))
    assert records.joined([]) == ()


def publish(**more):
    return commands.Publish(1, "q", bytes(4), **more)


@pytest.mark.parametrize(
    ("command", "options", "expires_at_ms", "ready_at_ms"),
    [
        (publish(), {}, 0, 0),
        (publish(delay_ms=5), {}, 0, 105),
        (publish(delay_ms=5, at_ms=110), {}, 0, 110),
        (publish(delay_ms=50, at_ms=110), {}, 0, 150),
        (publish(at_ms=100), {}, 0, 0),
        (publish(ttl_ms=7), {}, 107, 0),
        (publish(ttl_ms=7), {"ttl_ms": 5}, 105, 0),
        (publish(ttl_ms=7), {"ttl_ms": 9}, 107, 0),
        (publish(), {"ttl_ms": 9}, 109, 0),
        (publish(ttl_ms=7, delay_ms=6), {}, 107, 106),
    ],
)
def test_moments_of_an_envelope(make_queue, command, options, expires_at_ms, ready_at_ms):
    queue = make_queue(QueueOptions(**options)).queue
    envelope, found_ready_at_ms = decide.envelope_of(queue, command, 100)
    assert (envelope.published_at_ms, envelope.expires_at_ms, found_ready_at_ms) == (100, expires_at_ms, ready_at_ms)


@pytest.mark.parametrize("command", [publish(ttl_ms=7, delay_ms=7), publish(ttl_ms=7, at_ms=999), publish(priority=3)])
def test_envelopes_that_make_no_sense(make_queue, command):
    queue = make_queue(QueueOptions(priorities=3)).queue
    assert refusal(decide.envelope_of, queue, command, 100).code == "invalid"


def test_a_level_that_the_log_does_not_give_is_refused(make_shard):
    state = make_shard().shard.state
    assert refusal(decide.declare, state, "q", {"durability": "synced"}, QueueOptions(), "memory").code == "invalid"
    (declared,) = decide.declare(state, "q", {"durability": "written"}, QueueOptions(), "synced")
    assert declared.options["durability"] == "written"


def test_a_purge_looks_at_no_more_than_there_is_to_purge(make_queue, monkeypatch):
    """A purge of the dead, of which there were none, looked at a million messages that were ready."""
    queue = full(make_queue, b"a", b"b", b"c")
    monkeypatch.setattr(queue, "spans", None)
    assert decide.purge(queue, ["dead", "delayed"], 5) == []
    monkeypatch.undo()
    holder = SimpleNamespace(spans={})
    for _ in range(2):
        queue.lease(queue.head(0)[0], 1, holder, 0, 100)
    queue.bury(2, 3, decide.Failure("rejected", "", 1), "rejected")
    queue.bury(1, 2, decide.Failure("rejected", "", 2), "rejected")
    monkeypatch.setattr(queue, "spans", None)
    assert decide.purge(queue, ["dead"], 5) == [records.Removed(1, "purged", ((1, 3),), 5)]
