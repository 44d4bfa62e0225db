from __future__ import annotations

from wherry_broker.core.timers import GARBAGE_MIN, Timers


class Item:
    def __init__(self):
        self.due_ms = self.timer = 0


def armed(*moments):
    timers, items = Timers(), [Item() for _ in moments]
    for item, due_ms in zip(items, moments, strict=True):
        timers.arm(item, due_ms)
    return timers, items


def test_due_ones_come_earliest_first_and_no_others():
    timers, (late, early, middle) = armed(30, 10, 20)
    assert list(timers.due(9)) == []
    assert list(timers.due(20)) == [early, middle]
    assert (timers.next_ms(), len(timers)) == (30, 1)
    assert list(timers.due(1000)) == [late]
    assert timers.next_ms() is None


def test_of_two_at_one_moment_the_one_armed_first_comes_first():
    timers, items = armed(5, 5, 5)
    assert list(timers.due(5)) == items


def test_a_later_moment_counts_without_a_new_entry():
    timers, (item,) = armed(10)
    for due_ms in range(11, 1000):
        timers.arm(item, due_ms)
    assert len(timers._heap) == 1
    assert timers.next_ms() == 999
    assert list(timers.due(998)) == []
    assert list(timers.due(999)) == [item]


def test_an_earlier_moment_counts_too():
    timers, (item,) = armed(100)
    timers.arm(item, 10)
    assert (timers.next_ms(), len(timers)) == (10, 1)
    assert list(timers.due(10)) == [item]
    assert list(timers.due(100)) == []


def test_what_is_disarmed_never_comes():
    timers, (first, second) = armed(1, 2)
    timers.disarm(first)
    timers.disarm(first)
    assert (first.due_ms, first.timer, len(timers)) == (0, 0, 1)
    assert list(timers.due(9)) == [second]


def test_one_that_came_can_be_armed_again_while_others_come():
    timers, (item, _) = armed(1, 2)
    for each in timers.due(3):
        if each is item and each.due_ms == 1:
            timers.arm(item, 3)
    assert timers.next_ms() is None
    assert item.due_ms == 3


def test_a_sweep_keeps_the_order():
    timers, items = armed(*(1 + (7 * number) % 1000 for number in range(1000)))
    for number, item in enumerate(items):
        if number % 3:
            timers.disarm(item)
    left = [item.due_ms for item in timers.due(10_000)]
    assert (len(left), left) == (334, sorted(left))


def test_memory_follows_what_waits_and_not_what_ever_waited():
    timers, keep = armed(10**9)
    most = 0
    for now_ms in range(100_000):
        item = Item()
        timers.arm(item, now_ms + 30_000)
        timers.disarm(item)
        most = max(most, len(timers._heap))
    assert most <= GARBAGE_MIN + 2
    assert len(timers) == 1
    assert list(timers.due(10**9)) == keep
