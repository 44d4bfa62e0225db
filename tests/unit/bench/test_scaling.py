from __future__ import annotations

import pytest

import crew
import scaling
from wherry.wire.framing import FRAME_BYTES_MAX

SHEETS = {sheet.name: sheet for sheet in scaling.sheets(quick=False)}


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("messages queued", 1_000, 10_000_000),
        ("bytes of a body", 10, 1_000_000),
        ("queues", 1, 10_000),
        ("connections", 1, 10_000),
        ("producers and consumers", 1, 64),
        ("messages a batch", 1, 10_000),
    ],
)
def test_each_thing_grows_as_far_as_was_asked(name, first, last):
    for points in SHEETS[name].lines.values():
        assert list(points) == sorted(points)
        assert (min(points), max(points)) == (first, last)


def test_what_grows_is_what_the_sheet_says():
    many = 1_000
    queues, connections = SHEETS["queues"].lines, SHEETS["connections"].lines
    assert queues["all used"][many] == (crew.Crew(queues=many), 0)
    assert queues["one used"][many] == (crew.Crew(declared=many - 1), 0)
    assert connections["all publish"][many] == (crew.Crew(producers=many), 0)
    assert connections["idle but two"][many] == (crew.Crew(), many)


@pytest.mark.parametrize("size", [10, 100, 1_000, 10_000, 100_000, 1_000_000])
def test_batches_of_long_bodies_are_shorter(size):
    made = scaling.of_size(size)
    assert made.size * made.batch <= scaling.BATCH_BYTES_MAX < FRAME_BYTES_MAX
    assert made.batch == 100 or made.size * made.batch == scaling.BATCH_BYTES_MAX
    assert made.flight >= 2 * made.batch
