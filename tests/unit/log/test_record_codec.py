from __future__ import annotations

import contextlib
import struct

import msgpack
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from log_files import EVERY_KIND, block_of, plain, published
from wherry_broker.core.batch import Envelope, Failure
from wherry_broker.core.block import Block
from wherry_broker.core.records import (
    Changed,
    Declared,
    Deleted,
    Died,
    Fired,
    Gated,
    Joined,
    Kept,
    Known,
    Plan,
    Preamble,
    Published,
    Rehomed,
    Removed,
    Returned,
    Row,
    Scheduled,
    Sequenced,
    Stage,
    Standing,
    Tallied,
    Unscheduled,
    Waiting,
)
from wherry_broker.log import codec
from wherry_broker.log.codec import Damaged, SegmentHead, UnknownVersion

HEAD = SegmentHead(4, 11, 22, 33)
PREFIX = codec.ENTRY_PREFIX_BYTES


def encoded(*new, mark=HEAD.mark, number=7, synced=5, oldest=2, load=None) -> bytes:
    return b"".join(codec.encode_entry(mark, number, synced, oldest, new, load or (lambda _: b"")).pieces)


def decoded(data: bytes, offset: int = 0, *, with_blocks: bool = True) -> codec.Entry:
    return codec.read_entry(memoryview(data), offset, HEAD, with_blocks=with_blocks)


def with_head(rows, blocks: bytes = b"") -> bytes:
    """An entry with a sound checksum, whatever is in it."""
    head = rows if isinstance(rows, bytes) else msgpack.packb(rows)
    start = struct.pack(">QIQQQQ", HEAD.mark, len(head), len(blocks), 7, 5, 2)
    return start + crc32c(start + head).to_bytes(4, "big") + head + blocks


def test_every_kind_comes_back():
    entry = decoded(encoded(*EVERY_KIND))
    assert [plain(record) for record in entry.records] == [plain(record) for record in EVERY_KIND]
    assert entry.prefix[:3] == (7, 5, 2)


numbers = st.integers(0, (1 << 64) - 1)
texts = st.text(max_size=20)
options = st.dictionaries(texts, st.integers(0, 1 << 40) | texts | st.booleans() | st.floats(allow_nan=False))
ranges = st.lists(st.tuples(numbers, numbers), max_size=4).map(tuple)
failures = st.builds(Failure, texts, texts, numbers)
lineages = st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple)
envelopes = st.builds(Envelope, numbers, numbers, st.integers(0, 9), texts, st.booleans(), texts, lineages)
blocks = st.lists(st.binary(max_size=40), min_size=1, max_size=5).map(lambda bodies: block_of(*bodies))
stages = st.builds(Stage, numbers, numbers, numbers, numbers, numbers, st.booleans(), st.none() | failures)
keys = st.lists(st.tuples(texts, numbers, numbers), max_size=3).map(tuple)
standings = st.builds(Standing, numbers, texts, options, numbers, keys)
rows = st.lists(st.builds(Row, numbers, numbers, numbers, numbers), max_size=3).map(tuple)
known = st.lists(st.builds(Known, texts, numbers, numbers, rows), max_size=2).map(tuple)
moments, flags = numbers, st.booleans()
plans = st.builds(
    Plan,
    *(texts, texts, texts, numbers, moments, moments, moments, moments),
    *(st.integers(0, 9), texts, numbers, texts, texts, numbers, numbers, st.binary(max_size=40)),
)
kept = st.builds(Kept, texts, plans, moments, flags, *[numbers] * 9, texts)
members = st.lists(st.tuples(numbers, numbers, numbers), max_size=3).map(tuple)
waiting = st.builds(Waiting, texts, numbers, numbers, numbers, numbers, st.booleans(), members)
every_record = st.one_of(
    st.builds(Declared, numbers, texts, options, numbers),
    st.builds(Changed, numbers, options),
    st.builds(Deleted, numbers),
    st.builds(Published, numbers, numbers, envelopes, numbers, texts, blocks),
    st.builds(Removed, numbers, texts, ranges, numbers),
    st.builds(Returned, numbers, texts, ranges, numbers, texts, numbers),
    st.builds(Died, numbers, ranges, failures),
    st.builds(Rehomed, numbers, numbers, envelopes, st.lists(stages, max_size=3).map(tuple), blocks),
    st.builds(
        Preamble,
        *(numbers, numbers, numbers, st.lists(standings, max_size=3).map(tuple), known),
        st.lists(kept, max_size=2).map(tuple),
        st.lists(waiting, max_size=2).map(tuple),
    ),
    st.builds(Scheduled, texts, plans, moments, flags, moments, moments),
    st.builds(Unscheduled, texts),
    st.builds(Fired, texts, moments, moments, moments, numbers, numbers, numbers, flags, texts),
    st.builds(Sequenced, texts, numbers, numbers, rows),
    st.builds(Gated, numbers, texts, numbers, numbers, st.booleans()),
    st.builds(Joined, numbers, texts, numbers, numbers, numbers),
    st.builds(Tallied, numbers, texts, numbers, numbers),
)


@given(st.lists(every_record, max_size=6), numbers, numbers, numbers, st.binary(max_size=9), st.binary(max_size=9))
def test_any_records_come_back_from_anywhere_in_a_file(new, number, synced, oldest, before, after):
    entry = encoded(*new, number=number, synced=synced, oldest=oldest)
    data = before + entry + after
    found = decoded(data, len(before))
    assert [plain(record) for record in found.records] == [plain(record) for record in new]
    assert (found.prefix.number, found.prefix.synced, found.prefix.oldest) == (number, synced, oldest)
    assert (found.segment, found.offset, found.end) == (HEAD.segment, len(before), len(before) + len(entry))


