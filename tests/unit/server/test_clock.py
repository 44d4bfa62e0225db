from __future__ import annotations

import time

import pytest

from wherry_broker.server import clock as module
from wherry_broker.server.clock import Clock

SECOND_NS = 1_000_000_000


class FakeTime:
    """Both clocks of the machine, under the test's hand."""

    def __init__(self, wall_ns: int, monotonic_ns: int) -> None:
        self.wall_ns = wall_ns
        self.mono_ns = monotonic_ns

    def time_ns(self) -> int:
        return self.wall_ns

    def monotonic_ns(self) -> int:
        return self.mono_ns


@pytest.fixture
def fake(monkeypatch) -> FakeTime:
    fake = FakeTime(1_700_000_000 * SECOND_NS, 5 * SECOND_NS)
    monkeypatch.setattr(module, "time", fake)
    return fake


def test_it_starts_at_wall_time_and_goes_on_with_monotonic_time(fake):
    clock = Clock()
    assert clock.now_ms() == 1_700_000_000_000
    fake.mono_ns += 1_999_999
    assert clock.now_ms() == 1_700_000_000_001


@pytest.mark.parametrize("jump_s", [-86_400, 3_600, 10 * 365 * 86_400])
def test_a_jump_of_the_wall_clock_moves_nothing(fake, jump_s):
    clock = Clock()
    fake.wall_ns += jump_s * SECOND_NS
    fake.mono_ns += 250 * 1_000_000
    assert clock.now_ms() == 1_700_000_000_250


def test_the_real_one_is_wall_time():
    assert abs(Clock().now_ms() - time.time() * 1000) < 1000
