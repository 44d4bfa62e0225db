"""The limits: all that is set reaches them, and they go together."""

from __future__ import annotations

from dataclasses import fields

from wherry.wire.framing import FIRST_FRAME_BYTES_MAX, FRAME_BYTES_MAX, SCRATCH_BYTES
from wherry_broker.app import limits_of
from wherry_broker.config import Settings
from wherry_broker.server.limits import Limits


def test_every_limit_is_one():
    limits = Limits()
    assert [each.name for each in fields(limits) if getattr(limits, each.name) <= 0] == []


def test_the_defaults_of_settings_are_those_of_limits():
    assert limits_of(Settings()) == Limits()


def test_they_go_together():
    limits = Limits()
    assert limits.write_low_bytes < limits.write_high_bytes
    assert FIRST_FRAME_BYTES_MAX < SCRATCH_BYTES < limits.frame_bytes_max == FRAME_BYTES_MAX
    assert limits.uncommitted_bytes_max >= limits.frame_bytes_max
