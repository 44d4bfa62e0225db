"""Which messages of a delivery are held: ranges against a set of offsets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wherry.delivery import Delivery

FIRST, COUNT = 100, 24


def a_delivery() -> Delivery:
    return Delivery("q", 7, (FIRST, COUNT, 1, 0, 0, 0, ""))


ranges = st.tuples(st.integers(0, COUNT - 1), st.integers(1, COUNT)).map(
    lambda pair: (FIRST + pair[0], FIRST + min(COUNT, sum(pair)))
)


@given(st.lists(ranges, max_size=20))
def test_what_is_held_is_what_was_not_let_go(gone):
    delivery, held = a_delivery(), set(range(FIRST, FIRST + COUNT))
    for low, high in gone:
        assert delivery.let_go(low, high) == len(held & {*range(low, high)})
        held -= {*range(low, high)}
        found = [offset for low, high in delivery.held() for offset in range(low, high)]
        assert found == sorted(held)
        assert delivery.open == len(held)
        assert all(delivery.holds(offset) == (offset in held) for offset in range(FIRST, FIRST + COUNT))
    # Nothing is kept that says nothing: neighbours are one range, and none is below `low`.
    bounds = [delivery.low, *(bound for gap in delivery.gaps or () for bound in gap)]
    assert bounds == sorted(set(bounds))


def test_settling_in_turn_leaves_no_ranges_behind():
    delivery = a_delivery()
    for offset in range(FIRST, FIRST + COUNT):
        assert delivery.let_go(offset, offset + 1) == 1
        assert delivery.gaps is None
    assert list(delivery.held()) == []
