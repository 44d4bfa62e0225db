from __future__ import annotations

import datetime as dt

import msgpack
import pytest

from wherry.wire.messages import (
    HEADERS_BYTES_MAX,
    HEADERS_MAX,
    SharedHeaders,
    pack_headers,
    pack_lengths,
    split_block,
    unpack_lengths,
    unpack_message,
)


@pytest.mark.parametrize(
    ("headers", "packed"),
    [
        (None, "80"),
        ({}, "80"),
        ({"a": 1}, "81 a161 01"),
        ({"a": None, "b": True}, "82 a161 c0 a162 c3"),
        ({"kind": "welcome"}, "81 a46b696e64 a777656c636f6d65"),
        ({"n": -1, "f": 1.5, "b": b"\x00"}, "83 a16e ff a166 cb3ff8000000000000 a162 c40100"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"hello", b"\x80", bytes(70_000)])
def test_headers_and_body_in_both_directions(headers, packed, body):
    assert pack_headers(headers) == bytes.fromhex(packed)
    assert unpack_message(bytes.fromhex(packed) + body) == (headers or {}, body)


def test_headers_that_are_shared_are_packed_once_and_cannot_be_changed():
    given = {"task": "mail.send", "n": 1}
    shared = SharedHeaders(given)
    given["n"] = 2
    assert (dict(shared), len(shared)) == ({"task": "mail.send", "n": 1}, 2)
    assert pack_headers(shared) is pack_headers(shared) == pack_headers({"task": "mail.send", "n": 1})
    assert pack_headers({**shared, "more": 3}) == pack_headers({"task": "mail.send", "n": 1, "more": 3})
    with pytest.raises(TypeError, match="does not support item assignment"):
        shared["n"] = 2
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        SharedHeaders({"": 1})


def test_the_most_headers_that_are_allowed():
    most = {f"h{number}": number for number in range(HEADERS_MAX)}
    assert unpack_message(pack_headers(most) + b"body") == (most, b"body")
    with pytest.raises(ValueError, match="65 headers are over the limit of 64"):
        pack_headers({**most, "more": 1})


def test_a_header_s_name_is_a_str():
    with pytest.raises(TypeError, match="a header's name is a str, not 1"):
        pack_headers({1: "x"})


@pytest.mark.parametrize("number", [1 << 64, -(1 << 63) - 1])
def test_an_int_that_msgpack_cannot_hold_is_a_value_error(number):
    # It was an OverflowError, which the docstring did not name and callers did not expect.
    with pytest.raises(ValueError, match="more than 64 bits"):
        pack_headers({"n": number})


@pytest.mark.parametrize("value", [object(), dt.datetime(2026, 1, 1, tzinfo=dt.UTC), {1, 2}, [1], {"a": 1}, (1,)])
def test_what_is_no_value_of_a_header_is_a_type_error_that_names_it(value):
    with pytest.raises(TypeError, match=f"'v' is of the type {type(value).__name__}; headers are str"):
        pack_headers({"v": value})


def test_the_limits_of_headers():
    assert unpack_message(pack_headers({"n" * 255: "x"})) == ({"n" * 255: "x"}, b"")
    for name in ("", "n" * 256, "\N{ROCKET}" * 64):
        with pytest.raises(ValueError, match="1 to 255 bytes"):
            pack_headers({name: "x"})
    assert len(pack_headers({"n": "x" * (HEADERS_BYTES_MAX - 6)})) == HEADERS_BYTES_MAX
    with pytest.raises(ValueError, match="65537 bytes are over the limit of 65536"):
        pack_headers({"n": "x" * (HEADERS_BYTES_MAX - 5)})


def test_other_values_of_headers_are_taken_as_they_are():
    """Another client may send them."""
    assert unpack_message(bytes.fromhex("81 a46c697374 92 01 81 a178 a179") + b"b") == ({"list": [1, {"x": "y"}]}, b"b")


def test_a_str_that_is_not_unicode_is_a_value_error():
    with pytest.raises(ValueError, match="surrogates"):
        pack_headers({"v": "\ud800"})


def test_packing_goes_on_after_a_failure():
    with pytest.raises(TypeError):
        pack_headers({"a": 1, "v": object()})
    assert pack_headers({"a": 1}) == bytes.fromhex("81a16101")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"hello",
        b"\x01body",
        b"\x91\x01",
        b"\x81",
        b"\x81\xa1a",
        b"\x81\xa4a",
        b"\xc1",
        b"\x81\x01\x01",
        b"\x81\xa1\xff\x01",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa1a\xd4\x01\x00",
        b"\x81\xa1a" + b"\x91" * 2000 + b"\x01",
        msgpack.packb({"at": msgpack.Timestamp(1)}),
    ],
)
def test_what_does_not_begin_with_headers_is_a_value_error(message):
    with pytest.raises(ValueError, match="does not begin with"):
        unpack_message(message)


def test_lengths_are_one_big_endian_u32_each():
    assert pack_lengths([b"", b"abc", bytes(65_536)]) == bytes.fromhex("00000000 00000003 00010000")
    assert unpack_lengths(bytes.fromhex("00000000 00000003 00010000")) == (0, 3, 65_536)
    assert unpack_lengths(b"") == ()


def test_a_block_splits_into_its_messages():
    messages = [b"\x80one", b"", b"\x80", b"\x80three"]
    assert list(split_block(pack_lengths(messages), b"".join(messages))) == messages
    assert list(split_block(b"", b"")) == []
