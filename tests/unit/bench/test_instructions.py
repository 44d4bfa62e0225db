from __future__ import annotations

import json

import pytest

import hotpath
import instructions

EXPECTED = {
    "build": "3.11.7 (main) [GCC 12.2.0]",
    "machine": "x86_64",
    "msgpack": "1.2.4",
    "calibration": 1_000_000,
    "instructions a message": {"batches": 2_000, "single": 60_000},
}


def here(**more):
    return {**EXPECTED, **more}


def costs(batches: int, single: int):
    return {"instructions a message": {"batches": batches, "single": single}}


def test_the_totals_of_callgrind():
    assert instructions.total_of("version: 1\nevents: Ir\nfn=(1) x\n0 17\n\ntotals: 275992369\n") == 275_992_369
    with pytest.raises(AssertionError):
        instructions.total_of("")


def test_within_the_tolerance():
    rows, tolerance = instructions.compared(EXPECTED, here(**costs(2_050, 58_500)))
    assert rows["batches"] == {"expected": 2_000, "found": 2_050, "ratio": 1.025}
    assert instructions.verdict(rows, tolerance) == ("All within 3% of what is expected.", False)


def test_what_costs_more_fails_and_says_how_to_go_on():
    text, failed = instructions.verdict(*instructions.compared(EXPECTED, here(**costs(2_000, 62_000))))
    assert failed
    assert "more instructions a message: single.\n" in text
    assert instructions.UPDATE in text


def test_what_costs_less_does_not_fail_but_is_told():
    text, failed = instructions.verdict(*instructions.compared(EXPECTED, here(**costs(1_900, 60_000))))
    assert not failed
    assert text.startswith("Cheaper than expected: batches.")


def test_another_build_is_compared_by_the_calibrating_loop():
    other = here(build="3.11.9 (main) [Clang 17]", calibration=1_500_000, **costs(3_100, 98_500))
    rows, tolerance = instructions.compared(EXPECTED, other)
    assert rows["batches"]["expected"] == 3_000
    assert instructions.verdict(rows, tolerance) == ("All within 10% of what is expected.", False)
    assert instructions.verdict(*instructions.compared(EXPECTED, here(build="3.11.9", **costs(2_300, 60_000))))[1]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"build": "3.12.1 (main)"}, "the expectation is for build 3.11, and this is 3.12"),
        ({"machine": "aarch64"}, "the expectation is for machine x86_64, and this is aarch64"),
        ({"msgpack": "1.1.0"}, "the expectation is for msgpack 1.2, and this is 1.1"),
        ({"build": "3.11.2 (main)"}, ""),
        ({}, ""),
    ],
)
def test_what_cannot_be_compared(more, reason):
    assert instructions.why_not(EXPECTED, here(**more)) == reason


def test_there_is_an_expectation_for_each_load():
    expected = json.loads(instructions.EXPECTED.read_text())
    assert set(expected["instructions a message"]) == set(hotpath.LOADS)
    assert expected.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", hotpath.LOADS)
def test_the_loads_do_what_they_say(name):
    load = hotpath.LOADS[name]
    load = hotpath.Load(load.level, load.batch, load.turn, 2 * load.turn)
    sent = hotpath.transcript(load)
    road = hotpath.Road(load.level)
    hotpath.run(road, sent)
    hotpath.check(road, load)
    hotpath.run(road, sent[:1])
    with pytest.raises(AssertionError):
        hotpath.check(road, load)
