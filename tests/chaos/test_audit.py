"""The audit sees what is wrong: a run that is in order, and the same with one thing changed."""

from __future__ import annotations

from random import Random

import pytest

from chaos.audit import Ended, audit
from chaos.flows import draw_flow
from chaos.ledger import Effect, Given, Ledger, fence

FIRST, SECOND = (7, 1), (7, 2)


@pytest.fixture
def flow():
    return draw_flow(Random(1), 0)


@pytest.fixture
def effects(flow):
    """One attempt of each call, in their order."""
    return [
        Effect(name, f"q/{place}", FIRST, call.value, tuple(Given(n, flow.calls[n].value, FIRST) for n in call.after))
        for place, (name, call) in enumerate(flow.calls.items())
    ]


def wrong(flow, effects, result=None):
    jobs = [f"q/{place}" for place in range(len(flow.calls))]
    result = result or Given(flow.last, flow.calls[flow.last].value, FIRST)
    return audit([Ended(flow, jobs, result)], effects)[1]


def test_all_is_well(flow, effects):
    assert wrong(flow, effects) == []


def test_an_attempt_that_came_to_its_effect_and_died_is_no_fault(flow, effects):
    earlier = [effect._replace(token=(6, 3)) for effect in effects if not effect.before]
    assert wrong(flow, earlier + effects) == []
    figures, _ = audit([], [*effects, *earlier])
    assert (figures.repeated, figures.refused) == (len(earlier), len(earlier))


def test_an_effect_is_missing(flow, effects):
    assert f"{effects[0].name} has had no effect" in wrong(flow, effects[1:])


def test_a_chord_has_fired_twice(flow, effects):
    callback = next(effect for effect in effects if effect.name in flow.chords)
    told = wrong(flow, [*effects, callback._replace(job="q/999")])
    assert any(text.startswith(f"{callback.name} was 2 jobs") for text in told)


def test_a_callback_has_results_in_another_order(flow, effects):
    place = next(place for place, effect in enumerate(effects) if effect.name in flow.chords)
    effects[place] = effects[place]._replace(before=effects[place].before[::-1])
    assert any(text.startswith(f"{effects[place].name} was called with") for text in wrong(flow, effects))


def test_a_stale_attempt_was_settled(flow, effects):
    told = wrong(flow, [*effects, effects[0]._replace(token=SECOND)])
    assert any(text.startswith(f"{effects[0].name}: attempt {SECOND} stands") for text in told)


def test_two_results_of_one_job_were_told(flow, effects):
    last = Given(flow.last, flow.calls[flow.last].value, SECOND)
    assert any(text.startswith(f"{flow.last}: attempt") for text in wrong(flow, effects, last))


def test_the_sender_was_told_another_result(flow, effects):
    assert any(text.startswith("workflow") for text in wrong(flow, effects, Given(flow.last, 0, FIRST)))


def test_a_job_that_nobody_has_sent(flow, effects):
    assert "x was called, and nobody has sent it" in wrong(flow, [*effects, Effect("x", "q/999", FIRST, 1, ())])


def test_stale_effects_do_not_pass_the_fence(effects):
    newer, older = effects[0]._replace(token=SECOND), effects[0]
    assert fence([newer, older]) == ({newer.job: newer}, [older])
    assert fence([older, newer]) == ({newer.job: newer}, [])


def test_a_line_that_a_kill_has_torn_is_no_effect(tmp_path, effects):
    ledger = Ledger(tmp_path / "ledger")
    ledger.add(effects[0])
    with (tmp_path / "ledger").open("ab") as file:
        file.write(b'\n["0.1","q/1",[7,')
    ledger.add(effects[-1])
    assert ledger.read() == [effects[0], effects[-1]]
    assert ledger.lines() == 2
    ledger.close()
