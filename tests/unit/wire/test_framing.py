from __future__ import annotations

import pytest

import wire_vectors
from wherry.wire.framing import (
    AFTER_LENGTH_BYTES,
    FIRST_FRAME_BYTES_MAX,
    PARTIAL_BYTES,
    PREFIX_BYTES,
    SCRATCH_BYTES,
    Frame,
    FrameReader,
    frame_head,
)

LIMIT = 1 << 24
PING = frame_head(0x02, b"\x91\x05", 0)


def frame(header: bytes, block: bytes, opcode: int = 0x10) -> bytes:
    return frame_head(opcode, header, len(block)) + block


def put(reader: FrameReader, data: bytes) -> list[Frame]:
    """What an event loop does: fills the buffer, as far as it goes, once."""
    buffer = reader.get_buffer()
    assert len(buffer) >= len(data)
    buffer[: len(data)] = data
    return reader.received(len(data))


def test_a_frame_is_laid_out_as_the_specification_draws_it():
    assert frame(b"\x91\x05", b"xyz") == bytes.fromhex("0000000d 10 00 0000 00000002 9105 78797a")


def test_a_frame_comes_back_as_it_was_sent():
    assert FrameReader(LIMIT).feed(frame(b"\x91\x05", b"xyz")) == [Frame(0x10, b"\x91\x05", b"xyz")]


def test_an_empty_frame_is_its_prefix():
    assert FrameReader(LIMIT).feed(frame(b"", b"")) == [Frame(0x10, b"", b"")]


def test_header_and_block_are_copies_that_outlive_the_receive_buffer():
    reader = FrameReader(LIMIT)
    (first,) = put(reader, frame(b"ab", b"cd"))
    put(reader, frame(b"ef", b"gh"))
    assert first == Frame(0x10, b"ab", b"cd")


def test_many_frames_of_one_read_come_in_order():
    frames = FrameReader(LIMIT).feed(b"".join(frame(bytes([number]), b"") for number in range(100)))
    assert [each.header[0] for each in frames] == list(range(100))


@pytest.mark.parametrize("cut", range(1, len(PING)))
def test_a_frame_in_two_reads_comes_with_the_second(cut):
    reader = FrameReader(LIMIT)
    assert reader.feed(PING[:cut]) == []
    assert reader.buffered_bytes == cut
    assert reader.feed(PING[cut:] + PING) == [Frame(0x02, b"\x91\x05", b"")] * 2
    assert reader.buffered_bytes == 0


def test_nothing_comes_of_no_bytes():
    reader = FrameReader(LIMIT)
    assert reader.feed(b"") == []
    assert reader.received(0) == []
    reader.feed(PING[:5])
    assert reader.received(0) == []
    assert reader.buffered_bytes == 5


def test_readers_share_a_scratch_buffer_and_keep_their_own_unfinished_frames():
    scratch = memoryview(bytearray(SCRATCH_BYTES))
    one, other = FrameReader(LIMIT, scratch), FrameReader(LIMIT, scratch)
    first, second = frame(b"one", b"1" * 100), frame(b"other", b"2" * 100)
    assert put(one, first[:50]) == []
    assert put(other, second[:60]) == []
    assert put(one, first[50:]) == [Frame(0x10, b"one", b"1" * 100)]
    assert put(other, second[60:]) == [Frame(0x10, b"other", b"2" * 100)]
    assert one.get_buffer() is scratch is other.get_buffer()


def test_a_frame_larger_than_the_scratch_buffer_is_read_whole():
    block = bytes(range(256)) * 8192
    assert FrameReader(LIMIT).feed(frame(b"\x90", block)) == [Frame(0x10, b"\x90", block)]


def test_the_limit_counts_the_whole_frame():
    whole = frame(b"\x90", b"x" * 100)
    assert len(FrameReader(len(whole)).feed(whole)) == 1
    reader = FrameReader(len(whole) - 1)
    assert reader.feed(whole) == []
    assert reader.size_exceeded


def test_a_limit_that_is_raised_holds_for_what_comes_next():
    reader = FrameReader(FIRST_FRAME_BYTES_MAX)
    large = frame(b"\x90", bytes(FIRST_FRAME_BYTES_MAX))
    assert reader.feed(PING) == [Frame(0x02, b"\x91\x05", b"")]
    reader.frame_bytes_max = LIMIT
    assert len(reader.feed(large)) == 1


def test_a_large_frame_that_comes_with_hello_is_over_the_first_limit():
    reader = FrameReader(FIRST_FRAME_BYTES_MAX)
    assert len(reader.feed(PING + frame(b"\x90", bytes(FIRST_FRAME_BYTES_MAX)))) == 1
    assert reader.size_exceeded


def test_the_prefix_is_checked_as_soon_as_it_is_whole_however_it_was_cut():
    # Once a prefix was cut after its length, 64 KiB more had to come before its flags were looked at.
    bad = bytes.fromhex("00010000 02 ff 0000 00000000")
    for cut in range(1, PREFIX_BYTES):
        reader = FrameReader(LIMIT)
        reader.feed(bad[:cut])
        assert not reader.failure
        assert len(reader.get_buffer()) == PREFIX_BYTES - cut
        reader.feed(bad[cut:])
        assert reader.failure == "flags 255 and reserved field 0 must be 0 in this version"


@pytest.mark.parametrize("cut", range(5))
def test_a_length_over_the_limit_is_refused_once_its_four_bytes_are_there(cut):
    reader = FrameReader(LIMIT)
    reader.feed(b"\xff\xff\xff\xff"[:cut])
    assert bool(reader.failure) == (cut == 4)
    reader.feed(b"\xff\xff\xff\xff"[cut:])
    assert reader.failure == f"a frame of 4294967299 bytes is over the limit of {LIMIT} bytes"
    assert reader.size_exceeded
    assert reader.buffered_bytes <= PREFIX_BYTES


def test_a_length_that_is_claimed_allocates_nothing():
    reader = FrameReader(LIMIT)
    reader.feed(frame_head(0x10, b"", LIMIT - PREFIX_BYTES))
    assert not reader.failure
    assert len(reader.get_buffer()) <= PARTIAL_BYTES


def test_nothing_is_read_after_a_failure():
    reader = FrameReader(LIMIT)
    assert len(reader.feed(PING + bytes(4) + PING)) == 1
    failure = reader.failure
    assert failure
    assert reader.feed(PING) == []
    assert put(reader, PING[:3]) == []
    assert reader.failure == failure
    assert reader.buffered_bytes == 0


@pytest.mark.parametrize("vector", wire_vectors.load("bad_frames"), ids=lambda vector: vector["name"])
def test_bad_frames(vector):
    data = wire_vectors.data_of(vector["hex"])
    reader = FrameReader(vector["limit"])
    frames = reader.feed(data)
    assert (len(frames), reader.failure, reader.size_exceeded) == (
        vector["frames_before"],
        vector["failure"],
        vector["size_exceeded"],
    )


def test_the_parts_of_the_prefix_add_up():
    assert PREFIX_BYTES == 4 + AFTER_LENGTH_BYTES == 12
