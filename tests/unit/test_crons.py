"""Cron expressions in time zones, against an oracle of its own that walks through the minutes and knows no cronsim."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walked import DAY, END, MINUTE, START, ZONES, Oracle, oracle
from wherry_broker import crons

if TYPE_CHECKING:
    from collections.abc import Iterator


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def found(cron: str, zone: str, after: datetime = START - MINUTE, end: datetime = END) -> Iterator[datetime]:
    ends = milliseconds(end)
    moments = takewhile(lambda each: each < ends, crons.moments(cron, zone, milliseconds(after)))
    return (datetime.fromtimestamp(each / 1000, UTC) for each in moments)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "cron",
    [
        "30 2 * * *",
        "0,15,30,45 1-3 * * *",
        "10 0 * * *",
        "0 */2 * * *",
        "5 * * * 0",
        "50 1,2 1-7 3,4,10,11 0",
        "*/30 * 1 11 *",  # Havana: between two of these days its clocks were put forward and back again
        "*/20 1-2 25 10 *",
    ],
)
def test_two_years_are_as_walked_minute_by_minute(cron, zone):
    assert list(found(cron, zone)) == list(oracle(zone).due(cron))


def field(low: int, high: int, *texts: str):
    number = st.integers(low, high)
    # cronsim takes 3-3/2 for 3/2, and so for 3-59/2: a span has two ends here.
    span = st.tuples(number, number).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: f"{pair[0]}-{pair[1]}")
    return st.one_of(
        st.sampled_from(["*", "*", *texts]),
        number.map(str),
        span,
        st.lists(number, min_size=2, max_size=4).map(lambda each: ",".join(map(str, each))),
        st.tuples(span, st.integers(2, 5)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    )


CRONS = st.tuples(
    field(0, 59, "*/7", "0", "30"),
    field(0, 4, "*/2", "1-3"),
    field(1, 28, "25-31", "*/5"),
    field(1, 12, "3,10", "4,11"),
    field(0, 6, "0", "1-5"),
).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(cron=CRONS, zone=st.sampled_from(ZONES), start=st.integers(0, 1_000_000))
def test_any_expression_from_any_minute_on(cron, zone, start):
    after = START + start * MINUTE
    assert list(islice(found(cron, zone, after), 50)) == list(islice(oracle(zone).due(cron, after), 50))


def test_a_day_that_a_zone_left_out():
    # Samoa went over the date line: 29 December 2011 was followed by the 31st.
    start, end = datetime(2011, 12, 28, tzinfo=UTC), datetime(2012, 1, 3, tzinfo=UTC)
    for cron in ("0 12 * * *", "0 */6 * * *"):
        walked = Oracle("Pacific/Apia", start, end).due(cron, start - MINUTE)
        assert list(found(cron, "Pacific/Apia", start - MINUTE, end)) == list(walked)


def test_what_is_asked_for_is_after_the_moment():
    (noon,) = found("0 12 1 1 *", "UTC", END - 365 * DAY - MINUTE, END)
    assert list(found("0 12 1 1 *", "UTC", noon, END)) == []
    assert list(found("0 12 1 1 *", "UTC", noon - timedelta(milliseconds=1), END)) == [noon]


@pytest.mark.parametrize("cron", ["0 0 L * *", "0 0 LW * *", "0 12 * * 5L", "0 12 * JAN MON#2"])
def test_the_extensions_are_known(cron):
    assert next(crons.moments(cron, "Europe/Paris", milliseconds(START)))


def test_what_is_never_due_ends():
    assert list(crons.moments("* * */20 * 1L", "Europe/Paris", 0)) == []


def test_the_end_of_all_years_ends_it():
    last = datetime(9999, 12, 31, 23, 50, tzinfo=UTC)
    assert len(list(crons.moments("* * * * *", "UTC", milliseconds(last)))) == 9
    assert len(list(crons.moments("1-59 * * * *", "America/New_York", milliseconds(last)))) <= 9


@pytest.mark.parametrize(
    ("cron", "complaint"),
    [
        ("61 * * * *", "'61 * * * *' cannot be read: bad minute"),
        ("* * * * 8", "bad day-of-week"),
        ("* * 0 * *", "bad day-of-month"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("* * * *", "has 4 fields, not the 5"),
        ("0 * * * * *", "has 6 fields, not the 5"),
        ("@daily", "'@daily' has 1 fields"),
        ("", "'' has 0 fields"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("² * * * *", "bad minute"),
    ],
)
def test_a_bad_expression_is_refused_by_its_name(cron, complaint):
    with pytest.raises(ValueError, match="cron expression") as caught:
        crons.moments(cron, "UTC", 0)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "../../etc/passwd", "", "Europe/Par\0is", "x" * 300])
def test_a_bad_zone_is_refused_by_its_name(zone):
    with pytest.raises(ValueError, match="there is no time zone") as caught:
        crons.moments("0 3 * * *", zone, 0)
    assert repr(zone[:80]) in str(caught.value)
