"""What users publish, as the bytes of a message, and back."""

from __future__ import annotations

import math

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.conversation.content import UNSET, compose, compose_many
from wherry.delivery import Delivery, PeekedMessage, bodies
from wherry.wire.messages import pack_sizes

scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | st.text()
json_values = st.recursive(
    scalars.filter(lambda value: value not in (math.inf, -math.inf)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
msgpack_values = st.recursive(
    scalars | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 99), inner, max_size=4),
)


def received(message: tuple[bytes, bytes]) -> PeekedMessage:
    """The message as a consumer has it."""
    block = b"".join(message)
    ((body, packed),) = bodies(pack_sizes([len(block)]), block)
    delivery = Delivery("q", 1, (1, 1, 1, 0, 0, 0, ""))
    return PeekedMessage(delivery, 1, body, packed, ("ready", 0, 0, "", "", 0))


def sent(body=UNSET, headers=None, json=UNSET, pack=UNSET) -> PeekedMessage:
    return received(compose(body, headers, json, pack))


@given(json_values)
def test_json_there_and_back(value):
    message = sent(json=value)
    assert (message.json(), message.content_type) == (value, "application/json")


@given(msgpack_values)
def test_msgpack_there_and_back(value):
    message = sent(pack=value, headers={"kind": "x"})
    assert (message.unpack(), message.content_type) == (value, "application/msgpack")
    assert message.headers == {"content-type": "application/msgpack", "kind": "x"}


@pytest.mark.parametrize("body", [b"", b"\x80", "héllo", bytearray(b"b"), memoryview(b"m")])
def test_bytes_and_str_are_sent_as_they_are(body):
    message = sent(body)
    assert message.body == (body.encode() if isinstance(body, str) else bytes(body))
    assert (message.headers, message.content_type) == ({}, "")


def test_json_is_short_and_readable():
    assert sent(json={"a": [1, None, "é"]}).body == '{"a":[1,null,"é"]}'.encode()


def test_who_names_a_content_type_is_left_alone():
    message = sent(json=[1], headers={"content-type": "application/vnd.acme+json"})
    assert (message.content_type, message.json()) == ("application/vnd.acme+json", [1])


@pytest.mark.parametrize("given", [{}, {"body": b"x", "json": 1}, {"json": None, "pack": None}])
def test_just_one_of_them(given):
    with pytest.raises(TypeError, match="one of them"):
        sent(**given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"json": object()}, TypeError),
        ({"json": math.nan}, ValueError),
        ({"json": math.inf}, ValueError),
        ({"json": "\ud800"}, ValueError),
        ({"pack": object()}, TypeError),
        ({"pack": 1 << 64}, ValueError),
        ({"pack": "\ud800"}, ValueError),
        ({"body": {"a": 1}}, TypeError),
        ({"body": None}, TypeError),
    ],
)
def test_what_cannot_be_written_is_refused(given, error):
    with pytest.raises(error):
        sent(**given)


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x91", b"\x01\x01", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000, b"\x81\x90\x01"]
)
def test_what_is_no_msgpack_is_a_value_error(body):
    with pytest.raises(ValueError, match="q/1 is not msgpack"):
        sent(body).unpack()


def test_many_share_their_headers():
    packed, found = compose_many(UNSET, {"k": 1}, UNSET, iter([1, None, {"a": 2}]))
    assert [msgpack.unpackb(body) for body in found] == [1, None, {"a": 2}]
    assert received((packed, found[0])).headers == {"content-type": "application/msgpack", "k": 1}
    assert compose_many(["a", b"b"], None, UNSET, UNSET) == (b"\x80", [b"a", b"b"])
    for one in (b"ab", "ab"):
        with pytest.raises(TypeError, match="not one"):
            compose_many(one, None, UNSET, UNSET)
