"""Messages that wait to be taken: made late, and in order, however they came and however they are taken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wherry.conversation.arrivals import Arrivals
from wherry.conversation.events import Delivered
from wherry.conversation.leased import Leased
from wherry.delivery import Delivery
from wherry.wire.messages import NO_HEADERS, pack_headers, pack_sizes

HOLDER = object()
PLAIN, WITH_HEADERS = NO_HEADERS, pack_headers({"kind": "x"})

spans = st.lists(st.integers(1, 4), min_size=1, max_size=3)
steps = st.one_of(
    st.tuples(st.just("add"), spans, st.sampled_from([PLAIN, WITH_HEADERS])),
    st.tuples(st.just("take"), st.integers(1, 9)),
    st.tuples(st.just("pop")),
    st.tuples(st.just("take_all")),
    st.tuples(st.just("clear")),
)


def delivered(first: int, counts: list[int], head: bytes) -> Delivered:
    """Spans one after the other, whose messages tell their offsets."""
    rows = [(first + sum(counts[:n]), count, 1, 0, 0, 0, "") for n, count in enumerate(counts)]
    messages = [head + b"%d" % (first + n) for n in range(sum(counts))]
    deliveries = [Delivery("q", 1, row) for row in rows]
    return Delivered(1, deliveries, 30_000, pack_sizes(list(map(len, messages))), b"".join(messages))


@given(st.lists(steps, max_size=30))
def test_all_are_taken_once_and_in_order(script):
    arrivals: Arrivals[Leased] = Arrivals(Leased.many)
    waiting: list[int] = []
    after = 1
    for what, *arguments in script:
        taken: list[Leased] = []
        expected: list[int] = []
        if what == "add":
            counts, head = arguments
            arrivals.add(delivered(after, counts, head), HOLDER)
            waiting += range(after, after + sum(counts))
            after += sum(counts)
        elif what == "pop":
            if arrivals.make_some():
                taken, expected = [arrivals.made.popleft()], [waiting.pop(0)]
        elif what == "clear":
            arrivals.clear()
            waiting.clear()
        else:
            n = arguments[0] if arguments else len(waiting)
            taken = arrivals.take(n) if arguments else arrivals.take_all()
            expected, waiting = waiting[:n], waiting[n:]
        assert [message.offset for message in taken] == expected
        assert [int(message.body) for message in taken] == expected
        assert all(message.delivery.holds(message.offset) and message._intake is HOLDER for message in taken)
        assert len(arrivals) == len(waiting)
        assert arrivals.make_some() == bool(waiting)


def test_what_nobody_takes_is_not_made():
    arrivals: Arrivals[Leased] = Arrivals(Leased.many)
    for first in (1, 11, 21):
        arrivals.add(delivered(first, [10], PLAIN), HOLDER)
    assert [message.offset for message in arrivals.take(5)] == list(range(1, 6))
    assert (len(arrivals.made), len(arrivals)) == (5, 25)
