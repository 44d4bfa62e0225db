from __future__ import annotations

import tracemalloc

import msgpack
import pytest

import wire_vectors
from wherry.model import commands, replies
from wherry.model.fields import HEADER_BYTES_MAX, ROWS_MAX
from wherry.wire import codec
from wherry.wire.codec import LAYOUTS, OPCODES, SHORT_HEADER_BYTES, BadFrame, BadValue
from wherry.wire.framing import Frame

MESSAGES = wire_vectors.load("messages")
BAD_HEADERS = wire_vectors.load("bad_headers")


def header(*fields: object) -> bytes:
    return msgpack.packb(fields)


def decoded(opcode: int, *fields: object, block: bytes = b"") -> object:
    return codec.decode(Frame(opcode, header(*fields), block))


@pytest.mark.parametrize("vector", MESSAGES, ids=lambda vector: vector["name"])
def test_a_vector_is_what_it_says_in_both_directions(vector):
    data, message = wire_vectors.data_of(vector["hex"]), wire_vectors.message_of(vector)
    (frame,) = wire_vectors.frames_of(data)
    got = codec.decode(frame)
    assert type(got) is type(message)
    assert got == message
    assert list(map(type, got)) == list(map(type, message))
    if not vector.get("decode_only"):
        assert codec.encode(message) == data


def test_there_is_a_vector_of_every_message_type():
    assert {vector["type"] for vector in MESSAGES if not vector.get("decode_only")} == set(wire_vectors.CLASSES)


@pytest.mark.parametrize("vector", BAD_HEADERS, ids=lambda vector: vector["name"])
def test_bad_headers(vector):
    (frame,) = wire_vectors.frames_of(wire_vectors.data_of(vector["hex"]))
    with pytest.raises((BadFrame, BadValue)) as caught:
        codec.decode(frame)
    text = str(caught.value)
    assert type(caught.value).__name__ == vector["error"]
    assert getattr(caught.value, "request", None) == vector.get("request")
    if "text" in vector:
        assert text == vector["text"]
    else:  # the rest of the text is msgpack's
        assert text.startswith(vector["text_begins"])
        assert len(text) > len(vector["text_begins"])


def test_opcodes_tell_the_ends_apart():
    both = {commands.Ping, commands.Goodbye, replies.Pong}
    for opcode, cls in OPCODES.items():
        assert cls in both or (opcode >= 0x80) == (cls.__module__ == replies.__name__), cls


def test_a_class_has_one_opcode():
    assert len(set(OPCODES.values())) == len(OPCODES)


def test_every_request_begins_with_its_number():
    for layout in LAYOUTS.values():
        if layout.cls in commands.Request.__args__:
            assert layout.fields[0] == "request", layout.cls


def test_required_fields_come_before_those_with_defaults():
    for layout in LAYOUTS.values():
        assert len(layout.fields) == len(layout.specs) == layout.required + len(layout.defaults), layout.cls


def test_missing_fields_take_their_defaults_one_by_one():
    whole = [17, "q", "dead", 5, 20]
    for given in range(2, 6):
        expected = commands.Peek(*whole[:given])
        assert decoded(0x36, *whole[:given]) == expected


def test_further_fields_are_ignored_whatever_they_are():
    assert decoded(0x02, 5, "later", {"a": [1]}, None) == commands.Ping(5)


def test_further_cells_of_a_row_are_ignored():
    message = decoded(0x11, 1, "q", 0, 7, [[42, 1, 1, "later"]])
    assert [row[:3] for row in message.deliveries] == [(42, 1, 1)]


def test_a_block_may_be_empty_where_there_is_one():
    assert decoded(0x95, 1, []) == replies.Peeked(1, ())


def test_encode_takes_a_block_in_place_of_the_message_s_own():
    message = replies.Deliver(1, 10, (), b"\0\0\0\1", b"x")
    assert codec.encode(message, b"y") == codec.encode(message._replace(block=b"y"))


def test_encode_head_leaves_the_block_to_the_caller():
    message = commands.Publish(1, "q", b"\0\0\0\3", block=b"abc")
    assert codec.encode_head(message, 3) + b"abc" == codec.encode(message)


def test_a_verb_travels_as_its_number():
    message = commands.Settle(1, "q", commands.Verb.NACK, 7, ((1, 1, 1),))
    (frame,) = wire_vectors.frames_of(codec.encode(message))
    assert type(codec.decode(frame).verb) is int
    assert codec.decode(frame) == message


def test_the_longest_header_that_is_allowed_is_taken():
    # A trailing field of a later version fills it up.
    longest = b"\x92\x05" + b"\xc5" + (HEADER_BYTES_MAX - 5).to_bytes(2, "big") + bytes(HEADER_BYTES_MAX - 5)
    assert len(longest) == HEADER_BYTES_MAX
    assert codec.decode(Frame(0x02, longest, b"")) == commands.Ping(5)


def test_the_most_rows_that_are_allowed_are_taken():
    rows = [[offset, 1, 1] for offset in range(ROWS_MAX)]
    assert len(decoded(0x11, 1, "q", 0, 7, rows).deliveries) == ROWS_MAX


NESTED_CLAIMS = {
    "arrays of the most elements": b"\xdc\x13\x88" * 1000,
    "arrays of 65,280": b"\xdc\xff\x00" * 1000 + b"\x01" * 62_000,
    "arrays of 4 G": b"\xdd\xff\xff\xff\xff" * 800,
    "maps of the most entries": b"\xde\x00\x40\xa1k" * 800,
    "arrays as short as are not walked through": b"\xdc\x13\x88" * (SHORT_HEADER_BYTES // 3),
    "truthful ones": b"\x9d" + 13 * (b"\xdc\x13\x83" + b"\x80" * 4995),
}


@pytest.mark.parametrize("name", NESTED_CLAIMS)
def test_memory_grows_with_what_has_come_and_not_with_what_it_claims(name):
    data = NESTED_CLAIMS[name]
    assert len(data) <= HEADER_BYTES_MAX
    tracemalloc.start()
    try:
        with pytest.raises(BadFrame):
            codec.decode(Frame(0x02, data, b""))
        # An empty map is 64 bytes, and 1 on the wire.
        assert tracemalloc.get_traced_memory()[1] < (8_000_000 if name == "truthful ones" else 1_500_000)
    finally:
        tracemalloc.stop()


def test_a_value_nested_deeper_than_repr_goes_has_an_error_text_all_the_same():
    for depth in (10, 100, 900, 1000, 1020):
        with pytest.raises(BadFrame, match=r"^PING field 0 \(nonce\): .* is not u64$"):
            codec.decode(Frame(0x02, b"\x91" + b"\x91" * depth + b"\x01", b""))
