from __future__ import annotations

import pytest

from wherry_broker.core.batch import DEAD, DELAYED, LEASED, READY, Envelope, Failure
from wherry_broker.core.housekeeping import rehomed
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.records import FAILED, REJECTED, RELEASED, Stage
from wherry_broker.log.codec import encode_entry


class Holder:
    """As much of a consumer as a queue needs."""

    def __init__(self):
        self.spans = {}


@pytest.fixture
def holder():
    return Holder()


@pytest.fixture
def six(make_queue):
    """A queue that holds the offsets 1 to 6, of 1 to 6 bytes."""
    driver = make_queue()
    driver.publish(*(b"x" * size for size in range(1, 7)))
    return driver


FAILURE = Failure("failed", "boom", 5)


def test_a_batch_that_nobody_splits_is_one_span(six):
    assert six.spans() == [(1, 7, "ready")]
    assert (six.queue.counts, six.queue.sizes) == ([6, 0, 0, 0], [21, 0, 0, 0])
    assert (six.queue.messages_held, six.queue.bytes_held, six.queue.next_offset) == (6, 21, 7)


def test_a_lease_takes_the_front_and_the_rest_stays_next(six, holder):
    first, second = six.lease(2, holder), six.lease(3, holder)
    assert six.spans() == [(1, 3, "leased"), (3, 6, "leased"), (6, 7, "ready")]
    assert (six.queue.counts, six.queue.sizes) == ([1, 0, 5, 0], [6, 0, 15, 0])
    assert list(holder.spans) == [first, second]
    assert six.timers.next_ms() == 100


def test_higher_priorities_are_first_and_equal_ones_in_order(make_queue, holder):
    driver = make_queue()
    for priority in (0, 9, 5, 9, 0):
        driver.publish(b"x", priority=priority)
    assert [driver.lease(1, holder).low for _ in range(5)] == [2, 4, 3, 1, 5]
    assert driver.queue.head(0) is None


def test_what_is_given_back_takes_its_old_place(six, holder):
    six.lease(2, holder)
    six.lease(2, holder)
    six.queue.give_back(1, 2, FAILED, 0, FAILURE)
    six.queue.give_back(4, 5, RELEASED, 0, None)
    assert six.spans() == [(1, 2, "ready"), (2, 3, "leased"), (3, 4, "leased"), (4, 5, "ready"), (5, 7, "ready")]
    again = [six.lease(9, holder) for _ in range(3)]
    assert [(span.low, span.attempt, span.released, span.failure) for span in again] == [
        (1, 1, 0, FAILURE),
        (4, 1, 1, None),
        (5, 0, 0, None),
    ]


def test_a_delay_hides_until_it_is_woken(six, holder):
    six.lease(6, holder)
    six.queue.give_back(2, 4, FAILED, 50, FAILURE)
    assert six.queue.counts == [0, 2, 4, 0]
    assert six.queue.head(0) is None
    (span,) = six.timers.due(50)
    six.queue.wake(span)
    assert (span.state, span.due_ms, six.queue.counts) == (READY, 0, [2, 0, 4, 0])


def test_each_part_of_a_split_lease_keeps_the_deadline(six, holder):
    six.lease(6, holder, 70)
    six.queue.extend(3, 5, 90)
    assert six.spans() == [(1, 3, "leased"), (3, 5, "leased"), (5, 7, "leased")]
    assert [span.due_ms for span in six.queue.spans()] == [70, 90, 70]
    assert sorted(span.low for span in six.timers.due(89)) == [1, 5]
    assert set(holder.spans) == set(six.queue.spans())


def test_a_deadline_can_move_to_an_earlier_moment(six, holder):
    six.lease(6, holder, 70)
    six.queue.extend(1, 7, 20)
    assert six.timers.next_ms() == 20


