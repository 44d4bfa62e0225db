"""Policies: options for the queues whose names match a pattern, in the place of the broker's defaults.

A queue has, in this order, the later ones winning: the broker's defaults, the policies that match its name, in the
order in which they stand, and what was asked for when it was declared or altered. Only what was asked for is the
queue's own; the rest follows the configuration, and changes with it. A name is matched as a subject is; see `bindings`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from wherry_broker.core import decide
from wherry_broker.core.bindings import Bindings
from wherry_broker.core.records import Fact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry_broker.core.options import QueueOptions
    from wherry_broker.core.queue import Queue


class Policy(NamedTuple):
    """Options, checked, for the queues that a pattern matches."""

    pattern: str
    options: dict[str, Any]


class Policies:
    """What queues have that was not asked for.

    Args:
        defaults: the options of a queue that no policy matches.
        policies: the policies, in their order.
    """

    def __init__(self, defaults: QueueOptions, policies: Sequence[Policy] = ()) -> None:
        self.defaults = defaults
        self._policies = tuple(policies)
        self._bindings = Bindings()
        for number, policy in enumerate(self._policies):
            self._bindings.bind(number, (policy.pattern,))
        self._merged: dict[tuple[int, ...], QueueOptions] = {}

    def patterns(self, name: str) -> tuple[str, ...]:
        """The patterns of the policies that match a name, in their order."""
        return tuple(self._policies[number].pattern for number in self._bindings.match(name))

    def options(self, name: str, *, is_store: bool = False) -> QueueOptions:
        """The options of a queue of that name for which nothing was asked; a store is bound to no subjects."""
        numbers = tuple(self._bindings.match(name))
        merged = self._merged.get(numbers)
        if merged is None:
            merged = self.defaults
            for number in numbers:
                merged = merged.changed(self._policies[number].options)
            self._merged[numbers] = merged
        return merged.changed({"bind": ()}) if is_store and merged.bind else merged


class Shape(NamedTuple):
    """What becomes of a queue when the configuration is another one.

    Attributes:
        facts: what makes it so.
        kept: the options that should change too, and cannot.
    """

    facts: list[Fact]
    kept: list[str]


def reshaped(queue: Queue, policies: Policies, now_ms: int) -> Shape:
    """What gives a queue the options that the configuration has for it, but for those that were asked for."""
    wanted = policies.options(queue.name, is_store=queue.is_store)
    if queue.asked is None or queue.options == wanted:
        return Shape([], [])
    differing = queue.options.differing(wanted.as_map())
    changes = {name: value for name, (_, value) in differing.items() if name not in queue.asked}
    kept = sorted(changes.keys() & decide.FIXED_OPTIONS)
    for name in kept:
        del changes[name]
    return Shape(decide.changed(queue, changes, now_ms, asked=False), kept)
