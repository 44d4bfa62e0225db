"""The wire under everything that can come: any message, any cut of the stream, any bytes at all."""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wire_vectors
from wherry.wire import codec
from wherry.wire.codec import LAYOUTS, BadFrame, BadValue, Layout
from wherry.wire.framing import LENGTH_BYTES, PARTIAL_BYTES, PREFIX_BYTES, Frame, FrameReader, frame_head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.model.fields import Spec

LIMIT = 1 << 20
GOOD = wire_vectors.load("messages")
GOOD_BYTES = [wire_vectors.data_of(vector["hex"]) for vector in GOOD]
BAD_BYTES = [wire_vectors.data_of(vector["hex"]) for vector in wire_vectors.load("bad_frames")]

scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text() | st.binary()
numbers = scalars | st.floats(allow_nan=False)
trees = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=8) | st.binary(max_size=4), inner, max_size=5)
    ),
    max_leaves=20,
)
queue_names = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._:@-]{0,254}\Z")


def values(spec: Spec) -> st.SearchStrategy[Any]:
    """Values that a field type allows, small ones of every shape; derived from the spec's own check."""
    limits = inspect.getclosurevars(spec.check).nonlocals
    kind = spec.types[0]
    if type(None) in spec.types:
        return st.none() | values(limits["spec"])
    if spec.name == "queue":
        return queue_names
    if spec.name == "subject":
        return st.from_regex(r"\A[a-z0-9!?~]{1,9}(\.[a-z0-9!?~]{1,9}){0,15}\Z")
    if spec.name == "lengths":
        return st.lists(st.integers(0, 99), min_size=1, max_size=50).map(
            lambda each: b"".join(n.to_bytes(4, "big") for n in each)
        )
    if "cells" in limits:
        return st.lists(st.tuples(*map(values, limits["cells"])), max_size=6).map(tuple)
    return {
        int: lambda: st.integers(limits["low"], limits["high"]),
        bool: st.booleans,
        str: lambda: st.text(max_size=limits["high"]).map(lambda each: fitted(each, limits["high"])),
        bytes: lambda: st.binary(max_size=200),
        dict: lambda: st.dictionaries(st.text(max_size=20), trees, max_size=8),
        tuple: lambda: st.lists(st.text(max_size=20), max_size=6).map(tuple),
    }[kind]()


def fitted(text: str, size: int) -> str:
    """The start of a text, as much as fits into `size` bytes of UTF-8."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def spoken(layout: Layout) -> st.SearchStrategy[Any]:
    """Messages of a type."""
    block = [st.binary(max_size=500)] if layout.has_block else []
    return st.tuples(*map(values, layout.specs), *block).map(layout.cls._make)


every_message = st.sampled_from(sorted(LAYOUTS)).flatmap(lambda opcode: spoken(LAYOUTS[opcode]))
every_frame = every_message.map(codec.encode) | st.sampled_from(GOOD_BYTES)
streams = st.lists(every_frame, max_size=6).map(b"".join)
tails = st.just(b"") | st.sampled_from(BAD_BYTES) | st.binary(max_size=40)


def put(reader: FrameReader, data: bytes) -> list[Frame]:
    """Fills the reader's own buffer, again and again, as an event loop does."""
    frames = []
    while data and not reader.failure:
        buffer = reader.get_buffer()
        size = min(len(buffer), len(data))
        assert size
        buffer[:size] = data[:size]
        frames += reader.received(size)
        data = data[size:]
    return frames


def outcome(pieces: Iterable[bytes], *, by_buffer: bool = False) -> tuple[list[Frame], str, bool, int]:
    """What a reader makes of a stream in pieces."""
    reader = FrameReader(LIMIT)
    frames = []
    for piece in pieces:
        frames += put(reader, piece) if by_buffer else reader.feed(piece)
    return frames, reader.failure, reader.size_exceeded, 0 if reader.failure else reader.buffered_bytes


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[low:high] for low, high in pairwise(places)]