@pytest.mark.parametrize(
    ("low", "high", "left"),
    [
        (1, 7, []),
        (1, 3, [(3, 7, "ready")]),
        (5, 7, [(1, 5, "ready")]),
        (3, 5, [(1, 3, "ready"), (5, 7, "ready")]),
        (0, 99, []),
        (7, 99, [(1, 7, "ready")]),
    ],
)
@pytest.mark.parametrize("state", [READY, LEASED, DELAYED, DEAD])
def test_removal_from_any_state_is_exact(six, holder, low, high, left, state):
    names = ("ready", "delayed", "leased", "dead")
    if state != READY:
        six.lease(6, holder)
    if state == DELAYED:
        six.queue.give_back(1, 7, FAILED, 50, FAILURE)
    if state == DEAD:
        six.queue.bury(1, 7, FAILURE, FAILED)
    six.queue.remove(low, high, "purged", 10)
    assert six.spans() == [(each[0], each[1], names[state]) for each in left]
    kept = [size for size in range(1, 7) if not low <= size < high]
    assert six.queue.counts[state] == six.queue.messages_held == len(kept)
    assert six.queue.sizes[state] == six.queue.bytes_held == sum(kept)
    assert six.queue.removed.get("purged", 0) == 6 - len(kept)
    assert len(holder.spans) == (len(left) if state == LEASED else 0)
    assert len(six.timers) == (len(left) if state in (DELAYED, LEASED) else 0)
    assert len(list(six.queue.dead())) == (len(left) if state == DEAD else 0)


def test_a_batch_expires_by_one_timer_which_goes_with_its_last_message(make_queue):
    driver = make_queue()
    driver.publish(b"a", b"b", expires_at_ms=40)
    assert (driver.timers.next_ms(), len(driver.timers)) == (40, 1)
    driver.queue.remove(1, 2, "dropped", 1)
    assert driver.timers.next_ms() == 40
    driver.queue.remove(2, 3, "dropped", 1)
    assert driver.timers.next_ms() is None


def test_clear_leaves_nothing_behind(six, holder):
    six.lease(2, holder)
    six.queue.bury(1, 2, FAILURE, FAILED)
    six.publish(b"z", ready_at_ms=9, expires_at_ms=99)
    six.queue.clear()
    assert (six.spans(), six.queue.counts, six.queue.sizes) == ([], [0] * 4, [0] * 4)
    assert (len(six.timers), holder.spans, list(six.queue.dead())) == (0, {}, [])
    assert six.queue.next_offset == 8


def test_span_at_finds_what_is_there_and_not_what_has_gone(six):
    six.queue.remove(3, 5, "purged", 1)
    assert [six.queue.span_at(offset) is not None for offset in range(8)] == [0, 1, 1, 0, 0, 1, 1, 0]


def test_the_dead_are_in_the_order_of_dying(six, holder):
    six.lease(6, holder)
    six.queue.bury(4, 5, FAILURE, FAILED)
    six.queue.bury(1, 3, FAILURE, FAILED)
    assert [span.low for span in six.queue.dead()] == [4, 1]
    assert {span.failure for span in six.queue.dead()} == {FAILURE}


def test_a_ready_message_cannot_end_a_delivery(six):
    with pytest.raises(AssertionError):
        six.queue.bury(1, 2, FAILURE, FAILED)


def test_a_release_keeps_what_the_last_failed_attempt_said(six, holder):
    six.lease(1, holder)
    six.queue.give_back(1, 2, FAILED, 0, FAILURE)
    six.lease(1, holder)
    six.queue.give_back(1, 2, RELEASED, 0, None)
    assert six.queue.span_at(1).failure is FAILURE


def test_while_a_log_is_read_messages_may_have_been_leased(make_queue, holder):
    driver = make_queue(restoring=True)
    driver.publish(b"a", b"b", b"c", b"d")
    driver.publish(b"e", ready_at_ms=70)
    driver.publish(b"f")
    assert driver.queue.counts == [0, 1, 5, 0]
    driver.queue.give_back(2, 3, FAILED, 0, FAILURE)
    driver.queue.give_back(3, 4, FAILED, 60, FAILURE)
    driver.queue.bury(5, 6, FAILURE, FAILED)
    driver.queue.restored(FAILURE.at_ms)
    assert [state for _, _, state in driver.spans()] == ["ready", "ready", "delayed", "ready", "dead", "ready"]
    assert (driver.queue.counts, driver.timers.next_ms()) == ([4, 1, 0, 1], 60)
    assert [driver.lease(9, holder).low for _ in range(4)] == [1, 2, 4, 6]
    driver.publish(b"g")
    assert driver.lease(9, holder).low == 7


