from __future__ import annotations

import pytest

from wherry_broker.core.outbox import Outbox


def test_what_depends_on_nothing_is_free():
    outbox = Outbox()
    outbox.hold("now", 0)
    assert outbox.take() == ["now"]
    assert outbox.take() == []


def test_an_effect_waits_for_its_commit():
    outbox = Outbox()
    outbox.hold("first", 1)
    assert outbox.take() == []
    assert outbox.start_commit() == 1
    outbox.hold("first too", 1)
    outbox.hold("second", 2)
    outbox.hold("free", 0)
    assert outbox.take() == ["free"]
    outbox.finish_commit(1)
    outbox.hold("late", 1)
    assert outbox.take() == ["first", "first too", "late"]
    assert outbox.start_commit() == 2
    assert outbox.take() == []
    outbox.finish_commit(2)
    assert outbox.take() == ["second"]


def test_one_commit_at_a_time():
    outbox = Outbox()
    outbox.start_commit()
    with pytest.raises(AssertionError):
        outbox.start_commit()


def test_only_the_commit_in_flight_can_finish():
    outbox = Outbox()
    with pytest.raises(AssertionError):
        outbox.finish_commit(1)
    outbox.start_commit()
    with pytest.raises(AssertionError):
        outbox.finish_commit(2)
    outbox.finish_commit(1)
    with pytest.raises(AssertionError):
        outbox.finish_commit(1)
