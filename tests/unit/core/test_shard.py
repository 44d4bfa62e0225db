from __future__ import annotations

import pytest

from wherry.model import replies
from wherry.model.commands import (
    Consume,
    Credit,
    Declare,
    Delete,
    Info,
    ListQueues,
    Pause,
    Peek,
    Publish,
    Purge,
    Settle,
    Stop,
    Verb,
)
from wherry_broker.core import dispatch, records
from wherry_broker.core.effects import Delivery
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard
from wherry_broker.core.view import PEEK_BYTES_MAX


@pytest.fixture
def driver(make_shard):
    return make_shard()


def code(said):
    (error,) = (each for each in said if isinstance(each, replies.Error))
    return error.code


def stale(said):
    (settled,) = (each for each in said if isinstance(each, replies.Settled))
    return settled.settles[0][1]


# Commits: nothing leaves before what it depends on.


def test_a_confirm_and_a_delivery_wait_for_the_publish(driver, rows):
    driver.consume()
    driver.hold(Publish, "q", bytes(4))
    driver.shard.dispatch(driver.now)
    assert driver.said() == []
    batch = driver.shard.take_batch()
    assert ([type(each) for each in batch.records], driver.said()) == ([records.Published], [])
    driver.hold(Info, "q")
    assert driver.said() == []
    driver.shard.committed(batch.mark)
    confirm, delivery, info = driver.said()
    assert (confirm.confirms, rows([delivery]), info.info["leased"]) == (((2, 1, False),), [(1, 1, 1)], 1)


def test_what_comes_while_a_commit_is_under_way_waits_for_the_next(driver):
    driver.publish(b"a")
    driver.hold(Publish, "q", bytes(4))
    first = driver.shard.take_batch()
    driver.hold(Publish, "q", bytes(4))
    driver.shard.committed(first.mark)
    assert [each.confirms for each in driver.said()] == [((2, 2, False),)]
    assert [each.confirms for each in driver.commit()] == [((3, 3, False),)]


def test_a_settle_is_answered_when_it_is_durable(driver):
    driver.publish(b"a", b"b")
    driver.consume()
    driver.hold(Settle, "q", Verb.ACK, 1, ((1, 1, 1),))
    assert driver.said() == []
    assert stale(driver.commit()) == ()
    driver.hold(Settle, "q", Verb.EXTEND, 1, ((2, 1, 1),))
    assert stale(driver.said()) == ()


def test_other_queues_do_not_wait(driver):
    driver.publish(b"a", queue="other")
    driver.hold(Publish, "q", bytes(4))
    driver.hold(Info, "other")
    assert [type(each) for each in driver.said()] == [replies.QueueInfo]


def test_not_found_waits_for_the_deletion(driver):
    """It left at once, and a crash would have brought the queue back."""
    driver.publish(b"a")
    driver.hold(Delete, "q")
    driver.hold(Info, "q")
    driver.hold(ListQueues)
    assert driver.said() == []
    done, refused, queues = driver.commit()
    assert (done.total, refused.code, queues.queues) == (1, "not_found", ())


def test_stopped_is_not_overtaken_by_not_found(driver):
    driver.consume()
    driver.hold(Delete, "q")
    driver.hold(Stop, 1)
    assert [type(each) for each in driver.commit()] == [replies.Stopped, replies.Done, replies.Error]


def test_a_number_that_is_used_again_gets_nothing_of_the_consumer_before(driver, rows):
    """Deliveries carry no queue: the old consumer's, held by a commit, came after those of the new one."""
    driver.publish(b"b", b"b", b"b", queue="other")
    driver.consume(1)
    driver.hold(Publish, "q", bytes(4))
    driver.shard.dispatch(driver.now)
    driver.hold(Stop, 1)
    driver.hold(Consume, 1, "other", 1)
    assert driver.said() == []
    _, old, stopped, started, new = driver.commit()
    assert (stopped.total, type(started)) == (1, replies.Done)
    assert rows([old, new]) == [(1, 1, 1), (1, 1, 1)]
    assert (old.data, new.data) == (b"", b"b")