def test_a_few_survivors_do_not_keep_the_memory_of_their_batch(make_queue):
    driver = make_queue()
    bodies = [bytes([number]) * 1000 for number in range(100)]
    driver.publish(*bodies)
    for offset in range(1, 101):
        if offset not in (7, 70, 71):
            driver.queue.remove(offset, offset + 1, "purged", 1)
        batch = driver.queue.batch_at(7)
        assert batch.held_bytes == driver.queue.bytes_held == sum(span.size() for span in batch.spans)
        assert batch.block.size < max(2 * batch.held_bytes + 1, 4096)
    assert [(span.low, span.high) for span in driver.queue.spans()] == [(7, 8), (70, 72)]
    assert batch.block.cut(6, 7)[1] == bodies[6]
    assert batch.block.cut(69, 71)[1] == bodies[69] + bodies[70]
    assert batch.end == 101


def test_many_messages_settled_one_by_one_leave_nothing(make_queue, holder):
    """100,000 messages in batches of 100, each leased and settled alone and out of order within its batch."""
    driver = make_queue()
    for _ in range(1000):
        driver.publish(*[b"x"] * 100)
    for first in range(1, 100_000, 100):
        spans = [driver.lease(1, holder) for _ in range(100)]
        assert (spans[0].low, spans[-1].low) == (first, first + 99)
        for span in spans[::2] + spans[1::2]:
            driver.queue.remove(span.low, span.high, "settled", 1)
    assert (driver.spans(), driver.queue.messages_held, len(driver.timers), holder.spans) == ([], 0, 0, {})
    assert len(driver.queue._index._batches) <= 65
    assert len(driver.timers._heap) <= 257


def test_the_dead_of_a_batch_that_was_written_again_have_their_place(make_queue, block_of):
    """After a restart the newer ones were the first to make room."""
    driver = make_queue(restoring=True)
    driver.publish(b"a", b"b")
    driver.queue.bury(2, 3, Failure("rejected", "", 20), REJECTED)
    driver.queue.bury(1, 2, Failure("rejected", "", 30), REJECTED)
    stages = (Stage(4, 5, 1, 0, 0, True, Failure("rejected", "", 10)),)
    driver.queue.adopt(4, block_of(b"c"), Envelope(0), stages)
    driver.queue.restored(40)
    assert [span.low for span in driver.queue.dead()] == [4, 2, 1]


@pytest.mark.parametrize("text", ["", "x" * 1000, "\N{ROWBOAT}" * 300])
def test_what_counts_as_alive_is_no_less_than_it_takes_to_write_it_again(make_queue, block_of, text):
    """It was the bytes of the messages only: of many small ones, a log was always full of garbage, and written again
    and again, by a broker that nobody asked for anything."""
    driver = make_queue(QueueOptions(durability="synced"), restoring=True)
    driver.queue.residence._homes.current = 1
    big = (1 << 63) - 1
    block = block_of(*[b""] * 12)
    block.checksum = (1 << 32) - 1
    failure = Failure("attempts", text, big)
    stages = tuple(Stage(big + at, big + at + 1, big, big, big, at % 2 == 0, failure) for at in range(12))
    driver.queue.adopt(big, block, Envelope(big, big, 9, text[:255]), stages)
    batch = next(driver.queue.batches_since(0))
    encoded = encode_entry(1, big, big, big, [rehomed(batch)], lambda block: block.data)
    assert encoded.size <= driver.queue.residence._homes.live_bytes < 4 * encoded.size + 2000
    driver.queue.remove(big, big + 12, "purged", 1)
    assert driver.queue.residence._homes.live_bytes == 0


def test_a_longer_dedupe_window_brings_no_forgotten_key_back(make_queue):
    driver = make_queue(QueueOptions(dedupe_window_ms=50))
    driver.queue.dedupe.remember("a", 1, 0, 50)
    driver.queue.change(QueueOptions(dedupe_window_ms=500))
    assert (driver.queue.dedupe.known("a", 49), driver.queue.dedupe.known("a", 50)) == (1, None)
    driver.queue.change(QueueOptions(dedupe_window_ms=490))
    assert driver.queue.dedupe.known("a", 40) is None


def test_queues_share_the_names_of_their_attributes(make_queue):
    # CPython keeps the names of instances once for all of a class as long as there are fewer than 30 of them. From
    # then on each queue has a table of its own, which is 1.3 KB, and each look at an attribute takes longer.
    assert len(vars(make_queue().queue)) < 30
