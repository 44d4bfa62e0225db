from __future__ import annotations

import pytest

from wherry_broker.core import bounds, records
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
    ("bodies", "divisible", "fits", "bound"),
    [
        ([b"x"], False, 1, ""),
        ([b"x"] * 3, False, 0, "max_messages"),
        ([b"x"] * 3, True, 2, "max_messages"),
        ([b"x" * 6], False, 0, "max_bytes"),
        ([b"xxx"] * 2, True, 1, "max_bytes"),
        ([b"xxxxx", b"", b"x"], True, 2, "max_messages"),
        ([b"x" * 5, b"x"], True, 1, "max_bytes"),
    ],
)
def test_room_is_exact(make_queue, block_of, bodies, divisible, fits, bound):
    queue = full(make_queue, b"x", b"xxxx", max_messages=4, max_bytes=10)
    room = bounds.room(queue, block_of(*bodies), 0, divisible=divisible)
    assert room.fits == fits
    assert (room.busy.bound if room.busy else "") == bound


def test_nothing_fits_into_a_queue_that_holds_more_than_it_may_since_it_was_altered(make_queue, block_of):
    queue = full(make_queue, b"x", b"xxxx", max_messages=4, max_bytes=10)
    queue.change(queue.options.changed({"max_bytes": 4}))
    room = bounds.room(queue, block_of(b"", b"x"), 0, divisible=True)
    assert (room.fits, room.busy.bound) == (0, "max_bytes")


def test_a_bound_met_exactly_is_not_broken(make_queue, block_of):
    queue = full(make_queue, b"x", max_messages=2, max_bytes=3)
    assert bounds.room(queue, block_of(b"xx"), 0, divisible=False) == (1, None)


@pytest.mark.parametrize(
    ("bodies", "divisible", "bound"),
    [
        ([b"x"] * 5, False, "max_messages"),
        ([b"x" * 11], False, "max_bytes"),
        ([b"x" * 11, b""], True, "max_bytes"),
    ],
)
def test_what_could_never_fit_is_too_large(make_queue, block_of, bodies, divisible, bound):
    queue = full(make_queue, max_messages=4, max_bytes=10)
    refused = refusal(bounds.room, queue, block_of(*bodies), 0, divisible=divisible)
    assert (refused.code, refused.bound, refused.retryable) == ("too_large", bound, False)


def retry_after_ms(queue, block, now_ms, **more):
    busy = bounds.room(queue, block, now_ms, **more).busy
    assert (busy.code, busy.retryable) == ("busy", True)
    return busy.retry_after_ms


@pytest.fixture
def draining(make_queue):
    """A full queue of 10 messages that is freed at 10 messages a second."""
    queue = full(make_queue, *[b"x"] * 10, max_messages=10)
    for now_ms in range(0, 10_000, 100):
        queue.freed_messages.add(1, now_ms)
    return queue


def test_retry_after_is_what_is_missing_by_the_drain_rate(draining, block_of):
    assert retry_after_ms(draining, block_of(*[b"y"] * 5), 10_000, divisible=False) == pytest.approx(500, rel=0.1)


def test_retry_after_of_a_rest_is_until_the_rest_fits(draining, block_of):
    """The part that was stored was counted as room, and the floor was always the answer."""
    draining.remove(1, 4, "settled", 10_000)
    rate = draining.freed_messages.per_second(10_000)
    assert retry_after_ms(draining, block_of(*[b"y"] * 8), 10_000, divisible=True) == round(1000 * 5 / rate)


def test_retry_after_is_within_its_limits(draining, make_queue, block_of):
    unknown = full(make_queue, b"x", max_messages=1)
    assert retry_after_ms(unknown, block_of(b"y"), 0, divisible=False) == bounds.RETRY_AFTER_UNKNOWN_MS
    draining.freed_messages.add(10**9, 10_000)
    assert retry_after_ms(draining, block_of(b"y"), 10_000, divisible=False) == bounds.RETRY_AFTER_FLOOR_MS
    assert retry_after_ms(draining, block_of(b"y"), 90_000, divisible=False) <= bounds.RETRY_AFTER_CEILING_MS


@pytest.mark.parametrize("idle_s", [3_500, 3_600, 3_720, 86_400])
def test_retry_after_of_a_queue_that_stands_still_is_the_longest(draining, block_of, idle_s):
    """After an hour the rate is too small to divide by, and the broker ended with an OverflowError."""
    now_ms = 10_000 + 1000 * idle_s
    longest = {bounds.RETRY_AFTER_CEILING_MS, bounds.RETRY_AFTER_UNKNOWN_MS}
    assert retry_after_ms(draining, block_of(b"y"), now_ms, divisible=False) in longest


@pytest.mark.parametrize(
    ("held", "coming", "ranges"),
    [
        ([b"x"] * 4, [b"y"], ((1, 2),)),
        ([b"x"] * 4, [b"y"] * 3, ((1, 4),)),
        ([b"x"] * 2, [b"y"] * 2, None),
        ([b"xxx", b"xxx", b"xxx"], [b"yyyy"], ((1, 2),)),
        ([b"xxx", b"xxx", b"xxx"], [b"yyyyy"], ((1, 3),)),
        ([b"x"], [b"y"] * 5, None),
        ([b"x"], [b"y" * 11], None),
    ],
)
def test_drop_oldest_drops_as_few_as_make_room(make_queue, block_of, held, coming, ranges):
    queue = full(make_queue, *held, max_messages=4, max_bytes=10, overflow="drop_oldest")
    expected = [records.Removed(1, "dropped", ranges, 7)] if ranges else []
    assert bounds.drop_oldest(queue, len(coming), sum(map(len, coming)), 7) == expected


def test_drop_oldest_drops_no_empty_message_that_makes_no_room(make_queue, block_of):
    """After exactly enough bytes, empty messages were dropped along with them."""
    driver = make_queue(QueueOptions(max_bytes=10, overflow="drop_oldest"))
    driver.publish(b"x" * 4, b"", b"", b"x" * 6)
    assert bounds.drop_oldest(driver.queue, 1, 4, 7) == [records.Removed(1, "dropped", ((1, 2),), 7)]


def test_drop_oldest_is_only_for_queues_that_asked_for_it(make_queue, block_of):
    assert bounds.drop_oldest(full(make_queue, b"x", max_messages=1), 1, 1, 7) == []