def test_no_delivery_of_a_queue_in_memory_is_overtaken_by_the_next_attempt(driver, rows):
    """What a new consumer is told waits for the commit under way: it was told of a message that another had settled."""
    driver.submit(Declare, "m", {"durability": "memory", "lease_ms": 10})
    driver.publish(b"x", queue="m")
    driver.consume(2, "m", credit=0)
    driver.hold(Publish, "q", bytes(4))
    driver.hold(Consume, 1, "m", 1)
    driver.now += 10
    driver.shard.tick(driver.now)
    driver.hold(Credit, 2, 1)
    driver.shard.dispatch(driver.now)
    driver.hold(Settle, "m", Verb.ACK, 1, ((1, 1, 2),))
    assert driver.said() == []
    *_, first, second, settled = driver.commit()
    assert rows([first, second]) == [(1, 1, 1), (1, 1, 2)]
    assert stale([settled]) == ()


def test_draining_stops_consumers_without_a_commit(driver):
    """What tells them waited for a next commit, which never comes when publishes are refused."""
    driver.consume()
    driver.shard.drain("bye", driver.now)
    assert driver.said() == [replies.Stopped(1, "draining", "bye")]
    driver.hold(Publish, "q", bytes(4))
    driver.hold(Consume, 2, "q")
    assert [each.code for each in driver.said()] == ["draining", "draining"]


def test_draining_lets_leases_be_settled(driver):
    driver.publish(b"a", b"b")
    driver.consume(credit=1)
    driver.shard.drain("bye", driver.now)
    assert stale(driver.settle(Verb.ACK, (1, 1, 1))) == ()
    assert driver.counts() == (1, 0, 0, 0)


# Publish.


def test_a_retry_under_a_dedupe_key_is_stored_once(driver):
    first = driver.publish(b"a", dedupe="k")
    again = driver.publish(b"a", dedupe="k")
    assert (first[0].confirms, again[0].confirms) == (((1, 1, False),), ((2, 1, True),))
    assert driver.counts() == (1, 0, 0, 0)


def test_a_dedupe_key_stands_for_a_whole_batch(driver):
    """A part was stored under the key, and the retry of the rest was answered as a duplicate: the rest was lost."""
    driver.submit(Declare, "q", {"max_messages": 2})
    (busy,) = driver.publish(b"a", b"b", b"c", dedupe="k", divisible=True)
    assert (busy.code, busy.accepted) == ("too_large", 0)
    driver.publish(b"a")
    (busy,) = driver.publish(b"a", b"b", dedupe="k", divisible=True)
    assert (busy.code, busy.accepted) == ("busy", 0)
    driver.submit(Purge, "q")
    assert driver.publish(b"a", b"b", dedupe="k", divisible=True)[0].confirms[0][1:] == (2, False)


def test_a_divisible_publish_says_how_much_of_it_was_stored(driver):
    driver.submit(Declare, "q", {"max_messages": 3})
    driver.publish(b"a")
    (busy,) = driver.publish(b"b", b"c", b"d", divisible=True)
    assert (busy.code, busy.bound, busy.first, busy.accepted) == ("busy", "max_messages", 2, 2)
    assert [each.block.data for each in driver.log if isinstance(each, records.Published)] == [b"a", b"bc"]


def test_lengths_that_do_not_add_up_store_nothing(driver):
    assert code(driver.submit(Publish, "q", (2).to_bytes(4, "big"), block=b"x")) == "invalid"
    assert driver.counts() == (0, 0, 0, 0)


def test_unknown_queues_are_declared_only_where_that_is_allowed(make_shard):
    driver = make_shard(auto_declare=False)
    assert code(driver.publish(b"a")) == "not_found"
    assert code(driver.submit(Consume, 1, "q")) == "not_found"
    driver.submit(Declare, "q", {})
    assert isinstance(driver.publish(b"a")[0], replies.Confirm)


def test_an_unknown_option_of_an_existing_queue_is_refused(driver):
    """It was a KeyError."""
    driver.submit(Declare, "q", {})
    assert code(driver.submit(Declare, "q", {"nonsense": 1})) == "invalid"
    assert code(driver.submit(Declare, "q", {"max_messages": 1})) == "exists_differently"


# Consumers.


def test_credit_is_a_total_and_never_shrinks(driver, rows):
    driver.publish(*[b"x"] * 9)
    assert driver.consume(credit=2) == [(1, 2, 1)]
    assert rows(driver.submit(Credit, 1, 2)) == []
    assert rows(driver.submit(Credit, 1, 5)) == [(3, 3, 1)]
    assert rows(driver.submit(Credit, 1, 0)) == []
    assert driver.submit(Credit, 9, 100) == []


