"""Clients that lose their connection and come back."""

from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry_broker.core import consumers, sessions
from wherry_broker.core.effects import Delivery

RESUME_MS = 5_000
ROOM = 1 << 30


@pytest.fixture(name="driver")
def _driver(make_shard):
    driver = make_shard(resume_ms=RESUME_MS)
    come(driver)
    return driver


def come(driver, producer="4f2a", owner="me"):
    driver.session = driver.shard.attach(ROOM, producer, owner)


def lose(driver):
    """The connection is lost, as the broker sees it."""
    driver.shard.detach(driver.session, driver.now, resumes=True)
    driver.shard.dispatch(driver.now)
    return driver.commit()


def attach_again(driver, *held, number=1, epoch=1, **more):
    """What is said to a consumer that comes back: the stale ranges, and the deliveries."""
    said = driver.submit(commands.Consume, number, "q", 1000, epoch=epoch, held=held, **more)
    (done,) = (each for each in said if isinstance(each, replies.Done))
    return done.stale, [each.row[:4] for each in said if isinstance(each, Delivery)]


def leases_of(driver, first=1):
    span = driver.shard.state.names["q"].span_at(first)
    return span.consumer


def test_what_was_leased_outlives_the_connection(driver):
    driver.publish(b"a", b"b")
    driver.consume()
    lose(driver)
    assert driver.shard.leased == 2
    driver.wait(RESUME_MS - 1)
    assert driver.shard.leased == 2


def test_who_comes_back_is_told_what_it_holds_no_longer_before_it_is_delivered_anything(driver):
    driver.publish(b"a")
    driver.consume()
    lose(driver)
    come(driver)
    driver.publish(b"b", priority=9)
    driver.hold(commands.Consume, 1, "q", 1000, epoch=1)
    driver.shard.dispatch(driver.now)
    assert driver.said() == []
    assert [type(each) for each in driver.commit()] == [replies.Done, Delivery, Delivery]


def test_it_is_lost_when_the_client_does_not_come_back_in_time(driver):
    driver.publish(b"a", b"b")
    driver.consume()
    lose(driver)
    driver.wait(RESUME_MS)
    come(driver, "another")
    assert driver.counts() == (2, 0, 0, 0)
    assert driver.consume() == [(1, 2, 2)]
    assert leases_of(driver).session.number == driver.session


def test_leases_run_on_meanwhile(driver):
    driver.publish(b"a")
    driver.consume(lease_ms=1_000)
    lose(driver)
    driver.wait(1_000)
    come(driver, "another")
    assert driver.consume() == [(1, 1, 2)]


@pytest.mark.parametrize("lease_ms", [RESUME_MS - 1, RESUME_MS, RESUME_MS + 1])
def test_a_lease_is_lost_once_although_it_and_who_holds_it_are_over_when_the_broker_looks(driver, lease_ms):
    """The broker stood still meanwhile: its process was stopped, or its machine busy."""
    driver.publish(b"a", b"b")
    driver.consume(lease_ms=lease_ms)
    lose(driver)
    driver.wait(2 * RESUME_MS)
    come(driver, "another")
    assert driver.consume() == [(1, 2, 2)]


def test_nothing_is_delivered_to_who_is_away(driver):
    driver.publish(b"a")
    driver.consume()
    lose(driver)
    driver.session = driver.shard.attach(ROOM)
    driver.publish(b"b")
    assert driver.counts() == (1, 0, 1, 0)


def test_who_comes_back_goes_on_with_what_it_holds(driver):
    driver.publish(b"a", b"b", b"c")
    driver.consume()
    lose(driver)
    come(driver)
    assert attach_again(driver, (1, 3, 1)) == ((), [])
    driver.wait(RESUME_MS)
    assert driver.counts() == (0, 0, 3, 0)
    assert driver.settle(Verb.ACK, (1, 3, 1)) == [replies.Settled(((driver.request, ()),))]


def test_what_was_lost_on_its_way_comes_again_and_costs_no_attempt(driver):
    driver.publish(b"a", b"b", b"c", b"d")
    driver.consume()
    lose(driver)
    come(driver)
    stale, rows = attach_again(driver, (2, 2, 1))
    assert stale == ()
    assert rows == [(1, 1, 2, 1), (4, 1, 2, 1)]
    assert {leases_of(driver, offset).session.number for offset in range(1, 5)} == {driver.session}


