"""How a broken promise is told, and the little that both halves of the audit need."""

from __future__ import annotations

from wherry.wire.messages import split_block
from wherry_broker.core.records import Routed


class Violation(AssertionError):
    """A promise is broken; the text names it."""


def expect(true, promise, *facts):
    """Says that a promise is broken, unless it is not."""
    if not true:
        raise Violation(f"{promise}: " + ", ".join(f"{fact!r:.400}" for fact in facts))


def messages_of(lengths, data):
    """The messages of a block."""
    return list(split_block(lengths, data))


def parts_of(record):
    """A record as what it says of each queue by itself."""
    return list(record.parts()) if type(record) is Routed else [record]


def offsets(ranges):
    """All offsets of ranges (low, high)."""
    return [offset for low, high in ranges for offset in range(low, high)]