def decoded(frame: Frame) -> Any:
    """A message, or why there is none. An error that is neither BadFrame nor BadValue gets through."""
    try:
        return codec.decode(frame)
    except BadFrame as error:
        return str(error) or pytest.fail("the error has no text")
    except BadValue as error:
        fields = msgpack.unpackb(frame.header)
        if error.request and error.request != fields[0]:
            pytest.fail(f"request {error.request} is not {fields[0]}")
        return str(error) or pytest.fail("the error has no text")


# Messages.


@pytest.mark.parametrize("opcode", LAYOUTS, ids=lambda opcode: LAYOUTS[opcode].cls.__name__)
@settings(deadline=None)
@given(data=st.data())
def test_every_message_comes_back_as_it_was(opcode, data):
    message = data.draw(spoken(LAYOUTS[opcode]))
    (frame,) = wire_vectors.frames_of(codec.encode(message))
    got = codec.decode(frame)
    assert type(got) is LAYOUTS[opcode].cls
    assert got == message
    assert list(map(type, got)) == list(map(type, message))


@settings(deadline=None)
@given(message=every_message, given=st.integers(0, 20))
def test_trailing_fields_that_are_missing_have_their_defaults(message, given):
    (frame,) = wire_vectors.frames_of(codec.encode(message))
    layout = LAYOUTS[frame.opcode]
    given = min(given, len(layout.fields))
    shorter = frame._replace(header=msgpack.packb(msgpack.unpackb(frame.header, use_list=False)[:given]))
    if given < layout.required:
        with pytest.raises(BadFrame, match=f"has {given} fields of at least {layout.required}"):
            codec.decode(shorter)
        return
    got = codec.decode(shorter)
    assert got[:given] == message[:given]
    assert got[given : len(layout.fields)] == layout.defaults[given - layout.required :]


@settings(deadline=None)
@given(message=every_message, more=st.lists(trees, max_size=4))
def test_trailing_fields_of_a_later_version_are_ignored(message, more):
    (frame,) = wire_vectors.frames_of(codec.encode(message))
    longer = msgpack.unpackb(frame.header, use_list=False) + tuple(more)
    assert codec.decode(frame._replace(header=msgpack.packb(longer))) == message


@settings(deadline=None)
@given(opcode=st.integers(0, 255), header=trees.map(msgpack.packb) | st.binary(), block=st.binary(max_size=20))
@example(0x02, b"\x91" * 1020 + b"\x01", b"")
@example(0x02, b"\xdd\xff\xff\xff\xff" * 100, b"")
@example(0x02, b"", b"")
def test_a_header_of_anything_fails_in_two_ways_only(opcode, header, block):
    message = decoded(Frame(opcode, header, block))
    assert isinstance(message, str) or type(message) is LAYOUTS[opcode].cls


@settings(deadline=None)
@given(data=st.data(), opcode=st.sampled_from(sorted(LAYOUTS)), position=st.integers(0, 10), value=trees)
def test_a_field_of_anything_fails_in_two_ways_only(data, opcode, position, value):
    (frame,) = wire_vectors.frames_of(codec.encode(data.draw(spoken(LAYOUTS[opcode]))))
    fields = list(msgpack.unpackb(frame.header))
    fields[position % len(fields)] = value
    decoded(frame._replace(header=msgpack.packb(fields)))


# The stream.


@settings(deadline=None)
@given(stream=streams, tail=tails, at=st.lists(st.integers(0, 1 << 16), max_size=12))
def test_however_a_stream_is_cut_it_says_the_same(stream, tail, at):
    data = stream + tail
    expected = outcome([data])
    assert outcome([data], by_buffer=True) == expected
    single = [data[number : number + 1] for number in range(len(data))]
    for by_buffer in (False, True):
        assert outcome(single, by_buffer=by_buffer) == expected
        assert outcome(cut(data, at), by_buffer=by_buffer) == expected


