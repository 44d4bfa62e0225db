from __future__ import annotations

from wherry_broker.core.batch import GONE, READY, Batch, Envelope, Span
from wherry_broker.core.block import Block
from wherry_broker.core.lane import GARBAGE_MIN, Lane

BATCH = Batch(None, 1, Block(bytes(4), b""), Envelope(0))


def span(low, high=None):
    return Span(BATCH, low, high or low + 1, READY)


def drained(lane):
    lows = []
    while head := lane.head():
        assert lane.pop() is head
        lows.append(head.low)
    return lows


def test_fresh_spans_come_first_in_first_out():
    lane = Lane()
    for low in range(5):
        lane.append(span(low))
    assert drained(lane) == [0, 1, 2, 3, 4]
    assert lane.head() is None


def test_what_is_put_back_takes_its_old_place():
    lane = Lane()
    for low in (1, 4, 8):
        lane.append(span(low))
    for low in (9, 6, 2):
        lane.put_back(span(low))
    assert drained(lane) == [1, 2, 4, 6, 8, 9]


def test_what_is_ready_no_longer_is_passed_over():
    lane, gone, returned = Lane(), span(1), span(2)
    lane.append(gone)
    lane.put_back(returned)
    lane.append(span(3))
    for each in (gone, returned):
        each.state = GONE
        lane.discarded()
    assert drained(lane) == [3]


def test_head_and_pop_agree_and_head_takes_nothing():
    lane, first = Lane(), span(1)
    lane.append(first)
    assert lane.head() is lane.head() is lane.pop() is first


def test_garbage_is_swept_once_it_is_most_of_the_lane():
    lane, spans = Lane(), [span(low) for low in range(100_000)]
    for number, each in enumerate(spans):
        (lane.put_back if number % 2 else lane.append)(each)
    most = 0
    for each in spans[:-100]:
        each.state = GONE
        lane.discarded()
        most = max(most, lane._garbage)
    assert most <= 50_000
    assert len(lane._fresh) + len(lane._returned) <= 100 + 2 * GARBAGE_MIN
    assert drained(lane) == list(range(99_900, 100_000))


def test_a_sweep_keeps_the_order_of_what_was_put_back():
    lane = Lane()
    spans = [span(low) for low in (*range(200), 900, 300, 800, 400, 700)]
    for each in spans:
        lane.put_back(each)
    for each in spans[:200]:
        each.state = GONE
        lane.discarded()
    assert drained(lane) == [300, 400, 700, 800, 900]
