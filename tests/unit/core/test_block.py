from __future__ import annotations

import struct

import pytest

from wherry_broker.core.block import Block, is_sound


def block(*bodies):
    return Block(struct.pack(f">{len(bodies)}I", *map(len, bodies)), b"".join(bodies))


@pytest.fixture
def four():
    return block(b"a", b"bbb", b"", b"cc")


def test_it_counts_its_messages_and_bytes(four):
    assert (four.count, four.size, list(four.ends)) == (4, 6, [1, 4, 4, 6])


@pytest.mark.parametrize("bodies", [[], [b""], [b"ab"], [b"", b""], [b"ab", b"cd", b"ef"], [b"ab", b"cd", b"e"]])
def test_it_says_the_lengths_that_it_was_given(bodies):
    lengths = struct.pack(f">{len(bodies)}I", *map(len, bodies))
    made = block(*bodies)
    assert (made.lengths, made.count, made.size) == (lengths, len(bodies), sum(map(len, bodies)))
    assert is_sound(lengths, b"".join(bodies))
    assert not is_sound(lengths, b"".join(bodies) + b"x")
    assert [made.part(n, n + 1).data for n in range(len(bodies))] == bodies


def test_lengths_that_add_up_are_sound(four):
    assert is_sound(four.lengths, four.data)
    assert not is_sound(four.lengths, four.data + b"x")
    assert not is_sound(four.lengths, four.data[:-1])


@pytest.mark.parametrize(("low", "high", "size"), [(0, 4, 6), (0, 1, 1), (1, 3, 3), (2, 3, 0), (3, 4, 2)])
def test_bytes_between(four, low, high, size):
    assert four.bytes_between(low, high) == size


def test_a_cut_is_a_block_of_its_own(four):
    assert four.cut(0, 4) == (four.lengths, four.data)
    assert four.cut(1, 3) == (struct.pack(">2I", 3, 0), b"bbb")
    part = four.part(1, 4)
    assert (part.count, part.data, is_sound(part.lengths, part.data)) == (3, b"bbbcc", True)


@pytest.mark.parametrize("ranges", [[(0, 1), (3, 4)], [(1, 3)], [(0, 4)], [(2, 3)]])
def test_a_block_that_keeps_some_messages_has_them_in_their_places(four, ranges):
    kept = four.keeping(ranges)
    assert (kept.count, kept.place, is_sound(kept.lengths, kept.data)) == (4, None, True)
    assert kept.size == sum(four.bytes_between(*each) for each in ranges)
    assert [kept.cut(*each) for each in ranges] == [four.cut(*each) for each in ranges]


@pytest.mark.parametrize(
    ("low", "high", "room", "count"),
    [(0, 4, 6, 4), (0, 4, 5, 3), (0, 4, 0, 0), (1, 4, 3, 2), (1, 2, 99, 1), (3, 4, 1, 0), (2, 2, 9, 0)],
)
def test_fitting_counts_those_that_fit_and_empty_ones_after_them(four, low, high, room, count):
    assert four.fitting(low, high, room) == count


@pytest.mark.parametrize(
    ("low", "high", "size", "count"),
    [(0, 4, 1, 1), (0, 4, 2, 2), (0, 4, 4, 2), (0, 4, 5, 4), (1, 4, 3, 1), (0, 2, 9, 3)],
)
def test_covering_counts_no_empty_message_that_adds_nothing(four, low, high, size, count):
    assert four.covering(low, high, size) == count
