"""Consuming and settling."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from datetime import timedelta

import pytest

import wherry
from patience import PATIENCE_S


def counts(queue) -> tuple[int, int, int, int]:
    """(ready, delayed, leased, dead)"""
    info = queue.info()
    return (info.ready, info.delayed, info.leased, info.dead)


def test_a_consumer_as_users_write_it(client):
    queue = client.queue("q")
    queue.publish_many([str(n) for n in range(20)])
    bodies = []
    for message in queue.consume(credit=5):
        with message:
            bodies.append(int(message.body))
        if len(bodies) == 20:
            break
    assert bodies == list(range(20))
    assert counts(queue) == (0, 0, 0, 0)


def test_breaking_out_of_an_iterator_hands_back_what_nobody_took(site, client, broker):
    queue = client.queue("q")
    queue.publish_many([b"x"] * 20)
    for message in queue.consume():
        message.ack().wait()
        break
    gc.collect()
    site.until(lambda: broker.consumers("q") == 0 and broker.counts("q") == (19, 0, 0, 0))
    assert {each.attempt for each in queue.get(19, PATIENCE_S)} == {1}


def test_stop_ends_the_iterator_and_keeps_what_was_taken(client):
    queue = client.queue("q")
    queue.publish_many([b"x"] * 20)
    consumer = queue.consume(credit=10)
    taken = [next(consumer) for _ in range(2)]
    consumer.stop()
    assert list(consumer) == []
    consumer.stop()
    assert counts(queue) == (18, 0, 2, 0)
    for message in taken:
        message.ack().wait()
    assert counts(queue) == (18, 0, 0, 0)


def test_stop_wakes_who_waits(site, client, broker, together):
    consumer = client.queue("q").consume()

    def stop():
        site.until(lambda: broker.consumers("q") == 1)
        consumer.stop()

    *found, _ = together(*[lambda: next(consumer, "the end")] * 3, stop)
    assert found == ["the end"] * 3


def test_who_waits_for_the_end_is_told(client, together):
    queue = client.queue("q")
    stopped, deleted = queue.consume(), queue.consume()
    together(stopped.wait_ended, stopped.stop)
    stopped.wait_ended()
    queue.publish_many([b"x"] * 2)
    next(deleted)

    def wait() -> None:
        with pytest.raises(wherry.NotFound, match="was deleted"):
            deleted.wait_ended()

    together(wait, queue.delete)


def test_who_waits_for_messages_stops_nobody_else(site, client, broker, together):
    queue = client.queue("q")
    consumer = queue.consume()

    def publish():
        site.until(lambda: broker.consumers("q") == 1)
        return [queue.publish(str(number)).offset for number in range(5)]

    def take():
        message = next(consumer)
        message.ack().wait()
        return message.body

    *found, offsets = together(*[take] * 5, publish)
    assert sorted(found) == [b"0", b"1", b"2", b"3", b"4"]
    assert offsets == [1, 2, 3, 4, 5]
    consumer.stop()


def test_a_consumer_is_a_context_manager(client):
    queue = client.queue("q")
    queue.publish(b"x")
    with queue.consume() as consumer:
        assert queue.info().consumers == 1
        next(consumer).ack().wait()
    assert queue.info().consumers == 0
    with pytest.raises(ValueError, match="at least 1"):
        queue.consume(credit=0)


def test_batches(client):
    queue = client.queue("q")
    queue.publish_many([str(n) for n in range(25)])
    consumer = queue.consume(credit=100)
    sizes = []
    for batch in consumer.batches(10):
        sizes.append(len(batch))
        queue.ack_many(batch).wait()
        if sum(sizes) == 25:
            consumer.stop()
    assert sum(sizes) == 25
    assert max(sizes) == 10
    assert counts(queue) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="at least 1"):
        next(iter(consumer.batches(0)))


def test_a_batch_waits_until_it_is_full_or_its_time_is_over(site, client, broker, together):
    queue = client.queue("q")
    consumer = queue.consume(credit=100)
    batches = consumer.batches(3, wait=PATIENCE_S)

    def publish():
        site.until(lambda: broker.consumers("q") == 1)
        for number in range(3):
            queue.publish(str(number))

    batch, _ = together(lambda: next(batches), publish)
    assert [each.body for each in batch] == [b"0", b"1", b"2"]
    queue.publish(b"3")
    assert [each.body for each in next(consumer.batches(3, wait=0.01))] == [b"3"]
    consumer.stop()


def test_credit_is_never_passed(client):
    queue = client.queue("q")
    queue.publish_many([b"x"] * 50)
    consumer = queue.consume(credit=7)
    first = next(consumer)
    assert counts(queue) == (43, 0, 7, 0)
    first.ack().wait()
    for _ in range(6):
        next(consumer)
    assert counts(queue)[2] <= 7
    consumer.stop()


def test_get(client, together):
    queue = client.queue("q")
    assert queue.get(5) == []
    assert queue.get(5, wait=0.01) == []
    messages, _ = together(lambda: queue.get(5, wait=PATIENCE_S), lambda: queue.publish_many([b"x"] * 8))
    assert 1 <= len(messages) <= 5
    assert counts(queue) == (8 - len(messages), 0, len(messages), 0)
    queue.ack_many(messages).wait()
    with pytest.raises(ValueError, match="at least 1"):
        queue.get(0)


def test_nack_reject_release(client):
    queue = client.declare("q", retry=wherry.Retry(base=0))
    queue.publish(b"x")
    (message,) = queue.get(wait=PATIENCE_S)
    message.nack(ValueError("bad \udcff")).wait()
    (message,) = queue.get(wait=PATIENCE_S)
    assert (message.attempt, message.token.attempt) == (2, 2)
    message.release().wait()
    (message,) = queue.get(wait=PATIENCE_S)
    assert (message.attempt, message.token.attempt) == (2, 3)
    message.nack("again", delay=60).wait()
    assert counts(queue) == (0, 1, 0, 0)
    queue.publish(b"y")
    (message,) = queue.get(wait=PATIENCE_S)
    message.reject("never").wait()
    assert counts(queue) == (0, 1, 0, 1)


def test_an_error_in_a_block_is_told_with_the_message(client):
    queue = client.declare("q", retry=wherry.Retry(base=60), max_attempts=2)
    queue.publish_many([b"good", b"bad", b"ended", b"settled"])
    good, bad, ended, settled = queue.get(4, PATIENCE_S)
    with good:
        pass
    with pytest.raises(ZeroDivisionError), bad:
        raise ZeroDivisionError("of all things")
    with pytest.raises(SystemExit), ended:
        raise SystemExit
    with settled:
        settled.ack().wait()
    assert queue.find(bad.id).error == "ZeroDivisionError: of all things"
    assert queue.find(bad.id).reason == "failed"
    assert queue.find(ended.id).state == "ready"
    assert queue.info().removed == {"settled": 2}


def test_settling_twice(client):
    queue = client.queue("q")
    queue.publish_many([b"x", b"y"])
    first, second = queue.get(2, PATIENCE_S)
    first.ack().wait()
    for again in (first.ack, first.nack, first.reject, first.release, first.extend):
        with pytest.raises(wherry.AlreadySettled, match="q/1 was settled before: ack"):
            again()
    with pytest.raises(wherry.AlreadySettled):
        queue.ack_many([second, first])
    with pytest.raises(wherry.AlreadySettled, match="named twice"):
        queue.ack_many([second, second])
    queue.ack_many([second]).wait()
    queue.ack_many([]).wait()


def test_ack_many_of_more_than_a_batch(client):
    queue = client.queue("q")
    queue.publish_many([b"x"] * 25_000)
    messages = []
    consumer = queue.consume(credit=25_000)
    for batch in consumer.batches(25_000):
        messages += batch
        if len(messages) == 25_000:
            break
    queue.ack_many(messages).wait()
    assert counts(queue) == (0, 0, 0, 0)
    consumer.stop()


def test_a_lost_lease_is_told(client):
    queue = client.declare("q", lease=0.02)
    queue.publish(b"x")
    (late,) = queue.get(wait=PATIENCE_S, max_lease=0)
    (again,) = queue.get(wait=PATIENCE_S)
    assert (late.attempt, again.attempt) == (1, 2)
    assert again.token > late.token
    with pytest.raises(wherry.StaleDelivery, match="q/1 "):
        late.ack().wait()


def test_an_error_that_nobody_waits_for_is_logged(site, client, broker, caplog):
    queue = client.declare("q", lease=0.01)
    queue.publish(b"x")
    (late,) = queue.get(wait=PATIENCE_S, max_lease=0)
    site.until(lambda: broker.counts("q")[0] == 1)
    with caplog.at_level(logging.WARNING, "wherry"):
        settlement = late.ack()
        client.ping()
    assert settlement.done
    assert "ack of q/1 failed" in caplog.text
    with pytest.raises(wherry.StaleDelivery):
        settlement.wait()


def test_extend(client):
    queue = client.declare("q", lease=1)
    queue.publish(b"x")
    (message,) = queue.get(wait=PATIENCE_S)
    deadline, due_at = message.deadline, queue.find(1).due_at
    message.extend(60).wait()
    assert queue.find(1).due_at > due_at + timedelta(seconds=50)
    assert message.deadline > deadline + timedelta(seconds=50)
    message.extend().wait()
    assert queue.find(1).due_at < due_at + timedelta(seconds=50)
    message.ack().wait()


@pytest.mark.parametrize("log", ["memory"], indirect=True)
def test_what_waits_to_be_taken_keeps_its_lease(site, client, broker):
    """A slow user, and leases that are shorter than all the work: nothing comes twice."""
    queue = client.declare("q", lease=1)
    queue.publish_many([str(number) for number in range(12)])
    seen = []
    with queue.consume(credit=12) as consumer:
        for message in consumer:
            with message:
                until = site.clock() + 0.1
                site.until(lambda until=until: site.clock() > until)
                seen.append(message.offset)
            if len(seen) == 12:
                break
    assert seen == list(range(1, 13))
    info = queue.info()
    assert (info.removed, info.ended.get("lost", 0)) == ({"settled": 12}, 0)


@pytest.mark.parametrize("log", ["memory"], indirect=True)
def test_a_message_in_hand_keeps_its_lease_while_another_thread_waits(site, client, broker, together):
    queue = client.declare("q", lease=1)
    queue.publish(b"long")
    consumer = queue.consume()
    message = next(consumer)

    def work() -> None:
        until = site.clock() + 1.5
        site.until(lambda: site.clock() > until)
        message.ack().wait()
        queue.publish(b"next")

    following, _ = together(lambda: next(consumer), work)
    assert (following.body, message.lost) == (b"next", False)
    consumer.stop()


def test_draining_waits_for_what_is_in_hand(site, client, together):
    queue = client.queue("q")
    queue.publish_many([str(number) for number in range(5)])
    consumer = queue.consume(credit=3)
    held = next(consumer)
    other = next(consumer)

    def work() -> None:
        site.until(lambda: True)
        held.ack().wait()

    together(lambda: consumer.stop(grace=0.3), work)
    assert list(consumer) == []
    assert counts(queue) == (4, 0, 0, 0)
    with pytest.raises(wherry.StaleDelivery):
        other.ack().wait()
    assert {each.attempt for each in queue.get(4, PATIENCE_S)} == {1}


def test_a_client_drains(client):
    queue = client.queue("q")
    queue.publish_many([b"x"] * 5)
    consumers = [queue.consume(credit=2) for _ in range(2)]
    for consumer in consumers:
        next(consumer)
    client.drain(0.01)
    assert [list(each) for each in consumers] == [[], []]
    assert counts(queue) == (5, 0, 0, 0)
    queue.publish(b"the connection is there still")


def test_credit_comes_back_with_a_lost_lease(client):
    queue = client.declare("q", max_attempts=1_000_000)  # however slow this machine is, none of them is dead
    queue.publish_many([b"x"] * 2)
    consumer = queue.consume(credit=2, lease=0.02, max_lease=0)
    first = [next(consumer) for _ in range(2)]
    again = [next(consumer) for _ in range(2)]  # the same ones: they were lost, and nobody settled them
    assert {each.offset for each in again} == {each.offset for each in first}
    consumer.stop()


def test_clients_compete(site, client, broker, together):
    other = site.client(broker)
    client.queue("q").publish_many([b"x"] * 2000)
    seen: Counter[int] = Counter()

    def work(queue):
        with queue.consume(credit=10) as consumer:
            for batch in consumer.batches(10):
                queue.ack_many(batch).wait()
                seen.update(message.offset for message in batch)
                if len(seen) == 2000:
                    client.queue("q").publish(b"the end")  # for the other one, which waits
                if batch[-1].body == b"the end" or len(seen) >= 2000:
                    return

    together(lambda: work(client.queue("q")), lambda: work(other.queue("q")))
    assert set(seen) >= set(range(1, 2001))
    assert set(seen.values()) == {1}


def test_ten_thousand_in_flight_and_one_in_ten_fails(client):
    """Each message is done once, whatever failed before."""
    count = 10_000
    queue = client.declare("q", retry=wherry.Retry(base=0), max_attempts=100)
    queue.publish_many([str(number) for number in range(count)])
    done: Counter[int] = Counter()
    failed = 0
    with queue.consume(credit=count) as consumer:
        for batch in consumer.batches(1000):
            bad = [each for each in batch if (each.offset + each.attempt) % 10 == 0]
            for message in bad:
                message.nack("one in ten")
            good = [each for each in batch if (each.offset + each.attempt) % 10]
            queue.ack_many(good).wait()
            done.update(int(each.body) for each in good)
            failed += len(bad)
            if len(done) == count:
                break
    assert set(done) == set(range(count))
    assert set(done.values()) == {1}
    info = queue.info()
    assert (info.ready, info.leased, info.dead, info.removed) == (0, 0, 0, {"settled": count})
    assert info.ended["failed"] == failed == count // 10


def test_close_hands_back_what_nobody_took(site, broker):
    client = site.client(broker)
    queue = client.queue("q")
    queue.publish_many([b"x"] * 10)
    consumer = queue.consume()
    taken = next(consumer)
    taken.ack()  # not waited for: close sees to it
    client.close()
    assert site.on_broker(broker.counts, "q") == (9, 0, 0, 0)
    with pytest.raises(wherry.Disconnected):
        queue.publish(b"x")
    other = site.client(broker)
    assert {each.attempt for each in other.queue("q").get(9, PATIENCE_S)} == {1}