def test_consumers_take_turns(driver, rows):
    driver.consume(1, credit=10)
    driver.consume(2, credit=10)
    got = [each.consumer for _ in range(6) for each in driver.publish(b"x") if isinstance(each, Delivery)]
    assert got == [1, 2, 1, 2, 1, 2]


def test_no_more_are_leased_than_the_queue_allows(driver, rows):
    driver.submit(Declare, "q", {"max_leased": 3})
    driver.publish(*[b"x"] * 9)
    driver.consume(1, credit=2)
    assert driver.consume(2, credit=9) == [(3, 1, 1)]
    assert rows(driver.settle(Verb.ACK, (1, 2, 1))) == [(4, 2, 1)]


def test_a_session_without_room_waits_and_others_go_on(driver, rows):
    narrow = driver.shard.attach(1)
    driver.submit(Consume, 1, "q", 9, session=narrow)
    assert rows(driver.publish(b"xx")) == [(1, 1, 1)]
    assert rows(driver.publish(b"yy")) == []
    assert driver.consume(1) == [(2, 1, 1)]
    driver.submit(Stop, 1)
    driver.publish(b"zz")
    driver.shard.make_room(narrow, 1)
    assert rows(driver.wait(0)) == [(3, 1, 1)]


def test_a_long_span_is_cut_to_what_there_is_room_for(driver, rows, monkeypatch):
    monkeypatch.setattr(dispatch, "SPAN_BYTES_MAX", 10)
    driver.publish(*[b"xxxx"] * 9, b"y" * 30)
    driver.shard.make_room(driver.session, 3)
    assert driver.consume() == [(1, 2, 1)]
    driver.shard.make_room(driver.session, 25)
    assert rows(driver.wait(0)) == [(3, 6, 1), (9, 1, 1)]
    driver.shard.make_room(driver.session, 1)
    assert rows(driver.wait(0)) == [(10, 1, 1)]


def test_consumers_that_go_leave_no_trace(driver):
    """Each stayed in the line of its queue for as long as nothing was ready."""
    driver.publish(b"x", queue="other")
    narrow = driver.shard.attach(0)
    driver.consume(1)
    for number in range(2, 1000):
        driver.submit(Consume, number, "q", 1)
        driver.submit(Stop, number)
        driver.submit(Consume, number, "other", 1, session=narrow)
        driver.submit(Stop, number, session=narrow)
    assert len(driver.shard.state.names["q"].waiting) == 1
    assert len(driver.shard.state.names["other"].waiting) == 0
    assert len(driver.shard._sessions[narrow].parked) == 0


def test_a_stopped_consumer_keeps_its_leases(driver, rows):
    driver.publish(b"a", b"b")
    driver.consume(credit=1)
    assert driver.submit(Stop, 1) == [replies.Done(3, 1)]
    assert driver.counts() == (1, 0, 1, 0)
    assert stale(driver.settle(Verb.ACK, (1, 1, 1))) == ()
    assert code(driver.submit(Stop, 1)) == "not_found"


def test_a_session_that_goes_loses_its_leases_of_stopped_consumers_too(driver, rows):
    driver.publish(b"a", b"b")
    driver.consume(1, credit=1)
    driver.submit(Stop, 1)
    driver.consume(1, credit=1)
    driver.shard.detach(driver.session, driver.now)
    driver.session = driver.shard.attach(1000)
    assert driver.consume() == [(1, 1, 2), (2, 1, 2)]


def test_a_paused_queue_delivers_nothing_and_takes_settles(driver, rows):
    driver.publish(b"a", b"b")
    driver.consume(credit=1)
    driver.submit(Pause, "q", True)
    driver.submit(Credit, 1, 9)
    assert rows(driver.settle(Verb.ACK, (1, 1, 1))) == []
    assert rows(driver.submit(Pause, "q", False)) == [(2, 1, 1)]


# Settle.


@pytest.fixture
def leased(driver):
    """Ten messages, leased."""
    driver.submit(Declare, "q", {"max_attempts": 2, "retry_base_ms": 100, "dead_max_messages": 4})
    driver.publish(*[b"x"] * 10)
    assert driver.consume(credit=10) == [(1, 10, 1)]
    return driver


