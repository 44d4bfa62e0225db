"""What is published, as the wire carries it, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry import TooLarge
from wherry.conversation import composing
from wherry.conversation.composing import blocks
from wherry.conversation.content import UNSET, compose_many
from wherry.delivery import bodies
from wherry.wire.messages import NO_HEADERS, pack_headers, pack_sizes

HEADERS = pack_headers({"kind": "x"})


@pytest.mark.parametrize(
    "given", [[], [b"a"], [b"", b"bc", b""], ["\N{ROCKET}", b"a", bytearray(b"b"), memoryview(b"c")]]
)
@pytest.mark.parametrize("packed", [NO_HEADERS, HEADERS])
def test_bodies_come_out_as_they_went_in(given, packed):
    _, plain = compose_many(given, None, UNSET, UNSET)
    found = [each for lengths, block in blocks(packed, plain, 1 << 20) for each in bodies(lengths, block)]
    assert [body for body, _ in found] == plain
    assert {headers for _, headers in found} <= {b"" if packed == NO_HEADERS else packed + body for body in plain}


def test_messages_with_and_without_headers_stand_in_one_block():
    messages = [NO_HEADERS + b"a", HEADERS + b"b", b"", b"\xc1junk", NO_HEADERS]
    found = list(bodies(pack_sizes(list(map(len, messages))), b"".join(messages)))
    assert [body for body, _ in found] == [b"a", b"b", b"", b"\xc1junk", b""]
    assert [bool(packed) for _, packed in found] == [False, True, True, True, False]


@given(st.integers(0, 4), st.lists(st.sampled_from([NO_HEADERS, HEADERS, b"\xc1junk"]), max_size=6))
def test_messages_of_one_length_come_out_as_any_others(size, heads):
    length = max(map(len, heads), default=0) + size
    messages = [head + bytes(length - len(head)) for head in heads]
    found = list(bodies(pack_sizes([length] * len(messages)), b"".join(messages)))
    alone = [each for message in messages for each in bodies(pack_sizes([length]), message)]
    assert found == alone
    assert [packed or NO_HEADERS + body for body, packed in found] == messages


def test_a_body_that_is_none_is_refused():
    with pytest.raises(TypeError, match="not dict"):
        compose_many([b"a", {}], None, UNSET, UNSET)


@pytest.mark.parametrize(("count", "size"), [(7, 10), (30, 1), (1, 99), (12, 49)])
def test_blocks_keep_to_the_limits_and_the_order(monkeypatch, count, size):
    monkeypatch.setattr(composing, "BATCH_BYTES_MAX", 100)
    monkeypatch.setattr(composing, "BATCH_MESSAGES_MAX", 20)
    given = [bytes([number]) * size for number in range(count)]
    made = list(blocks(NO_HEADERS, given, 1000))
    assert all(len(block) <= 100 and len(lengths) <= 4 * 20 for lengths, block in made)
    assert [body for lengths, block in made for body, _ in bodies(lengths, block)] == given
    assert len(made) == -(-count // min(20, 100 // (size + 1)))


def test_a_message_that_fits_no_frame_is_refused_before_any_is_made():
    with pytest.raises(TooLarge, match="1001 bytes is over the broker's limit of 1000"):
        next(blocks(NO_HEADERS, [b"a", b"x" * 1000], 1000))
