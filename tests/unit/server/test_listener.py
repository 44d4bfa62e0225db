"""The listener: it counts connections, and knows when the last one is gone. Sockets: tests/integration."""

from __future__ import annotations

import asyncio

import structlog

from wherry.model import commands
from wherry.wire import codec
from wherry.wire.framing import FrameReader
from wherry_broker.server.auth import TokenAuth
from wherry_broker.server.limits import Limits
from wherry_broker.server.listener import Listener

GOODBYE = ("draining", "the broker is shutting down")


class Harbour:
    """A listener without a socket; `come` is a client that connects."""

    def __init__(self, transport_of, pump, **limits: int) -> None:
        self._transport_of = transport_of
        log = structlog.wrap_logger(None, processors=[structlog.testing.LogCapture()])
        self.listener = Listener(pump, TokenAuth(""), Limits(**limits), 7, "wherry/test", log)

    def come(self):
        connection = self.listener.accept()
        transport = self._transport_of(connection)
        connection.connection_made(transport)
        return transport


def goodbyes(transport) -> list[str]:
    messages = [codec.decode(frame) for frame in FrameReader(1 << 20).feed(bytes(transport.written))]
    return [each.code for each in messages if type(each) is commands.Goodbye]


def test_one_too_many_is_told_and_leaves_room_for_the_next(loop, transport_of, pump):
    harbour = Harbour(transport_of, pump, connections_max=2)
    first, second, third = (harbour.come() for _ in range(3))
    assert (goodbyes(first), goodbyes(second), goodbyes(third)) == ([], [], ["unavailable"])
    loop.turn()
    assert harbour.listener.connections == 2
    first.abort()
    loop.turn()
    assert goodbyes(harbour.come()) == []
    assert harbour.listener.connections == 2


async def test_close_waits_for_the_last_one(loop, transport_of, pump):
    harbour = Harbour(transport_of, pump)
    quick, slow = harbour.come(), harbour.come()
    slow.reads = False
    closing = asyncio.create_task(harbour.listener.close(*GOODBYE))
    await asyncio.sleep(0)
    loop.turn()
    assert (quick.closing, harbour.listener.connections, closing.done()) == (True, 1, False)
    loop.advance(60)
    await closing
    assert slow.aborted
    assert harbour.listener.connections == 0
    assert goodbyes(quick) == ["draining"]


async def test_who_is_heard_of_after_the_end_is_told_too(loop, transport_of, pump):
    harbour = Harbour(transport_of, pump)
    await harbour.listener.close(*GOODBYE)
    late = harbour.come()
    loop.turn()
    assert goodbyes(late) == ["unavailable"]
    assert harbour.listener.connections == 0