@settings(deadline=None, max_examples=25)
@given(
    blocks=st.lists(st.integers(0, 400_000), min_size=1, max_size=4),
    at=st.lists(st.integers(0, 1 << 21), max_size=8),
)
def test_large_frames_are_read_alike_however_they_are_cut(blocks, at):
    data = b"".join(frame_head(0x10, b"h%d" % size, size) + bytes(size) for size in blocks)
    expected = [Frame(0x10, b"h%d" % size, bytes(size)) for size in blocks]
    for by_buffer in (False, True):
        assert outcome(cut(data, at), by_buffer=by_buffer) == (expected, "", False, 0)


@pytest.mark.parametrize("vector", GOOD, ids=lambda vector: vector["name"])
def test_a_frame_that_is_not_whole_says_nothing(vector):
    data = wire_vectors.data_of(vector["hex"])
    for place in range(len(data)):
        assert outcome([data[:place]]) == ([], "", False, place)
        assert outcome([data[:place], data[place:]]) == outcome([data])
    assert len(outcome([data])[0]) == 1


@settings(deadline=None)
@given(garbage=st.binary(max_size=300), limit=st.integers(PREFIX_BYTES, LIMIT), at=st.lists(st.integers(0, 300)))
def test_garbage_raises_nothing(garbage, limit, at):
    reader = FrameReader(limit)
    frames = [frame for piece in cut(garbage, at) for frame in reader.feed(piece)]
    for frame in frames:
        decoded(frame)
    assert not reader.size_exceeded or reader.failure
    assert reader.buffered_bytes <= len(garbage)


@settings(deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=4), stream=streams)
def test_a_stream_with_wrong_bytes_raises_nothing(flips, stream):
    data = bytearray(stream or b"\0")
    for place, bits in flips:
        data[place % len(data)] ^= bits
    for frame in outcome([bytes(data)])[0]:
        decoded(frame)


# What is claimed, and what it costs.


@given(limit=st.integers(PREFIX_BYTES, LIMIT), over=st.integers(1, 1 << 31), at=st.integers(0, LENGTH_BYTES))
def test_a_length_over_the_limit_is_refused_when_its_four_bytes_are_there(limit, over, at):
    length = (limit - LENGTH_BYTES + over).to_bytes(LENGTH_BYTES, "big")
    reader = FrameReader(limit)
    reader.feed(length[:at])
    assert bool(reader.failure) == (at == LENGTH_BYTES)
    reader.feed(length[at:])
    assert reader.failure
    assert reader.size_exceeded
    assert reader.buffered_bytes <= PREFIX_BYTES


@given(limit=st.integers(PREFIX_BYTES, LIMIT), at=st.integers(0, PREFIX_BYTES))
def test_a_length_at_the_limit_is_taken_and_allocates_no_more_than_a_little(limit, at):
    prefix = frame_head(0x10, b"", limit - PREFIX_BYTES)
    reader = FrameReader(limit)
    frames = reader.feed(prefix[:at]) + reader.feed(prefix[at:])
    assert not reader.failure
    assert bool(frames) == (limit == PREFIX_BYTES)
    assert frames or len(reader.get_buffer().obj) <= min(limit, PARTIAL_BYTES)


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 3 << 20), piece=st.integers(500, 70_000))
@example(3 << 20, 1_000)
def test_a_frame_that_drips_in_costs_a_copy_or_two(size, piece):
    data = frame_head(0x10, b"\x90", size) + bytes(size)
    reader = FrameReader(4 << 20)
    buffer, copied, frames, position = None, 0, [], 0
    while position < len(data):
        room = reader.get_buffer()
        if room.obj is not buffer and reader.buffered_bytes:  # what was held has moved to another buffer
            buffer, copied = room.obj, copied + reader.buffered_bytes
            assert len(buffer) <= max(2 * reader.buffered_bytes, PARTIAL_BYTES)
        step = min(piece, len(room), len(data) - position)
        room[:step] = data[position : position + step]
        frames += reader.received(step)
        position += step
    assert frames == [Frame(0x10, b"\x90", bytes(size))]
    assert copied <= 2 * len(data)
