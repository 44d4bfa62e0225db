"""Fixtures for pytest, which finds them once wherry is installed. A test that asks for none of them pays for none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wherry_broker.testing import Server, VirtualBroker


@pytest.fixture
def wherry_broker() -> Iterator[VirtualBroker]:
    """A broker in this process, on a clock that `advance` moves: `wherry_broker.testing.VirtualBroker`."""
    from wherry_broker.testing import VirtualBroker  # noqa: PLC0415 (most runs of pytest need no broker)

    broker = VirtualBroker()
    yield broker
    broker.close()


@pytest.fixture
def wherry_server_with() -> Iterator[Callable[..., Server]]:
    """Starts brokers with options, as `wherry_broker.testing.Server` takes them, which end with the test."""
    from contextlib import ExitStack  # noqa: PLC0415

    from wherry_broker.testing import Server  # noqa: PLC0415

    with ExitStack() as stack:
        yield lambda *options, **given: stack.enter_context(Server(*options, **given))


@pytest.fixture
def wherry_server(wherry_server_with: Callable[..., Server]) -> Server:
    """A broker in a process of its own, on a free port; it keeps everything in memory."""
    return wherry_server_with()
