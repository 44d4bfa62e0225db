"""Why a message is not worked on: each reason, in the words that users read."""

from __future__ import annotations

import pytest

from wherry.model import commands
from wherry_broker.core import why
from wherry_broker.core.options import QueueOptions

ACK, NACK, REJECT = range(3)


class Asking:
    def __init__(self, driver):
        self.driver = driver

    def why(self, offset=1, queue="q"):
        found = self.driver.shard.state.names[queue]
        return why.why(found, found.span_at(offset), offset, self.driver.now)


@pytest.fixture
def ask(make_shard):
    def asking(**options):
        return Asking(make_shard(QueueOptions(**options)))

    return asking


def test_the_queue_is_paused(ask):
    asking = ask(paused=True)
    asking.driver.publish(b"a")
    asking.driver.consume()
    assert asking.why() == "the queue is paused"


def test_no_consumer_is_attached(ask):
    asking = ask()
    asking.driver.publish(b"a")
    assert asking.why() == "no consumer is attached"


def test_as_many_are_leased_as_may_be(ask):
    asking = ask(max_leased=2)
    asking.driver.publish(b"a", b"b", b"c")
    asking.driver.consume()
    assert asking.why(3) == "max_leased is reached: 2 of 2 messages are leased"


def test_the_rate_is_spent(ask):
    asking = ask(rate_per_s=0.5)
    asking.driver.publish(b"a", b"b")
    asking.driver.consume()
    assert asking.why(2) == "rate_per_s is spent: the next delivery is at 1970-01-01T00:00:03.000Z"


def test_asking_arms_no_timer(ask):
    asking = ask(rate_per_s=0.5)
    asking.driver.publish(b"a", b"b")
    asking.driver.consume(credit=1)
    before = asking.driver.shard.next_deadline_ms()
    asking.why(2)
    assert asking.driver.shard.next_deadline_ms() == before


def test_another_message_of_the_key_is_leased(ask):
    asking = ask(ordered=True)
    asking.driver.publish(b"a", b"b", key="k")
    asking.driver.consume()
    assert asking.why(2) == "key 'k' is busy: another message of it is leased, and the queue is ordered"


def test_another_message_of_the_key_waits_for_its_next_attempt(ask):
    asking = ask(ordered=True)
    asking.driver.publish(b"a", b"b", key="k")
    asking.driver.consume()
    asking.driver.settle(NACK, (1, 1, 1), duration_ms=500)
    assert asking.why(2).startswith("key 'k' is busy: another message of it waits for its next attempt")


def test_as_many_of_the_key_are_leased_as_may_be(ask):
    asking = ask(key_max_leased=1)
    asking.driver.publish(b"a", b"b", key="k")
    asking.driver.consume()
    assert asking.why(2) == "key_max_leased of key 'k' is reached: 1 of its messages are leased"


def test_the_rate_of_the_key_is_spent(ask):
    asking = ask(key_rate_per_s=0.5)
    asking.driver.publish(b"a", b"b", key="k")
    asking.driver.consume()
    assert asking.why(2) == "key_rate_per_s of key 'k' is spent: its next delivery is at 1970-01-01T00:00:03.000Z"


def test_a_key_of_which_nothing_is_leased_holds_nothing_up(ask):
    asking = ask(ordered=True)
    asking.driver.publish(b"a", key="k")
    asking.driver.consume(credit=0)
    assert asking.why() == "it is next; the consumer has as much as it can take"


def test_others_go_before_it(ask):
    asking = ask()
    asking.driver.publish(b"a", b"b", b"c")
    asking.driver.publish(b"d", priority=3)
    asking.driver.consume(credit=1)
    asking.driver.consume(2, credit=0)
    busy = "all 2 consumers have as much as they can take"
    assert asking.why(1) == f"it is next; {busy}"
    assert asking.why(2) == f"1 message goes before it, of 3 that are ready; {busy}"
    assert asking.why(3) == f"2 messages go before it, of 3 that are ready; {busy}"
    asking.driver.settle(ACK, (4, 1, 1))
    asking.driver.now += 100
    assert "a second are settled" in asking.why(3)


def test_there_is_an_end_to_looking(ask, monkeypatch):
    monkeypatch.setattr(why, "LOOK_SPANS_MAX", 2)
    asking = ask()
    for number in range(4):
        asking.driver.publish(b"x", key=str(number))
    asking.driver.consume(credit=0)
    assert asking.why(4).startswith("at least 2 messages go before it, of 4 that are ready")


def test_it_is_delayed(ask):
    asking = ask()
    asking.driver.publish(b"a", delay_ms=500)
    assert asking.why() == "it is delayed until 1970-01-01T00:00:01.500Z"


def test_its_last_attempt_failed(ask):
    asking = ask()
    asking.driver.publish(b"a")
    asking.driver.consume()
    asking.driver.settle(NACK, (1, 1, 1), duration_ms=500, text="no such host")
    assert asking.why() == "it is delayed until 1970-01-01T00:00:01.500Z: attempt 1 failed: no such host"


def test_somebody_works_on_it(ask):
    asking = ask()
    worker = asking.driver.shard.attach(1 << 30, name="worker-3")
    asking.driver.publish(b"a", track=True)
    asking.driver.publish(b"b")
    asking.driver.submit(commands.Consume, 1, "q", 10, session=worker)
    began, until = "since 1970-01-01T00:00:01.000Z", "until 1970-01-01T00:00:31.000Z"
    assert asking.why(1) == f"it is leased to worker-3 {began}, attempt 1, {until}"
    assert asking.why(2) == f"it is leased to worker-3, attempt 1, {until}"


def test_a_client_need_not_have_a_name(ask):
    asking = ask()
    asking.driver.publish(b"a")
    asking.driver.consume()
    assert "it is leased to a client without a name, attempt 1" in asking.why()


def test_it_is_dead(ask):
    asking = ask()
    asking.driver.publish(b"a", b"b")
    asking.driver.consume()
    asking.driver.settle(REJECT, (1, 1, 1), text="spam")
    asking.driver.settle(REJECT, (2, 1, 1))
    assert (asking.why(1), asking.why(2)) == ("it is dead: rejected: spam", "it is dead: rejected")


def test_a_store_delivers_nothing(ask):
    asking = ask()
    asking.driver.submit(commands.Put, "s", "k", block=b"x")
    assert asking.why(1, "s") == "it is a value of a store, which delivers none"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ({"state": "settled", "at_ms": 1_000}, "it is settled since 1970-01-01T00:00:01.000Z"),
        (
            {"state": "dead", "at_ms": 1_000, "reason": "rejected", "error": "spam"},
            "it is dead: rejected: spam",
        ),
    ],
)
def test_it_has_ended(status, text):
    assert why.ended(status) == text