@pytest.mark.parametrize(
    ("verb", "counts"),
    [
        (Verb.ACK, (0, 0, 7, 0)),
        (Verb.NACK, (0, 3, 7, 0)),
        (Verb.REJECT, (0, 0, 7, 3)),
        (Verb.RELEASE, (3, 0, 7, 0)),
        (Verb.EXTEND, (0, 0, 10, 0)),
    ],
)
def test_each_verb_moves_exactly_what_it_names(leased, verb, counts):
    assert stale(leased.settle(verb, (2, 1, 1), (5, 2, 1))) == ()
    assert leased.counts() == counts


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize(("epoch", "attempt"), [(1, 0), (1, 2), (0, 1), (2, 1)])
def test_a_wrong_attempt_or_epoch_is_stale(leased, verb, epoch, attempt):
    assert stale(leased.settle(verb, (2, 3, attempt), epoch=epoch)) == ((2, 3),)
    assert leased.counts() == (0, 0, 10, 0)


def test_the_stale_rest_is_named_range_by_range(leased):
    leased.settle(Verb.ACK, (3, 1, 1), (6, 2, 1))
    assert stale(leased.settle(Verb.ACK, (0, 12, 1))) == ((0, 1), (3, 1), (6, 2), (11, 1))
    assert leased.counts() == (0, 0, 0, 0)


def test_ranges_that_overlap_are_refused_whole(leased):
    assert code(leased.settle(Verb.ACK, (5, 3, 1), (3, 3, 1))) == "invalid"
    assert leased.counts() == (0, 0, 10, 0)


def test_an_unknown_verb_is_refused(leased):
    assert code(leased.submit(Settle, "q", 9, 1, ((1, 1, 1),))) == "invalid"


def test_a_nack_waits_for_the_jittered_back_off(leased):
    leased.settle(Verb.NACK, (1, 1, 1), text="boom")
    assert leased.shard.next_deadline_ms() == leased.now + 50
    (record,) = (each for each in leased.log if isinstance(each, records.Returned))
    assert (record.cause, record.error, record.ready_at_ms) == ("failed", "boom", leased.now + 50)
    leased.wait(49)
    assert leased.counts() == (0, 1, 9, 0)
    leased.wait(1)
    assert leased.counts() == (1, 0, 9, 0)


def test_a_delay_that_is_asked_for_wins_over_the_policy(leased):
    leased.settle(Verb.NACK, (1, 1, 1), duration_ms=0)
    leased.settle(Verb.NACK, (2, 1, 1), duration_ms=7)
    assert leased.counts() == (1, 1, 8, 0)
    assert leased.shard.next_deadline_ms() == leased.now + 7


def test_exhausted_attempts_are_dead_and_released_ones_do_not_count(leased, rows):
    leased.settle(Verb.RELEASE, (1, 1, 1))
    leased.submit(Credit, 1, 11)
    leased.settle(Verb.NACK, (1, 1, 2), duration_ms=0)
    assert leased.counts() == (1, 0, 9, 0)
    leased.submit(Credit, 1, 12)
    leased.settle(Verb.NACK, (1, 1, 3), text="boom")
    assert leased.counts() == (0, 0, 9, 1)
    (died,) = (each for each in leased.log if isinstance(each, records.Died))
    assert died.failure == ("attempts", "boom", leased.now)
    assert leased.info()["ended"] == {"released": 1, "failed": 2}


def test_deliveries_that_end_badly_are_counted_apart(driver):
    driver.publish(*[b"x"] * 8, ttl_ms=1_000)
    driver.consume(credit=8, lease_ms=2_000)
    driver.settle(Verb.ACK, (1, 1, 1))
    driver.settle(Verb.NACK, (2, 2, 1), duration_ms=900)
    driver.settle(Verb.RELEASE, (4, 1, 1))
    driver.settle(Verb.REJECT, (5, 1, 1))
    driver.wait(1_500)
    driver.settle(Verb.NACK, (6, 1, 1))
    driver.wait(500)
    info = driver.info()
    assert info["ended"] == {"failed": 3, "released": 1, "rejected": 1, "lost": 2}
    assert info["removed"] == {"settled": 1, "expired": 6}


