"""What abuse meets: a raw client past its HELLO, and a bystander that nothing of it may touch."""

from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry.wire.messages import pack_sizes

HELLO = commands.Hello("wherry", 1, 1, "", "abuser", 30_000)
KEPT = 3


class Bystander:
    """A client with work in hand, on a queue of its own. Its connection, messages and lease outlive what others do.

    Args:
        raw: its connection, past HELLO.
    """

    def __init__(self, raw) -> None:
        self._raw = raw
        self._request = 100

    async def prepare(self) -> None:
        self._raw.say(
            commands.Publish(1, "kept", pack_sizes([1] * KEPT), block=b"\x80" * KEPT),
            commands.Consume(2, 1, "kept", credit=1, lease_ms=600_000),
        )
        said = await self._raw.hear(3)
        assert [type(each) for each in said] == [replies.Confirm, replies.Done, replies.Deliver]

    async def assert_undisturbed(self) -> None:
        """It is answered on its old connection, and has what it had."""
        self._request += 1
        self._raw.say(commands.Info(self._request, "kept"))
        (answer,) = await self._raw.hear()
        assert type(answer) is replies.QueueInfo
        assert (answer.request, answer.info["ready"], answer.info["leased"]) == (self._request, KEPT - 1, 1)


@pytest.fixture
async def bystander(harness, running) -> Bystander:
    bystander = Bystander(await _opened(harness, running))
    await bystander.prepare()
    return bystander


@pytest.fixture
def opened(harness, running):
    """Connects a raw client, and has it welcomed."""
    return lambda broker=running, **fields: _opened(harness, broker, **fields)


async def _opened(harness, broker, **fields):
    raw = await harness.raw(broker)
    raw.say(HELLO._replace(**fields))
    (welcome,) = await raw.hear()
    assert type(welcome) is replies.Welcome
    return raw