@given(st.lists(every_record, max_size=4), st.data())
def test_a_flipped_bit_is_never_read(new, data):
    entry = bytearray(encoded(*new))
    bit = data.draw(st.integers(0, 8 * len(entry) - 1))
    entry[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Damaged):
        decoded(bytes(entry))


@given(st.binary(max_size=200))
def test_any_bytes_with_a_sound_checksum_are_read_or_damaged(head):
    with contextlib.suppress(Damaged):
        decoded(with_head(head))


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=3) | st.binary(max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=30,
)


@given(st.lists(st.lists(odd, min_size=1, max_size=10) | odd, max_size=3) | odd, st.binary(max_size=9))
def test_any_values_with_a_sound_checksum_are_read_or_damaged(rows, block):
    with contextlib.suppress(Damaged):
        decoded(with_head(rows, block))


# Blocks.


def test_blocks_are_told_with_their_places():
    first, second = block_of(b"one", b"two"), block_of(b"three")
    new = [published(1, b"x"), Rehomed(1, 5, Envelope(1), (), first), published(9, b"three")._replace(block=second)]
    pieces, size, places = codec.encode_entry(HEAD.mark, 7, 5, 2, new, lambda _: b"")
    data = b"".join(pieces)
    assert len(data) == size
    assert [block for block, _ in places] == [new[0].block, first, second]
    assert [data[start : start + block.size] for block, start in places] == [b"x", b"onetwo", b"three"]
    for record, (block, start) in zip(decoded(b"??" + data, 2).records, places, strict=True):
        assert record.block.place == (HEAD.segment, 2 + start)
        assert record.block.checksum == crc32c(block.data)


def test_blocks_stay_where_they_are_unless_asked_for():
    (record,) = decoded(encoded(published(1, b"one", b"two")), with_blocks=False).records
    assert (record.block.data, record.block.size, record.block.count) == (None, 6, 2)


def test_a_block_that_is_not_in_memory_is_loaded_once_and_its_checksum_is_kept():
    block = Block(block_of(b"one").lengths, None, 3)
    block.checksum = crc32c(b"one")
    asked = []
    data = encoded(published(1, b"x")._replace(block=block), load=lambda each: asked.append(each) or b"one")
    assert asked == [block]
    (record,) = decoded(data).records
    assert (record.block.data, record.block.checksum) == (b"one", crc32c(b"one"))


def test_a_damaged_block_is_found_although_it_is_not_asked_for():
    data = bytearray(encoded(published(1, b"one")))
    data[-1] ^= 1
    with pytest.raises(Damaged, match="block"):
        decoded(bytes(data), with_blocks=False)


# What cannot be.


def test_an_entry_of_another_segment_is_not_read():
    with pytest.raises(Damaged, match="would begin with 0000000000000016, not with 0000000000000017"):
        decoded(encoded(mark=23))


def test_a_length_is_looked_at_before_anything_is_read():
    data = bytearray(encoded(*EVERY_KIND))
    data[8:12] = b"\xff\xff\xff\xff"
    with pytest.raises(Damaged, match="claims 4294967"):
        decoded(bytes(data))


@pytest.mark.parametrize("size", [0, 1, PREFIX - 1])
def test_less_than_a_prefix_is_no_entry(size):
    with pytest.raises(Damaged, match=f"{size} bytes are less"):
        decoded(encoded()[:size])


@pytest.mark.parametrize(
    "rows",
    [7, [7], [[]], [[99, 1]], [[1]], [[1, 2, 3, 4, 5, 6, 7]], [[9, 1, 1, 1, [[1]]]], [[4, 1]], [[[], 1]], {"a": 1}],
)
def test_a_head_that_holds_no_records_is_damage(rows):
    with pytest.raises(Damaged, match="cannot be read"):
        decoded(with_head(rows))


def test_blocks_that_the_records_do_not_have_are_damage():
    with pytest.raises(Damaged, match="length that its prefix says"):
        decoded(with_head([[3, 1]], b"more"))


# The heads of segments.


def test_a_segment_s_head_comes_back():
    data = codec.encode_segment_head(HEAD)
    assert len(data) == codec.SEGMENT_HEAD_BYTES
    assert codec.read_segment_head(data + b"and more", 4) == HEAD


def test_a_head_under_the_wrong_name_is_damage():
    with pytest.raises(Damaged, match="segment 4, and not 5"):
        codec.read_segment_head(codec.encode_segment_head(HEAD), 5)


@pytest.mark.parametrize("bit", range(8 * codec.SEGMENT_HEAD_BYTES))
def test_a_flipped_bit_in_a_head_is_damage(bit):
    data = bytearray(codec.encode_segment_head(HEAD))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Damaged):
        codec.read_segment_head(bytes(data), 4)


def test_a_head_of_another_version_is_not_damage():
    data = bytearray(codec.encode_segment_head(HEAD))
    data[8:12] = (codec.VERSION + 1).to_bytes(4, "big")
    data[12:] = b"whatever comes in that version, and how long it is"
    with pytest.raises(UnknownVersion, match=f"version {codec.VERSION + 1}"):
        codec.read_segment_head(bytes(data), 4)