def test_the_oldest_dead_make_room(leased):
    leased.settle(Verb.REJECT, (9, 2, 1))
    leased.settle(Verb.REJECT, (1, 2, 1))
    leased.settle(Verb.REJECT, (4, 1, 1))
    assert leased.counts() == (0, 0, 5, 4)
    (peeked,) = leased.submit(Peek, "q", "dead")
    assert [row[:2] for row in peeked.spans] == [(1, 2), (4, 1), (10, 1)]
    assert leased.info()["removed"] == {"dropped": 1}


# Time.


def test_a_lease_is_over_at_its_deadline_and_not_before(driver, rows):
    driver.publish(b"a")
    driver.consume(credit=2, lease_ms=100)
    assert rows(driver.wait(99)) == []
    assert rows(driver.wait(1)) == [(1, 1, 2)]
    assert stale(driver.settle(Verb.ACK, (1, 1, 1))) == ((1, 1),)


def test_a_lease_that_is_over_cannot_be_settled_however_late_the_tick(driver):
    driver.publish(b"a")
    driver.consume(credit=1, lease_ms=100)
    driver.now += 100
    assert stale(driver.settle(Verb.ACK, (1, 1, 1))) == ((1, 1),)


def test_an_extended_lease_lives_on(driver):
    driver.publish(b"a", b"b")
    driver.consume(credit=2, lease_ms=100)
    driver.settle(Verb.EXTEND, (1, 1, 1), duration_ms=200)
    driver.wait(150)
    assert driver.counts() == (1, 0, 1, 0)


def test_a_ttl_takes_messages_anywhere_in_the_queue_and_leased_ones_when_they_return(driver):
    driver.publish(b"a")
    driver.publish(b"b", ttl_ms=50)
    driver.publish(b"c", ttl_ms=50, delay_ms=49)
    driver.publish(b"d", ttl_ms=50, priority=9)
    driver.consume(credit=1)
    driver.wait(50)
    assert driver.counts() == (1, 0, 1, 0)
    assert stale(driver.settle(Verb.RELEASE, (4, 1, 1))) == ()
    assert (driver.counts(), driver.info()["removed"]) == ((1, 0, 0, 0), {"expired": 3})


def test_dispatch_does_what_is_due_first(driver, rows):
    """A message that had expired since the last tick was delivered."""
    driver.publish(b"a", ttl_ms=50)
    driver.hold(Consume, 1, "q")
    driver.hold(Credit, 1, 9)
    driver.shard.dispatch(driver.now + 50)
    assert rows(driver.commit()) == []


def test_deadlines_are_those_of_what_waits(driver):
    assert driver.shard.next_deadline_ms() is None
    driver.publish(b"a", delay_ms=70)
    driver.publish(b"b", ttl_ms=60)
    assert driver.shard.next_deadline_ms() == driver.now + 60
    driver.submit(Delete, "q")
    assert driver.shard.next_deadline_ms() is None


# Queues.


def test_offsets_are_never_used_again(driver):
    driver.publish(b"a", b"b")
    driver.submit(Delete, "q")
    assert driver.publish(b"c")[0].confirms[0][1] == 3
    assert driver.publish(b"c", queue="other")[0].confirms[0][1] == 3


def test_a_deleted_queue_takes_its_leases_along(driver):
    driver.publish(b"a", b"b")
    driver.consume(credit=1)
    assert driver.submit(Delete, "q") == [
        replies.Stopped(1, "not_found", "queue 'q' was deleted"),
        replies.Done(3, 2),
    ]
    assert (driver.shard.leased, driver.shard.next_deadline_ms()) == (0, None)
    driver.shard.detach(driver.session, driver.now)


def test_queues_are_listed_by_name_and_page(driver):
    for number in range(120):
        driver.submit(Declare, f"n{number:03}", {})
    (page,) = driver.submit(ListQueues, "n")
    assert (len(page.queues), page.more) == (100, True)
    (page,) = driver.submit(ListQueues, "n", page.queues[-1][0])
    assert ([row[0] for row in page.queues][::19], page.more) == (["n100", "n119"], False)


@pytest.mark.parametrize("state", ["leased", "odd"])
def test_what_cannot_be_purged(driver, state):
    driver.publish(b"a")
    assert code(driver.submit(Purge, "q", ("ready", state))) == "invalid"
    assert driver.counts() == (1, 0, 0, 0)


