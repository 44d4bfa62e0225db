"""How long a client waits before it tries again."""

from __future__ import annotations

import pytest

from wherry import Busy
from wherry.conversation.backoff import BACK_OFF_CAP_S, busy_pause_s


def test_the_pause_grows_from_the_hint_and_jitter_goes_on_top():
    busy = Busy("full", retry_after=2.0)
    assert busy_pause_s(busy, 1, 1000.0, 0.0) == 2.0
    assert busy_pause_s(busy, 1, 1000.0, 0.5) == 2.5
    assert busy_pause_s(busy, 3, 1000.0, 0.5) == 4.0


def test_the_pause_between_tries_never_overflows():
    assert busy_pause_s(Busy("full", retry_after=20.0), 10_000, 1000.0, 1.0) == 20.0 + BACK_OFF_CAP_S


@pytest.mark.parametrize(("left", "pause"), [(100.0, 20.0), (10.0, 10.0), (1.0, 1.0)])
def test_the_last_try_comes_when_the_time_is_over(left, pause):
    assert busy_pause_s(Busy("full", retry_after=20.0), 1, left, 0.0) == pause


@pytest.mark.parametrize("left", [0.0, -5.0])
def test_nobody_tries_once_the_time_is_over(left):
    busy = Busy("full", retry_after=20.0)
    with pytest.raises(Busy) as caught:
        busy_pause_s(busy, 1, left, 0.0)
    assert caught.value is busy


def test_who_was_refused_for_a_neighbours_sake_tries_at_once():
    assert busy_pause_s(Busy("a neighbour"), 1, 0.0, 0.5) == 0.0
