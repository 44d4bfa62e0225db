"""Workflows that are drawn at random, and what comes of them when they are done one call after the other.

Written from the guide and the docstrings of `wherry.tasks`, and not from its code: a chain calls each step with what
the one before it returned; the calls of a group are each called with that; what follows a group is called with the list
of what its calls returned, in their order, where a group among them stands for its calls; what fails fails all that
waits for it, unless it is one of a group that collects, whose list has a failure in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    import random

FAILED = "failed"
"""What comes of a call that fails, or is never made since what it waits for has failed."""
NOTHING = "nothing"
"""What a call is called with that takes no result."""
RETRIES = 2


@dataclass
class Call:
    """One call.

    Attributes:
        name: its own.
        fails: how many of its attempts fail.
        takes: whether it takes what the one before it returned.
        kind: how it runs: `coroutine` or `thread`.
    """

    name: int
    fails: int
    takes: bool
    kind: str


@dataclass
class Chain:
    """One after the other."""

    steps: list[Any]


@dataclass
class Group:
    """Side by side."""

    members: list[Any]
    collects: bool


@dataclass
class Interpreter:
    """Does workflows one call after the other.

    Attributes:
        attempts: of each call, how often it was made.
    """

    attempts: dict[int, int] = field(default_factory=dict)

    def run(self, node: Any, given: Any = NOTHING) -> Any:
        """What comes of a node that is called with something: a value, or for a group the list of those."""
        if isinstance(node, Chain):
            before: Any = None
            for step in node.steps:
                given, before = self.run(step, self._whole(before, given)), step
            return given
        if isinstance(node, Group):
            return [each for member in node.members for each in self._as_list(self.run(member, given))]
        if given == FAILED:
            self.attempts[node.name] = 0
            return FAILED
        self.attempts[node.name] = min(node.fails, RETRIES) + 1
        return FAILED if node.fails > RETRIES else value_of(node.name, given if node.takes else NOTHING)

    def _whole(self, before: Any, given: Any) -> Any:
        """What a step is called with: of a group that does not collect, nothing if one has failed."""
        while isinstance(before, Chain):
            before = before.steps[-1]
        return FAILED if isinstance(before, Group) and not before.collects and FAILED in given else given

    def _as_list(self, outcome: Any) -> list[Any]:
        return outcome if isinstance(outcome, list) else [outcome]


def value_of(name: int, given: Any) -> int:
    """What a call returns."""
    return crc32(f"{name} {given}".encode())


class Inventor:
    """Draws workflows.

    Args:
        draw: decides all.
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._names = 0

    def whole(self, depth: int = 3) -> Any:
        """A chain that ends with a call, or a group."""
        if self._draw.random() < 0.2:
            return self._group(depth, follows=False)
        return Chain([*self._chain(depth, follows=False).steps, self._call(follows=True)])

    def _node(self, depth: int, *, follows: bool) -> Any:
        kind = self._draw.choice(["call", "call", "chain", "group"]) if depth else "call"
        if kind == "call":
            return self._call(follows=follows)
        return self._chain(depth - 1, follows=follows) if kind == "chain" else self._group(depth - 1, follows=follows)

    def _call(self, *, follows: bool) -> Call:
        draw = self._draw
        self._names += 1
        fails = draw.choices([0, 1, RETRIES, RETRIES + 1], [85, 6, 4, 5])[0]
        return Call(self._names, fails, follows and draw.random() < 0.85, draw.choice(["coroutine", "thread"]))

    def _chain(self, depth: int, *, follows: bool) -> Chain:
        return Chain([self._node(depth, follows=follows or n > 0) for n in range(self._draw.randint(1, 3))])

    def _group(self, depth: int, *, follows: bool) -> Group:
        members = [self._node(depth, follows=follows) for _ in range(self._draw.randint(1, 4))]
        return Group(members, self._draw.random() < 0.5)
