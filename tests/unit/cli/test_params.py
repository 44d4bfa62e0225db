from __future__ import annotations

import click
import pytest

from wherry_broker.cli.params import DURATION, HEADER, QUEUE, SIZE


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (DURATION, "30", 30.0),
        (DURATION, "250ms", 0.25),
        (DURATION, "1.5h", 5400.0),
        (SIZE, "1000", 1000),
        (SIZE, "64KiB", 65_536),
        (QUEUE, "emails.eu-west:1", "emails.eu-west:1"),
        (HEADER, "kind=mail", ("kind", "mail")),
        (HEADER, "url=a=b", ("url", "a=b")),
        (HEADER, "empty=", ("empty", "")),
    ],
)
def test_it_reads_what_people_write(kind, text, value):
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        (DURATION, "soon", "'soon' is not a duration"),
        (DURATION, "-1", "'-1' is not a duration"),
        (SIZE, "1 XB", "'1 XB' is not a size"),
        (QUEUE, "", "cannot be empty"),
        (QUEUE, "no name", "'no name' cannot name a queue"),
        (HEADER, "kind", "'kind' is not a header: write NAME=VALUE"),
        (HEADER, "=mail", "'=mail' is not a header"),
    ],
)
def test_it_says_what_is_wrong(kind, text, complaint):
    with pytest.raises(click.BadParameter) as raised:
        kind.convert(text, None, None)
    assert complaint in raised.value.message


def test_a_value_that_was_read_already_stays():
    assert DURATION.convert(1.5, None, None) == 1.5
