from __future__ import annotations

import json

import pytest

from wherry_broker.cli import output


def test_numbers_stand_right_and_the_rest_left():
    rows = [("a", 1, "x"), ("longer", 1000, "")]
    assert output.aligned(("name", "n", "what"), rows) == ["NAME       N  WHAT", "a          1  x", "longer  1000"]


def test_a_table_without_rows_is_its_head():
    assert output.aligned(("name", "n"), []) == ["NAME  N"]


@pytest.mark.parametrize(
    ("value", "cell"),
    [("plain ½", "plain ½"), (7, "7"), ("a\tb\n", r"a\tb\n"), ("\x1b[31m", r"\x1b[31m"), ("\u202e", r"\u202e")],
)
def test_a_cell_ends_no_line_and_steers_no_terminal(value, cell):
    assert output.printable(value) == cell


def test_a_line_of_json_is_one_line_whatever_is_in_it():
    line = output.json_line({"body": "two\nlines", "raw": b"\xff"})
    assert line.count("\n") == 0
    assert json.loads(line) == {"body": "two\nlines", "raw": repr(b"\xff")}


def test_a_body_that_is_no_text_is_shown_escaped():
    assert output.body_cell(b"a\xff") == r"a\xff"


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 messages"), (1, "1 message"), (2, "2 messages"), (1234, "1,234 messages")]
)
def test_so_many_of_something(count, told):
    assert output.counted(count, "message") == told
