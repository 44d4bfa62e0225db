"""What has to be true when all workflows have ended, whatever was hurt meanwhile. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from chaos.flows import Drawn
from chaos.ledger import Effect, Given, fence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from chaos.flows import Call


class Ended(NamedTuple):
    """A workflow that was sent.

    Attributes:
        flow: the workflow.
        jobs: the ids of its jobs, as the sender was told.
        result: what the sender was told in the end.
    """

    flow: Drawn
    jobs: list[str]
    result: Given


class Figures(NamedTuple):
    """How much has happened.

    Attributes:
        effects: how many attempts came to their effect.
        repeated: how many of these were of a job that had had one before.
        refused: how many of these were stale: a later attempt had come to its effect before.
        chords: how many callbacks there were.
    """

    effects: int
    repeated: int
    refused: int
    chords: int


def audit(ended: Sequence[Ended], effects: Sequence[Effect]) -> tuple[Figures, list[str]]:
    """Looks at everything.

    Returns:
        How much has happened; and what is wrong, in words.
    """
    calls = {name: call for each in ended for name, call in each.flow.calls.items()}
    by_name: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        by_name[effect.name].append(effect)
    fenced = fence(effects)
    settled = _settled(ended, effects)
    wrong = [
        *_told(ended),
        *_all_there(calls, by_name),
        *_once(ended, by_name),
        *_right(calls, effects),
        *_current(fenced.stands.values(), settled),
    ]
    repeated = len(effects) - len({each.job for each in effects})
    return Figures(len(effects), repeated, len(fenced.refused), sum(len(each.flow.chords) for each in ended)), wrong


def _settled(ended: Iterable[Ended], effects: Iterable[Effect]) -> dict[str, set[Given]]:
    """By call, the results that the world was told: the sender, and each attempt of the calls after it."""
    told: dict[str, set[Given]] = defaultdict(set)
    for each in ended:
        told[each.result.name].add(each.result)
    for effect in effects:
        for given in effect.before:
            told[given.name].add(given)
    return told


def _told(ended: Iterable[Ended]) -> Iterator[str]:
    for each in ended:
        last = each.flow.calls[each.flow.last]
        if (each.result.name, each.result.value) != (last.name, last.value):
            yield f"workflow {last.name} came to {each.result}, and not to {last.value}"


def _all_there(calls: Mapping[str, Call], by_name: Mapping[str, list[Effect]]) -> Iterator[str]:
    for name in sorted(calls.keys() - by_name.keys()):
        yield f"{name} has had no effect"
    for name in sorted(by_name.keys() - calls.keys()):
        yield f"{name} was called, and nobody has sent it"


def _once(ended: Iterable[Ended], by_name: Mapping[str, list[Effect]]) -> Iterator[str]:
    """One job for each call, and no job that the sender does not know; so no chord has fired twice."""
    for each in ended:
        done = {name: {effect.job for effect in by_name[name]} for name in each.flow.calls}
        for name, jobs in done.items():
            if len(jobs) > 1:
                yield f"{name} was {len(jobs)} jobs: {sorted(jobs)}"
        known, seen = set(each.jobs), set().union(*done.values())
        if known != seen or len(each.jobs) != len(each.flow.calls):
            yield f"workflow {each.flow.last}: jobs {sorted(known ^ seen)[:10]} were sent or done, and not both"


def _right(calls: Mapping[str, Call], effects: Iterable[Effect]) -> Iterator[str]:
    """Each attempt was called with the right results, in their order, and has come to the right one."""
    for effect in effects:
        call = calls.get(effect.name)
        if call is None:
            continue
        expected = [(name, calls[name].value) for name in call.after]
        if [(given.name, given.value) for given in effect.before] != expected:
            yield f"{effect.name} was called with {effect.before}, and not with {expected}"
        if effect.value != call.value:
            yield f"{effect.name} came to {effect.value}, and not to {call.value}"


def _current(stands: Iterable[Effect], settled: Mapping[str, set[Given]]) -> Iterator[str]:
    """What stands behind the fence is of the attempt that was settled: the world has one result for each job."""
    for effect in stands:
        told = settled.get(effect.name, set())
        if told != {Given(effect.name, effect.value, effect.token)}:
            yield f"{effect.name}: attempt {effect.token} stands, and {sorted(told)} was told"
