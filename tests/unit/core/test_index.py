from __future__ import annotations

from collections import UserList

import pytest

from wherry_broker.core.batch import Batch, Envelope
from wherry_broker.core.block import Block
from wherry_broker.core.index import BatchIndex


class Counted(UserList):
    """A list that counts how many of its items were read."""

    reads = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        Counted.reads += len(found) if isinstance(key, slice) else 1
        return found


def batch(first, count=2):
    return Batch(None, first, Block(bytes(4 * count), b""), Envelope(0))


def filled(number, count=2):
    index, batches = BatchIndex(), [batch(1 + each * count, count) for each in range(number)]
    for each in batches:
        index.append(each)
    return index, batches


def test_since_gives_the_batches_that_hold_an_offset_or_later_ones():
    index, (first, second, third) = filled(3)
    assert list(index.since(0)) == list(index.since(2)) == [first, second, third]
    assert list(index.since(3)) == [second, third]
    assert list(index.since(6)) == [third]
    assert list(index.since(7)) == []
    assert list(BatchIndex().since(0)) == []


def test_find_gives_the_batch_that_holds_an_offset():
    index, (first, second) = filled(2)
    assert [index.find(offset) for offset in range(6)] == [None, first, first, second, second, None]
    index.discard(first)
    assert index.find(2) is None


def test_what_is_discarded_is_gone_before_and_after_the_holes_are_swept():
    index, batches = filled(200)
    for count, each in enumerate(batches[::2], 1):
        index.discard(each)
        assert len(index) == 200 - count
    index.discard(batches[1])
    assert list(index.since(0)) == batches[3::2]
    index.append(batch(1001))
    assert [each.first for each in index.since(398)] == [399, 1001]


def test_an_emptied_index_is_as_good_as_new():
    index, batches = filled(3)
    for each in batches:
        index.discard(each)
    assert list(index.since(0)) == []
    late = batch(50)
    index.append(late)
    assert list(index.since(0)) == list(index.since(51)) == [late]


def test_offsets_only_grow():
    index, _ = filled(2)
    with pytest.raises(AssertionError):
        index.append(batch(3))


def test_a_look_reads_few_of_many_batches():
    """Reading one batch at the front used to copy all that follow; reading the first one used to pass all holes."""
    index, batches = filled(100_000)
    for each in batches[:40_000]:
        index.discard(each)
    index._batches = Counted(index._batches)
    Counted.reads = 0
    assert next(index.since(0)) is batches[40_000]
    assert next(index.since(batches[41_000].first)) is batches[41_000]
    assert next(index.since(batches[99_999].first)) is batches[99_999]
    assert Counted.reads <= 6
