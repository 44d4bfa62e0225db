"""Workflows that are drawn from a seed, what they come to, and when which process is hurt. Pure, but for the tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chaos import jobs
from wherry.tasks import chain, chord

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

CALLBACKS_APART = 0.1
"""How many of the callbacks run in processes of their own: these take long to start."""


class Call(NamedTuple):
    """A call of a workflow.

    Attributes:
        name: its name, which no other call has.
        after: the names of those whose results it is called with.
        value: what it comes to.
    """

    name: str
    after: tuple[str, ...]
    value: int


class Drawn(NamedTuple):
    """A workflow.

    Attributes:
        calls: its calls, by name.
        last: the name of the last one.
        chords: the names of the callbacks.
        whole: what to send.
    """

    calls: dict[str, Call]
    last: str
    chords: list[str]
    whole: Any


def draw_flow(draw: random.Random, number: int) -> Drawn:
    """A workflow: a chord, some of whose members are chains or chords, and perhaps a call after it."""
    flow = Drawn({}, "", [], None)
    name, whole = _chord(draw, flow, str(number), depth=1)
    if draw.random() < 0.3:
        after, name = name, f"{number}.end"
        whole = chain(whole, jobs.step.then(name=_add(flow, name, after)))
    return flow._replace(last=name, whole=whole)


def _chord(draw: random.Random, flow: Drawn, path: str, depth: int) -> tuple[str, Any]:
    members = [_member(draw, flow, f"{path}.{place}", depth) for place in range(draw.randint(2, 40 if depth else 4))]
    name = f"{path}.join"
    callback = jobs.apart if draw.random() < CALLBACKS_APART else jobs.join
    flow.chords.append(name)
    _add(flow, name, *(each for each, _ in members))
    return name, chord([whole for _, whole in members], callback.then(name=name))


def _member(draw: random.Random, flow: Drawn, path: str, depth: int) -> tuple[str, Any]:
    kind = draw.random()
    if depth and kind < 0.05:
        return _chord(draw, flow, path, depth - 1)
    whole: Any = jobs.begin.s(_add(flow, path))
    name = path
    if kind < 0.25:
        name = f"{path}.step"
        whole = chain(whole, jobs.step.then(name=_add(flow, name, path)))
    return name, whole


def _add(flow: Drawn, name: str, *after: str) -> str:
    flow.calls[name] = Call(name, after, jobs.value_of(name, [flow.calls[each].value for each in after]))
    return name


def draw_flows(draw: random.Random, total: int) -> list[Drawn]:
    """So many workflows that they have `total` calls or a few more."""
    flows: list[Drawn] = []
    while total > 0:
        flows.append(draw_flow(draw, len(flows)))
        total -= len(flows[-1].calls)
    return flows


class Fault(NamedTuple):
    """A process is hurt.

    Attributes:
        at: when: once so many effects are there.
        kind: BROKER, WORKER or FREEZE.
        worker: which worker.
        pause_s: for how long it stands still.
    """

    at: int
    kind: str
    worker: int = 0
    pause_s: float = 0.0


BROKER, WORKER, FREEZE = "broker", "worker", "freeze"
FROZEN_S = (0.1, 2.5)
"""Shorter than a lease, and longer."""


def draw_faults(draw: random.Random, total: int, workers: int, counts: dict[str, int]) -> list[Fault]:
    """The faults of a run, in their order.

    Args:
        draw: decides all.
        total: how many calls there are.
        workers: how many workers.
        counts: how many faults of each kind.
    """
    return sorted(each for kind, count in counts.items() for each in _some(draw, total, workers, kind, count))


def _some(draw: random.Random, total: int, workers: int, kind: str, count: int) -> Iterator[Fault]:
    for _ in range(count):
        yield Fault(draw.randrange(total * 9 // 10), kind, draw.randrange(workers), draw.uniform(*FROZEN_S))
