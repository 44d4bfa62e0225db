from __future__ import annotations

from math import comb
from random import Random

import pytest

import pairs


def test_turns_change_sides():
    assert pairs.order(3) == ["before", "after", "after", "before", "before", "after"]


def test_a_ratio_is_of_neighbours_and_not_of_medians():
    # The machine became three times slower in the middle; the change cost a fifth all the time.
    before, after = [10.0, 10.0, 10.0, 30.0, 30.0, 30.0], [12.0, 12.0, 12.0, 36.0, 36.0, 36.0]
    found = pairs.compared("x, us/msg", before, after)
    assert found.ratio == found.low == found.high == pytest.approx(1.2)
    assert found.better == -1


def test_more_of_a_rate_is_better():
    rates = pairs.compared("x, msg/s", [1.0] * 6, [1.1] * 6)
    costs = pairs.compared("x, us/msg", [1.0] * 6, [1.1] * 6)
    assert (rates.better, costs.better) == (1, -1)


def test_too_few_pairs_tell_nothing_however_much_they_agree():
    assert pairs.compared("x, us/msg", [1.0] * 5, [2.0] * 5).better == 0
    assert pairs.compared("x, us/msg", [1.0] * 6, [2.0] * 6).better == -1


def test_what_goes_both_ways_tells_nothing():
    found = pairs.compared("x, us/msg", [1.0] * 6, [1.2, 1.1, 1.1, 1.2, 1.1, 0.9])
    assert (found.low, found.high, found.better) == (0.9, 1.2, 0)


def test_one_that_strays_tells_little_among_many():
    found = pairs.compared("x, us/msg", [1.0] * 12, [0.5, *[1.1] * 11])
    assert (found.low, found.high, found.better) == (1.1, 1.1, -1)


@pytest.mark.parametrize("count", [1, 2, 5, 6, 8, 9, 12, 20, 50])
def test_the_interval_holds_the_median_as_often_as_it_says(count):
    left_out = pairs.rank(count)
    missed = 2 * sum(comb(count, below) for below in range(left_out + 1)) / 2**count
    assert missed <= 1 - pairs.SURE or not pairs.surely(count)
    tighter = missed + 2 * comb(count, left_out + 1) / 2**count
    assert tighter > 1 - pairs.SURE


def test_noise_alone_is_seldom_taken_for_a_change():
    draw = Random(1)
    wrong = 0
    for _ in range(1_000):
        before = [draw.lognormvariate(0, 0.2) for _ in range(8)]
        after = [draw.lognormvariate(0, 0.2) for _ in range(8)]
        wrong += pairs.compared("x, us/msg", before, after).better != 0
    assert wrong < 60


def test_figures_that_only_one_side_has_are_left_out():
    old, new = {"a": {"us/msg": 1.0, "MB": 0.0}, "b": {"us/msg": 1.0}}, {"a": {"us/msg": 2.0, "MB": 1.0}}
    found = pairs.compare([("before", old), ("after", new)])
    assert list(found) == ["a, us/msg", "a, MB"]
    assert found["a, us/msg"].ratio == 2.0
    assert (found["a, MB"].before, found["a, MB"].after, found["a, MB"].better) == (0.0, 1.0, 0)
