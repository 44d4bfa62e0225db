"""Both shells offer the same names with the same arguments."""

from __future__ import annotations

import inspect

import pytest

import wherry.aio
import wherry.sync

ONLY_BLOCKING = {"Settlement": {"wait"}}
BLOCKING_ARGUMENTS = {"Queue.consume": {"wait"}}
"""What only a blocking client needs: a limit of time for an iterator, since nothing can be put around it."""

ONLY_ASYNC_YET = {"reconnect", "on_status"}
"""Arguments of `connect` that the blocking client does not have before it connects again by itself."""


def surface(cls: type) -> dict[str, inspect.Signature | None]:
    """The public names of a class, with how they are called."""
    return {
        name: inspect.signature(found) if callable(found) else None
        for name, found in inspect.getmembers(cls)
        if not name.startswith("_")
    }


def arguments(signature: inspect.Signature | None) -> list[tuple]:
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()] if signature else []


def test_the_modules_offer_the_same_names():
    assert sorted(wherry.aio.__all__) == sorted(wherry.sync.__all__)


@pytest.mark.parametrize("name", [each for each in wherry.sync.__all__ if each != "connect"])
def test_the_classes_offer_the_same_names(name):
    one, other = surface(getattr(wherry.aio, name)), surface(getattr(wherry.sync, name))
    assert set(other) - set(one) == ONLY_BLOCKING.get(name, set())
    assert set(one) - set(other) == set()
    for method in one:
        more = BLOCKING_ARGUMENTS.get(f"{name}.{method}", set())
        assert arguments(one[method]) == [each for each in arguments(other[method]) if each[0] not in more], method


def test_connecting_takes_the_same_arguments():
    one, other = (arguments(inspect.signature(shell.connect)) for shell in (wherry.aio, wherry.sync))
    assert [each for each in one if each[0] not in ONLY_ASYNC_YET - {each[0] for each in other}] == other
