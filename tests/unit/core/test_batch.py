from __future__ import annotations

from wherry_broker.core.batch import READY, Batch, Envelope, Failure, Span
from wherry_broker.core.block import Block


def batch(count, first=10):
    made = Batch(None, first, Block((2).to_bytes(4, "big") * count, b"xy" * count), Envelope(0))
    made.spans.append(Span(made, first, first + count, READY))
    return made


def bounds(made):
    return [(span.low, span.high) for span in made.spans]


def test_a_span_knows_its_size():
    whole = batch(5).spans[0]
    assert (len(whole), whole.size()) == (5, 10)


def test_a_split_keeps_the_order_of_spans_and_all_but_the_timer():
    made = batch(6)
    whole = made.spans[0]
    whole.attempt, whole.released, whole.due_ms, whole.timer = 3, 1, 99, 7
    whole.failure = Failure("failed", "boom", 5)
    right = whole.split(14)
    middle = whole.split(12)
    assert made.spans == [whole, middle, right]
    assert bounds(made) == [(10, 12), (12, 14), (14, 16)]
    assert (right.attempt, right.released, right.due_ms, right.timer) == (3, 1, 99, 0)
    assert right.failure is whole.failure
    assert right.spent == 2


def test_position_finds_the_span_of_an_offset_or_the_one_after_it():
    made = batch(6)
    made.spans[0].split(14)
    made.spans[0].high = 12
    assert [made.position(offset) for offset in (9, 10, 11, 12, 13, 14, 15, 16)] == [0, 0, 0, 1, 1, 1, 1, 2]


def test_bytes_between_is_by_offset():
    assert batch(6).bytes_between(11, 13) == 4
    assert batch(6).end == 16