def test_a_peek_skips_no_message_that_it_has_no_room_for(driver):
    """The bytes of the first span were used up within it, and a small message of the next one still came."""
    driver.publish(b"x" * (PEEK_BYTES_MAX - 1), b"yy")
    driver.publish(b"z")
    (peeked,) = driver.submit(Peek, "q")
    assert [row[:2] for row in peeked.spans] == [(1, 1)]
    (peeked,) = driver.submit(Peek, "q", "ready", 2)
    assert [row[:2] for row in peeked.spans] == [(2, 1), (3, 1)]


def test_a_peek_gives_the_first_message_whatever_its_size(driver):
    driver.publish(b"x" * (PEEK_BYTES_MAX + 1))
    (peeked,) = driver.submit(Peek, "q")
    assert len(peeked.block) == PEEK_BYTES_MAX + 1


# Replay.


def replayed(driver, epoch=2):
    fresh = Shard(epoch, lambda: 0.5)
    for record in driver.log:
        fresh.restore(record)
    fresh.restored(driver.now)
    driver.shard = fresh
    driver.session = fresh.attach(1 << 30)


def test_what_was_leased_is_ready_after_a_restart(leased):
    leased.settle(Verb.ACK, (1, 2, 1))
    leased.settle(Verb.NACK, (4, 1, 1), duration_ms=0)
    leased.settle(Verb.NACK, (6, 1, 1), duration_ms=30)
    leased.settle(Verb.REJECT, (8, 1, 1))
    replayed(leased)
    assert leased.counts() == (6, 1, 0, 1)
    assert leased.consume() == [(3, 1, 1), (4, 1, 2), (5, 1, 1), (7, 1, 1), (9, 2, 1)]
    assert stale(leased.settle(Verb.ACK, (3, 1, 1), epoch=1)) == ((3, 1),)
    assert stale(leased.settle(Verb.ACK, (3, 1, 1), epoch=2)) == ()


def test_what_fell_due_while_the_broker_was_down_is_done_at_its_start(driver):
    driver.publish(b"a", delay_ms=10)
    driver.publish(b"b", ttl_ms=10)
    driver.publish(b"c", delay_ms=500)
    driver.now += 10
    replayed(driver)
    assert driver.counts() == (1, 1, 0, 0)
    assert [each.cause for each in driver.log[3:] if isinstance(each, records.Removed)] == ["expired"]


def test_a_delayed_message_that_was_delivered_can_be_settled_in_a_log(driver):
    driver.publish(b"a", b"b", b"c", b"d", delay_ms=10)
    driver.consume()
    driver.wait(10)
    driver.settle(Verb.ACK, (1, 1, 1))
    driver.settle(Verb.REJECT, (2, 1, 1))
    driver.settle(Verb.NACK, (3, 1, 1), duration_ms=5)
    replayed(driver)
    assert driver.counts() == (1, 1, 0, 1)


def test_a_restart_forgets_no_dedupe_key_and_no_offset(driver):
    driver.publish(b"a", dedupe="k")
    driver.publish(b"x", queue="gone")
    driver.submit(Delete, "gone")
    replayed(driver)
    assert driver.publish(b"a", dedupe="k")[0].confirms[0][1:] == (1, True)
    assert driver.publish(b"x", queue="gone")[0].confirms[0][1:] == (2, False)


def test_an_empty_log_is_restored(make_shard):
    driver = make_shard(QueueOptions(max_messages=7))
    driver.shard.restored(driver.now)
    driver.publish(b"a")
    assert driver.counts() == (1, 0, 0, 0)


# Cost.


def test_a_span_of_many_messages_costs_what_one_costs(driver, rows):
    """100,000 messages in ten batches: a span each, from publish to settle."""
    for _ in range(10):
        driver.publish(*[b"x"] * 10_000)
    assert len(list(driver.shard.state.names["q"].spans())) == 10
    assert len(driver.consume(credit=100_000)) == 10
    for first in range(1, 100_001, 10_000):
        assert stale(driver.settle(Verb.ACK, (first, 10_000, 1))) == ()
        assert driver.log[-1].ranges == ((first, first + 10_000),)
    assert len(driver.log) == 1 + 10 + 10
