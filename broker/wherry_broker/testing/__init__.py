"""For tests of code that uses wherry: the real broker in this process on a clock that is moved by hand, or a whole one.

`VirtualBroker` is the broker's own core, session and commit loop, and the client's own code, without a socket and
without waiting: what takes an hour takes as long as the work that is done in it. `Server` is `wherry serve` in a
process of its own, on a free port. Both are pytest fixtures as well, `wherry_broker` and `wherry_server`::

    async def test_a_reminder_comes_after_an_hour(wherry_broker):
        async with wherry_broker.connect() as broker:
            await remind(broker, "call Ann", after=3600)
            assert await broker.queue("reminders").get() == []
            await wherry_broker.advance(hours=1)
            (message,) = await broker.queue("reminders").get()
            assert message.body == b"call Ann"
"""

from wherry_broker.testing.server import Server
from wherry_broker.testing.virtual import VirtualBroker

__all__ = ["Server", "VirtualBroker"]
