"""Workflows of any form, with calls that fail, against an interpreter that does one call after the other.

WHERRY_TEST_WORKFLOWS is how many are drawn in the slow run; a seed that fails is part of the test's name.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
from interpreter import FAILED, NOTHING, RETRIES, Call, Chain, Group, Interpreter, Inventor, value_of

import wherry
from patience import PATIENCE_S
from wherry.tasks import Retry, chain, current, group

SHORT = 20
WORKFLOWS = int(os.environ.get("WHERRY_TEST_WORKFLOWS", "100"))
SEEDS = [*range(SHORT), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(SHORT, WORKFLOWS))]


class Runs:
    """Tasks that do calls, and what they were called with."""

    def __init__(self, tasks) -> None:
        self.attempts: Counter[int] = Counter()

        async def coroutine(*given, name: int, fails: int) -> int:
            return self._do(given, name, fails)

        def thread(*given, name: int, fails: int) -> int:
            return self._do(given, name, fails)

        options = {"retries": RETRIES, "back_off": Retry(base=0)}
        self.tasks = {each.__name__: tasks.task(**options)(each) for each in (coroutine, thread)}

    def _do(self, given, name, fails):
        self.attempts[name] += 1
        assert current().attempt == self.attempts[name]
        if self.attempts[name] <= fails:
            raise RuntimeError(f"attempt {self.attempts[name]} of {fails} that fail")
        return value_of(name, _plain(*given) if given else NOTHING)

    def signature(self, node):
        """A workflow as a program would write it."""
        if isinstance(node, Chain):
            return chain(*map(self.signature, node.steps))
        if isinstance(node, Group):
            return group(map(self.signature, node.members), collects=node.collects)
        assert isinstance(node, Call)
        task, said = self.tasks[node.kind], {"name": node.name, "fails": node.fails}
        return task.then(**said) if node.takes else task.si(**said)


def _plain(given):
    if isinstance(given, list):
        return [_plain(each) for each in given]
    return FAILED if isinstance(given, wherry.NoResult) else given


async def outcome(handle):
    try:
        return await handle.result(PATIENCE_S)
    except wherry.JobFailed:
        return FAILED


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_workflow_comes_to_what_a_sequential_interpreter_comes_to(running, tasks, working, seed):
    draw = random.Random(seed)
    node, sequential, runs = Inventor(draw).whole(), Interpreter(), Runs(tasks)
    expected = sequential.run(node)
    async with working(concurrency=draw.randint(1, 5)):
        sent = await runs.signature(node).send()
        if isinstance(node, Group):
            assert [await outcome(handle) for handle in sent] == expected, node
        else:
            assert await outcome(sent) == expected, node
        queues = running.shard.state.names
        await running.until(lambda: not any(sum(queues[task.queue].counts[:3]) for task in runs.tasks.values()))
    assert runs.attempts == Counter({name: count for name, count in sequential.attempts.items() if count}), node
