"""The index of patterns, against a matcher that looks at every pattern of every queue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wherry_broker.core.bindings import Bindings

TOKENS = st.sampled_from(["a", "b", "c"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.builds(
    lambda tokens, last: ".".join([*tokens, *last]),
    st.lists(st.one_of(TOKENS, st.just("*")), max_size=3),
    st.sampled_from([["a"], ["*"], [">"]]),
)
BINDS = st.tuples(st.integers(1, 4), st.lists(PATTERNS, max_size=4))


def matches(pattern, subject):
    first, _, more = pattern.partition(".")
    token, _, rest = subject.partition(".")
    if pattern == ">":
        return bool(subject)
    if not pattern or not subject:
        return pattern == subject
    return first in ("*", token) and matches(more, rest)


@given(st.lists(BINDS, max_size=12), st.lists(SUBJECTS, min_size=1, max_size=8))
def test_it_finds_what_looking_at_every_pattern_finds(binds, subjects):
    bindings, patterns = Bindings(), {}
    for queue, bound in binds:
        bindings.bind(queue, bound)
        patterns[queue] = bound
        for subject in subjects:
            expected = sorted(each for each in patterns if any(matches(one, subject) for one in patterns[each]))
            assert bindings.match(subject) == expected


@given(st.lists(BINDS, max_size=12))
def test_nothing_is_left_of_queues_that_are_bound_no_longer(binds):
    bindings = Bindings()
    for queue, bound in binds:
        bindings.bind(queue, bound)
    for queue, _ in binds:
        bindings.bind(queue, ())
    assert bindings._root.is_empty
    assert not bindings._patterns


def test_the_rest_is_at_least_one_token():
    bindings = Bindings()
    bindings.bind(1, ["orders.>"])
    assert bindings.match("orders") == []
    assert bindings.match("orders.eu") == bindings.match("orders.eu.created") == [1]


class Counted(dict):
    """A node's children, counting how often somebody looks."""

    looks = 0

    def __contains__(self, name):
        Counted.looks += 1
        return super().__contains__(name)


def test_queues_that_do_not_match_are_not_looked_at(monkeypatch):
    bindings = Bindings()
    for number in range(10_000):
        bindings.bind(number, [f"queue{number}.created", f"queue{number}.*.deleted"])
    bindings._root.children = Counted(bindings._root.children)
    monkeypatch.setattr(Counted, "looks", 0)
    assert bindings.match("elsewhere.created") == []
    assert Counted.looks == 2
    assert bindings.match("queue77.created") == [77]
