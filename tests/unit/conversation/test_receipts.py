"""Receipts that are made when they are looked at, against a list of those that are made one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry import Receipt
from wherry.conversation.receipts import Receipts

batches = st.lists(st.tuples(st.integers(1, 1 << 60), st.integers(1, 5), st.booleans()), max_size=4)
places = st.none() | st.integers(-25, 25)


def made(given_batches) -> tuple[Receipts, list[Receipt]]:
    found, expected = Receipts(), []
    for first, count, duplicate in given_batches:
        found.add(Receipt("q", first, "synced", duplicate), count)
        expected += [Receipt("q", first + n, "synced", duplicate) for n in range(count)]
    return found, expected


@given(batches, st.builds(slice, places, places, st.none() | st.sampled_from([-2, -1, 1, 2])))
def test_they_are_like_a_list(given_batches, part):
    found, expected = made(given_batches)
    assert list(found) == expected
    assert found == expected
    assert found == made(given_batches)[0]
    assert (len(found), repr(found), list(reversed(found))) == (len(expected), repr(expected), expected[::-1])
    assert found[part] == expected[part]
    assert [found[n] for n in range(-len(found), len(found))] == expected * 2
    assert {type(each) for each in found} <= {Receipt}


def test_there_is_none_beyond_the_last():
    found, _ = made([(5, 3, False)])
    assert [each.id for each in found] == ["q/5", "q/6", "q/7"]
    assert found != [*found, found[0]]
    assert found != "q"
    for place in (3, -4):
        with pytest.raises(IndexError, match=f"no receipt {place} of 3"):
            found[place]
    assert list(Receipts()) == []
