from __future__ import annotations

import pytest

from wherry_broker.core.options import LIMITS, InvalidOption, QueueOptions, checked


def test_given_options_replace_and_the_rest_stays():
    options = QueueOptions(max_messages=5).changed({"lease_ms": 10, "paused": True})
    assert (options.max_messages, options.lease_ms, options.paused, options.max_attempts) == (5, 10, True, 10)


def test_a_map_of_options_makes_the_same_options():
    options = QueueOptions(max_messages=5, retry_factor=1.5)
    assert QueueOptions().changed(options.as_map()) == options


@pytest.mark.parametrize("name", [name for name in LIMITS if name not in {"key_weights", "bind"}])
def test_limits_are_inclusive(name):
    kind = type(getattr(QueueOptions(), name))
    low, high = map(kind, LIMITS[name])
    assert checked(name, low) == low
    assert checked(name, high) == high
    for beyond in (low - 1, high + 1):
        with pytest.raises(InvalidOption, match=f"^{name} "):
            checked(name, beyond)


def test_weights_are_checked_one_by_one():
    assert checked("key_weights", {"gold": 1000, "": 1}) == {"gold": 1000, "": 1}
    many = {str(number): 1 for number in range(65)}
    for wrong in ({"gold": 0}, {"gold": 1001}, {"gold": True}, {"gold": 1.0}, {7: 1}, many):
        with pytest.raises(InvalidOption, match=r"^key_weights "):
            checked("key_weights", wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key_weights", ["gold"]),
        ("bind", "orders.>"),
        ("bind", [3]),
        ("bind", ["orders."]),
        ("bind", [f"a{number}" for number in range(101)]),
        ("max_messages", True),
        ("max_messages", 1.0),
        ("max_messages", "1"),
        ("paused", 1),
        ("overflow", "drop"),
        ("durability", 3),
        ("retry_factor", float("nan")),
        ("max_mesages", 1),
    ],
)
def test_what_is_wrong_is_named(name, value):
    with pytest.raises(InvalidOption, match=name):
        checked(name, value)
    with pytest.raises(InvalidOption, match=name):
        QueueOptions().changed({name: value})


def test_patterns_have_no_order_and_stand_once():
    options = QueueOptions().changed({"bind": ["b.>", "a", "b.>"]})
    assert options.bind == ("a", "b.>")
    assert options.differing({"bind": ["b.>", "a"]}) == {}
    assert options.differing({"bind": ["a"]}) == {"bind": (("a", "b.>"), ("a",))}


def test_a_whole_number_is_a_fine_factor():
    assert checked("retry_factor", 3) == 3.0


def test_differing_names_both_values_and_no_equal_ones():
    options = QueueOptions(max_messages=5)
    given = {"max_messages": 6, "lease_ms": 30_000, "retry_factor": 2}
    assert options.differing(given) == {"max_messages": (5, 6)}


def test_differing_checks_what_is_given():
    """An unknown name was a KeyError."""
    with pytest.raises(InvalidOption, match="nonsense"):
        QueueOptions().differing({"nonsense": 1})
