"""The leases of a consumer against a broker that ends them in time, in time that is a number."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.conversation.leases import Leases
from wherry.delivery import Delivery, Lease

LEASE = 30.0
HOUR = 3600.0
EPSILON = 0.002


class Desk:
    """A consumer's leases, and what the broker knows of them.

    Attributes:
        ends: for each message, when the broker ends its lease.
        taken: how many messages the user has taken.
        frames: at which times the broker was asked to extend something, and how much.
    """

    def __init__(self, longest: float = HOUR) -> None:
        self.leases = Leases(longest)
        self.now = 1000.0
        self.came = self.taken = self.lost = 0
        self.ends: dict[int, float] = {}
        self.of: dict[int, Delivery] = {}
        self.taken_at: dict[int, float] = {}
        self.handed_back: list[int] = []
        self.frames: list[tuple[float, list[tuple[int, int]]]] = []

    def deliver(self, count: int = 1, seconds: float = LEASE) -> Delivery:
        delivery = Delivery("q", 7, (self.came + 1, count, 1, 0, 0, 0, ""))
        self.leases.add([delivery], Lease(seconds, self.now, 0.0))
        for offset in range(self.came + 1, self.came + count + 1):
            self.ends[offset] = self.now + seconds
            self.of[offset] = delivery
        self.came += count
        return delivery

    def take(self, count: int = 1) -> None:
        """The user takes the next messages."""
        for offset in [offset for offset in self.ends if offset > self.taken][:count]:
            self.taken, self.taken_at[offset] = offset, self.now

    def settle(self, offset: int) -> None:
        self.ends.pop(offset, None)
        self.leases.let_go(self.of[offset], offset, offset + 1)

    def look(self, *, can_extend: bool = True) -> None:
        first = min((offset for offset in self.ends if offset > self.taken), default=None)
        due = self.leases.look(self.now, None if first is None else first - 1, can_extend=can_extend)
        self.lost += due.lost
        for delivery, low, high in due.hand_back:
            self.leases.let_go(delivery, low, high)
            self.handed_back += range(low, high)
            for offset in range(low, high):
                del self.ends[offset]
        if due.extend:
            self.frames.append((self.now, [(each.low, each.high) for each in due.extend]))
        for _, low, high, duration_ms, _ in due.extend:
            for offset in range(low, high):
                assert self.now < self.ends[offset], "what is extended is leased still"
                self.ends[offset] = self.now + duration_ms / 1000

    def run(self, seconds: float, *, late: float = 0.0) -> None:
        """Lets time pass; the shell looks when it was told to, or so much later."""
        end = self.now + seconds
        while (at := self.leases.next_look()) is not None and at + late <= end:
            self.now = max(self.now, at + late)
            self.look()
            self.end_leases()
        self.now = end
        self.end_leases()

    def end_leases(self) -> None:
        for offset in [offset for offset, end in self.ends.items() if end <= self.now]:
            del self.ends[offset]


def test_a_handler_that_runs_ten_leases_long_keeps_its_message():
    desk = Desk()
    delivery = desk.deliver()
    desk.take()
    desk.run(10 * LEASE)
    assert (list(desk.ends), desk.lost, delivery.lost) == ([1], 0, ())
    assert len(desk.frames) == 15  # once in two thirds of a lease
    desk.settle(1)
    assert (len(desk.leases), desk.leases.next_look()) == (0, None)


def test_the_longest_time_ends_it():
    desk = Desk(longest=100.0)
    delivery = desk.deliver()
    desk.take()
    desk.run(100.0 - EPSILON)
    assert list(desk.ends) == [1]
    desk.run(2 * EPSILON)
    assert (desk.ends, desk.lost, delivery.lost, len(desk.leases)) == ({}, 1, ((1, 2),), 0)
    assert desk.frames[-1][0] < 1100.0 - LEASE / 3


@pytest.mark.parametrize("longest", [0.0, 10.0, LEASE])
def test_a_lease_that_is_not_to_be_extended_ends_where_it_was_to(longest):
    desk = Desk(longest)
    desk.deliver()
    desk.take()
    desk.run(LEASE - EPSILON)
    assert list(desk.ends) == [1]
    desk.run(2 * EPSILON)
    assert (desk.ends, desk.lost, desk.frames) == ({}, 1, [])


def test_what_waits_is_extended_and_its_time_counts_from_when_it_is_taken():
    desk = Desk(longest=100.0)
    desk.deliver(3)
    desk.take(1)
    desk.run(50.0)
    desk.take(1)
    desk.run(49.0)
    assert list(desk.ends) == [1, 2]  # the third one was handed back: nobody has taken it
    desk.run(2.0)
    assert list(desk.ends) == [2]  # it came as early as the first one, but waited
    desk.run(38.0)
    assert list(desk.ends) == [2]
    desk.run(2.0)
    assert (desk.ends, desk.lost) == ({}, 2)


def test_what_waits_for_too_long_is_handed_back_unspent():
    desk = Desk(longest=100.0)
    desk.deliver(3)
    desk.take(1)
    desk.settle(1)
    desk.run(100.0)
    assert (desk.handed_back, desk.lost, len(desk.leases)) == ([2, 3], 0, 0)


def test_what_waits_is_handed_back_when_nothing_is_extended():
    desk = Desk(longest=0.0)
    desk.deliver(3)
    desk.take(1)
    desk.run(LEASE - EPSILON)
    assert (desk.handed_back, list(desk.ends)) == ([2, 3], [1])
    desk.run(2 * EPSILON)
    assert desk.lost == 1


def test_what_is_settled_in_time_is_never_asked_for():
    desk = Desk()
    for _ in range(100):
        desk.deliver(2)
        desk.take(2)
        desk.run(1.0)
        desk.settle(desk.came - 1)
        desk.settle(desk.came)
    assert desk.frames == []


def test_one_question_for_many():
    desk = Desk()
    for _ in range(100):
        desk.deliver()
        desk.take()
        desk.run(LEASE / 8 / 100)
    desk.run(LEASE)
    ((at, ranges),) = desk.frames
    assert (at, len(ranges)) == (1000.0 + LEASE * 2 / 3, 100)


def test_what_is_settled_between_is_left_out():
    desk = Desk()
    desk.deliver(10)
    desk.take(10)
    for offset in (1, 2, 5, 9):
        desk.settle(offset)
    desk.run(LEASE)
    ((_, ranges),) = desk.frames
    assert ranges == [(3, 5), (6, 9), (10, 11)]


def test_a_look_that_comes_too_late_loses_what_is_over_and_not_more():
    desk = Desk()
    desk.deliver()
    desk.now += 14.0
    desk.deliver()
    desk.take(2)
    desk.run(18.0, late=LEASE / 3 + 1.0)
    assert (list(desk.ends), desk.lost, desk.frames[-1][1]) == ([2], 1, [(2, 3)])


def test_an_extension_by_hand_counts_and_leaves_the_others_alone():
    desk = Desk(longest=200.0)
    delivery = desk.deliver(3)
    desk.take(3)
    desk.leases.move(delivery, 2, 3, desk.now + 300.0)
    desk.ends[2] = desk.now + 300.0
    assert [delivery.deadline_of(offset) for offset in (1, 2, 3)] == [1030.0, 1300.0, 1030.0]
    desk.run(199.0)
    assert list(desk.ends) == [1, 2, 3]
    assert all(ranges == [(1, 2), (3, 4)] for _, ranges in desk.frames)
    desk.run(2.0)
    assert (list(desk.ends), desk.lost) == ([2], 2)
    desk.run(98.0)
    assert (list(desk.ends), delivery.deadline_of(2)) == ([2], 1300.0)
    desk.run(2.0)
    assert (desk.ends, desk.lost, len(desk.leases)) == ({}, 3, 0)


def test_a_short_extension_by_hand_is_followed_by_others():
    desk = Desk()
    delivery = desk.deliver(2)
    desk.take(2)
    desk.leases.move(delivery, 1, 2, desk.now + 12.0)
    desk.ends[1] = desk.now + 12.0
    desk.run(10 * LEASE)
    assert list(desk.ends) == [1, 2]


def test_an_extension_that_failed_is_asked_for_again():
    desk = Desk()
    delivery = desk.deliver()
    desk.take()
    desk.now += 21.0
    (extension,) = desk.leases.look(desk.now, None, can_extend=True).extend
    assert desk.leases.next_look() > desk.now
    assert desk.leases.move(delivery, extension.low, extension.high, extension.deadline) <= desk.now
    assert desk.leases.look(desk.now, None, can_extend=True).extend == [extension]


def test_without_a_connection_leases_are_looked_at_all_the_same():
    desk = Desk()
    desk.deliver()
    desk.take()
    desk.now += 21.0
    desk.look(can_extend=False)
    assert (desk.frames, desk.lost) == ([], 0)
    assert desk.now < desk.leases.next_look() < desk.now + LEASE / 3
    desk.now += 5.0
    desk.look()  # there is one again
    assert list(desk.ends.values()) == [desk.now + LEASE]
    desk.now += 31.0
    desk.look(can_extend=False)
    assert desk.lost == 1


def test_cancelled_messages_are_held_no_longer():
    desk = Desk()
    delivery = desk.deliver(4)
    assert desk.leases.cancel([(0, 3, 1), (1, 9, 2)]) == 2
    assert (delivery.cancelled, list(desk.leases.held())) == (((1, 3),), [(delivery, 3, 5)])
    assert desk.leases.let_go(delivery, 1, 2) == 0  # its credit was given back before
    assert desk.leases.cancel([(1, 4, 1)]) == 2
    assert len(desk.leases) == 0


def test_only_what_is_held_can_be_lost():
    """A renewal may be refused because a transaction has settled the message meanwhile."""
    desk = Desk()
    delivery = desk.deliver(5)
    desk.take(5)
    desk.settle(2)
    assert desk.leases.lose(delivery, 1, 4) == 2
    assert delivery.lost == ((1, 2), (3, 4))


def test_what_was_taken_when_is_forgotten_with_the_messages():
    desk = Desk()
    for _ in range(300):
        desk.deliver()
        desk.take()
        desk.run(LEASE)
        desk.settle(desk.came)
    assert len(desk.leases._taken) == len(desk.leases._seen) <= 2


steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 5)),
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("settle"), st.integers(0, 99)),
        st.tuples(st.just("wait"), st.integers(1, 80)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps, st.sampled_from([0.0, 20.0, 45.0, 90.0, 1000.0]))
def test_whatever_is_done_both_ends_agree(doing, longest):
    desk = Desk(longest)
    for what, number in doing:
        if what == "deliver":
            desk.deliver(number)
        elif what == "take":
            desk.take(min(number, len([offset for offset in desk.ends if offset > desk.taken])))
        elif what == "settle" and (mine := [offset for offset in desk.ends if offset <= desk.taken]):
            desk.settle(mine[number % len(mine)])
        elif what == "wait":
            desk.run(float(number))
        held = {offset for _, low, high in desk.leases.held() for offset in range(low, high)}
        assert held == set(desk.ends), "what is held here is leased there"
        for offset in held:
            assert desk.of[offset].deadline_of(offset) == pytest.approx(desk.ends[offset], abs=0.001)
            if offset in desk.taken_at:
                assert desk.ends[offset] <= max(desk.taken_at[offset] + max(longest, LEASE), desk.now + LEASE)
    for offset, delivery in desk.of.items():
        if any(low <= offset < high for low, high in delivery.lost):
            assert offset in desk.taken_at, "what nobody has taken is handed back, and not lost"
