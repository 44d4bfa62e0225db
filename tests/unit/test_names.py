from __future__ import annotations

import pytest

from wherry.model.names import SUBJECT_BYTES_MAX, SUBJECT_TOKENS_MAX, pattern_problem, subject_problem

LONGEST = "a" * SUBJECT_BYTES_MAX
DEEPEST = ".".join("a" * SUBJECT_TOKENS_MAX)


@pytest.mark.parametrize("text", ["orders", "orders.eu.created", "a-b_c:d@e/f$g", LONGEST, DEEPEST])
def test_a_subject_is_a_pattern_too(text):
    assert subject_problem(text) == ""
    assert pattern_problem(text) == ""


@pytest.mark.parametrize("text", ["*", ">", "orders.*", "*.created", "orders.>", "*.*.>", "a.*.b"])
def test_a_pattern_with_a_wild_token_is_no_subject(text):
    assert pattern_problem(text) == ""
    assert "is a pattern" in subject_problem(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "cannot be empty"),
        (".", "tokens"),
        ("a.", "tokens"),
        (".a", "tokens"),
        ("a..b", "tokens"),
        ("a b", "tokens"),
        ("a\n", "tokens"),
        ("\x7f", "tokens"),
        ("é", "tokens"),
        ("a*", "tokens"),
        ("a.b*.c", "tokens"),
        ("**", "tokens"),
        (">.a", "tokens"),
        ("a.>.b", "tokens"),
        ("a>", "tokens"),
        (LONGEST + "a", "256 characters is over the limit of 255"),
        (DEEPEST + ".a", "17 tokens is over the limit of 16"),
    ],
)
def test_what_is_neither_is_told_why(text, why):
    assert why in pattern_problem(text)
    assert why in subject_problem(text)