def test_it_is_told_what_it_holds_no_longer(driver):
    driver.publish(b"a", b"b", b"c")
    driver.consume(lease_ms=1_000)
    driver.settle(Verb.ACK, (1, 1, 1))
    lose(driver)
    driver.wait(1_000)
    other = driver.shard.attach(ROOM)
    driver.submit(commands.Consume, 1, "q", 1, session=other)
    come(driver)
    stale, rows = attach_again(driver, (1, 3, 1), (9, 2, 1))
    assert stale == ((1, 3), (9, 2))
    assert rows == [(3, 1, 2, 0)]


def test_leases_of_others_are_not_taken(driver):
    driver.publish(b"a")
    driver.consume()
    come(driver, "another")
    assert attach_again(driver, (1, 1, 1)) == (((1, 1),), [])
    lose(driver)


def test_another_owner_is_another_client(driver):
    driver.publish(b"a")
    driver.consume()
    lose(driver)
    come(driver, owner="not me")
    assert attach_again(driver, (1, 1, 1)) == (((1, 1),), [])
    driver.wait(RESUME_MS)
    assert leases_of(driver).session.number == driver.session


def test_deliveries_of_another_epoch_are_stale(driver):
    driver.publish(b"a")
    driver.consume()
    lose(driver)
    come(driver)
    stale, rows = attach_again(driver, (1, 1, 1), epoch=0)
    assert (stale, rows) == (((1, 1),), [(1, 1, 2, 1)])


def test_the_credit_of_who_comes_back_is_new(driver):
    driver.publish(*[b"x"] * 6)
    driver.submit(commands.Consume, 1, "q", 4)
    lose(driver)
    come(driver)
    said = driver.submit(commands.Consume, 1, "q", 1, 0, 1, ((1, 3, 1),))
    assert [each.row[:2] for each in said if isinstance(each, Delivery)] == [(4, 1)]


def test_a_consumer_that_does_not_come_back_keeps_its_leases_to_their_end(driver):
    driver.publish(b"a", b"b")
    driver.consume(lease_ms=RESUME_MS + 100)
    lose(driver)
    come(driver)
    driver.wait(RESUME_MS)
    assert driver.counts() == (0, 0, 2, 0)
    assert driver.settle(Verb.ACK, (1, 1, 1)) == [replies.Settled(((driver.request, ()),))]
    driver.wait(100)
    assert driver.counts() == (1, 0, 0, 0)


def test_what_came_back_may_be_lost_again(driver):
    driver.publish(b"a", b"b")
    driver.consume()
    for _ in range(3):
        lose(driver)
        come(driver)
    assert attach_again(driver, (1, 2, 1)) == ((), [])
    for _ in range(3):
        lose(driver)
        come(driver)
        assert attach_again(driver, (1, 2, 1)) == ((), [])
    lose(driver)
    driver.wait(RESUME_MS)
    come(driver, "another")
    assert driver.consume() == [(1, 2, 2)]


def test_an_answer_that_was_lost_is_said_again(driver):
    driver.publish(b"a", b"b")
    driver.consume()
    driver.settle(Verb.NACK, (1, 1, 1), (2, 1, 7), duration_ms=0)
    number = driver.request
    lose(driver)
    come(driver)
    driver.shard.submit(
        driver.session, commands.Settle(number, "q", Verb.NACK, 1, ((1, 1, 1), (2, 1, 7)), 0, again=True), driver.now
    )
    assert driver.commit() == [replies.Settled(((number, ((2, 1),)),))]


def test_a_settle_that_never_came_is_done(driver):
    driver.publish(b"a")
    driver.consume()
    lose(driver)
    come(driver)
    assert driver.settle(Verb.ACK, (1, 1, 1), again=True) == [replies.Settled(((driver.request, ()),))]
    assert driver.counts() == (0, 0, 0, 0)


