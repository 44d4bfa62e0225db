"""Bindings: which queues take a subject, by the patterns that they are bound with.

A trie over the tokens of patterns, so that a subject costs what its own tokens cost, and not what all queues cost: at
each node it follows at most two branches, that of its token and that of `*`. Laws: a queue takes a subject once,
however many of its patterns match; queues come in the order of their numbers.

`wherry.model.names` says what a pattern may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ONE, REST = "*", ">"


class _Node:
    """Where the patterns that begin with the same tokens part.

    Attributes:
        children: the nodes one token further on, by that token, `*` among them.
        here: the queues with a pattern that ends here.
        rest: those with one that goes on with `>`.
    """

    __slots__ = ("children", "here", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.here: set[int] = set()
        self.rest: set[int] = set()

    @property
    def is_empty(self) -> bool:
        return not (self.children or self.here or self.rest)


class Bindings:
    """The patterns of all queues, by the queues' numbers."""

    def __init__(self) -> None:
        self._root = _Node()
        self._patterns: dict[int, tuple[str, ...]] = {}

    def bind(self, queue: int, patterns: Iterable[str]) -> None:
        """Binds a queue with these patterns, in the place of those that it had."""
        patterns, old = tuple(dict.fromkeys(patterns)), self._patterns.pop(queue, ())
        for pattern in old:
            self._remove(self._root, pattern.split("."), queue)
        for pattern in patterns:
            self._add(pattern.split("."), queue)
        if patterns:
            self._patterns[queue] = patterns

    def match(self, subject: str) -> list[int]:
        """The queues with a pattern that matches, in the order of their numbers."""
        found: set[int] = set()
        nodes = [self._root]
        for token in subject.split("."):
            following = []
            for node in nodes:
                found |= node.rest
                following += [node.children[name] for name in (token, ONE) if name in node.children]
            nodes = following
        for node in nodes:
            found |= node.here
        return sorted(found)

    def _add(self, tokens: Sequence[str], queue: int) -> None:
        node = self._root
        last = tokens[-1]
        for token in tokens[:-1] if last == REST else tokens:
            node = node.children.setdefault(token, _Node())
        (node.rest if last == REST else node.here).add(queue)

    def _remove(self, node: _Node, tokens: Sequence[str], queue: int) -> None:
        """Removes a pattern below a node, and the nodes that nothing needs any more."""
        if not tokens:
            node.here.discard(queue)
        elif tokens[0] == REST:
            node.rest.discard(queue)
        else:
            child = node.children[tokens[0]]
            self._remove(child, tokens[1:], queue)
            if child.is_empty:
                del node.children[tokens[0]]
