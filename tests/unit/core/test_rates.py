from __future__ import annotations

import pytest

from wherry_broker.core.rates import Line, Meter


def steady(since_ms, until_ms):
    """A meter of ten events every 100 ms."""
    meter = Meter()
    for now_ms in range(since_ms, until_ms, 100):
        meter.add(10, now_ms)
    return meter


def test_nothing_happened():
    assert Meter().per_second(1000) == 0.0


@pytest.mark.parametrize("seconds", [1, 5, 60])
def test_a_steady_rate_is_right_from_the_start(seconds):
    assert steady(0, 1000 * seconds).per_second(1000 * seconds) == pytest.approx(100, rel=0.05)


def test_it_forgets():
    meter = steady(0, 10_000)
    assert meter.per_second(15_000) == pytest.approx(100 / 2.718, rel=0.1)
    assert meter.per_second(1_000_000) < 1e-9
    assert meter.total == 1000


def test_a_long_silence_is_no_part_of_what_comes_after_it():
    """The rate after an hour's pause was five times too low: the silence counted as part of the window."""
    meter = steady(0, 10_000)
    for now_ms in range(3_600_000, 3_601_000, 100):
        meter.add(10, now_ms)
    assert meter.per_second(3_601_000) == pytest.approx(100, rel=0.05)


def test_a_clock_that_was_set_back_does_no_harm():
    """A log that was written a day ahead of the clock made `exp` overflow."""
    meter = steady(86_400_000, 86_410_000)
    assert meter.per_second(5_000) == 0.0
    meter.add(1, 5_000)
    assert meter.per_second(6_000) == 0.0
    assert meter.total == 1001
    drifted = steady(0, 86_400_000)
    assert drifted.per_second(50_000) >= 0.0


def test_time_that_is_left_out_changes_no_rate():
    meter = steady(0, 10_000)
    meter.skip(3_600_000)
    for now_ms in range(3_600_000, 3_601_000, 100):
        meter.add(10, now_ms)
    assert meter.per_second(3_601_000) == pytest.approx(100, rel=0.05)
    meter.skip(0)  # the clock was set back
    assert meter.per_second(3_601_000) == pytest.approx(100, rel=0.05)


def test_who_comes_to_a_line_waits_for_those_before():
    line = Line()
    assert line.wait_ms(1, 5, 10.0, 1_000) == 100
    line.join(1_500)
    assert line.wait_ms(5, 5, 10.0, 1_000) == 1_000
    line.join(2_000)
    line.join(1_200)
    assert line.wait_ms(5, 5, 10.0, 1_500) == 1_000


def test_a_promise_is_over_by_itself():
    line = Line()
    line.join(2_000)
    assert line.wait_ms(5, 5, 10.0, 60_000) == 500
    assert line.wait_ms(80, 5, 10.0, 2_000) == 8_000, "more is missing than those before were promised"