def test_as_many_answers_are_kept_as_are_allowed(driver, monkeypatch):
    monkeypatch.setattr(consumers, "ANSWERS_MAX", 2)
    come(driver, "another")
    driver.publish(b"a", b"b", b"c")
    driver.consume()
    numbers = []
    for offset in (1, 2, 3):
        driver.settle(Verb.ACK, (offset, 1, 1))
        numbers.append(driver.request)
    lose(driver)
    come(driver, "another")
    answers = []
    for offset, number in enumerate(numbers, 1):
        command = commands.Settle(number, "q", Verb.ACK, 1, ((offset, 1, 1),), again=True)
        driver.shard.submit(driver.session, command, driver.now)
        (settled,) = driver.commit()
        answers.append(settled.settles[0][1])
    assert answers == [((1, 1),), (), ()]


def test_the_newest_connection_of_a_client_is_known(driver):
    first = driver.session
    assert driver.shard.holder("4f2a", "me") == first
    assert driver.shard.holder("4f2a", "not me") == driver.shard.holder("", "") == 0
    come(driver)
    assert driver.shard.holder("4f2a", "me") == driver.session
    driver.shard.detach(first, driver.now, resumes=True)
    assert driver.shard.holder("4f2a", "me") == driver.session
    driver.shard.detach(driver.session, driver.now, resumes=True)
    assert driver.shard.holder("4f2a", "me") == 0


def test_there_is_a_limit_to_those_that_are_away(driver, monkeypatch):
    monkeypatch.setattr(sessions, "AWAY_MAX", 0)
    driver.publish(b"a")
    driver.consume()
    lose(driver)
    assert driver.shard.leased == 0


def test_who_holds_nothing_is_not_waited_for(driver):
    lose(driver)
    assert driver.shard.next_deadline_ms() is None


def test_nobody_comes_back_to_a_broker_that_shuts_down(driver):
    driver.publish(b"a")
    driver.consume()
    lose(driver)
    driver.shard.drain("bye", driver.now)
    assert driver.shard.leased == 0


def test_who_leaves_while_the_broker_shuts_down_is_not_waited_for(driver):
    driver.publish(b"a")
    driver.consume()
    driver.shard.drain("bye", driver.now)
    assert driver.shard.leased == 1
    lose(driver)
    assert driver.shard.leased == 0


@pytest.mark.parametrize(("resume_ms", "producer"), [(0, "4f2a"), (RESUME_MS, "")])
def test_without_a_producer_or_a_time_nobody_comes_back(make_shard, resume_ms, producer):
    driver = make_shard(resume_ms=resume_ms)
    come(driver, producer)
    driver.publish(b"a")
    driver.consume()
    driver.settle(Verb.EXTEND, (1, 1, 1))
    lose(driver)
    assert driver.shard.leased == 0
    assert not driver.shard._visits._away


def test_cancelled_messages_are_told_to_who_came_back(driver):
    driver.publish(b"a", b"b")
    driver.consume()
    lose(driver)
    come(driver)
    cancelled, _done = driver.submit(commands.Cancel, "q", ((1, 1),))
    assert cancelled == replies.Cancelled(1, ((1, 1, 1),))


def test_without_the_answers_from_before_a_stale_settle_is_unsure(driver):
    driver.publish(b"a", b"b")
    driver.consume()
    driver.settle(Verb.ACK, (1, 1, 1))
    lose(driver)
    driver.wait(RESUME_MS)
    come(driver)
    said = driver.settle(Verb.ACK, (1, 1, 1), again=True)
    assert said == [replies.Settled(((driver.request, ((1, 1),)),), ((driver.request, 1),))]
    assert driver.settle(Verb.ACK, (1, 1, 1)) == [replies.Settled(((driver.request, ((1, 1),)),))]


def test_with_them_it_is_certain(driver):
    driver.publish(b"a")
    driver.consume(lease_ms=1_000)
    lose(driver)
    driver.wait(1_000)
    come(driver)
    said = driver.settle(Verb.ACK, (1, 1, 1), again=True)
    assert said == [replies.Settled(((driver.request, ((1, 1),)),))]


def test_of_another_epoch_nothing_is_certain(driver):
    driver.publish(b"a")
    driver.consume()
    lose(driver)
    come(driver)
    said = driver.settle(Verb.ACK, (1, 1, 1), epoch=0, again=True)
    assert said == [replies.Settled(((driver.request, ((1, 1),)),), ((driver.request, 1),))]
