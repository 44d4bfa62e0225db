"""Rounds with clients whose connections go on by themselves: the broker is killed, or connections are cut."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from crash.cycles import Round
from tcp_proxy import TcpProxy

CUT_AFTER_S = (0.0, 0.08)


class LastingRound(Round):
    """A round in which clients leave it to the library that brokers come and go."""

    roles = ("produce-lasting", "consume-lasting")


class CutRound(LastingRound):
    """A round whose cycles do no harm to the broker: each cuts all connections of the clients, at any moment."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._proxy = TcpProxy("127.0.0.1", self.broker.port)
        self._on_loop(self._proxy.__aenter__())
        self.url = self._proxy.url
        self.cuts = 0

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._on_loop(self._proxy.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cycle(self, number: int) -> None:
        """Lets all run for a moment, and cuts."""
        time.sleep(self.draw.uniform(*CUT_AFTER_S))
        self.cuts += self._on_loop(self._cut())

    async def _cut(self) -> int:
        return self._proxy.cut()

    def _on_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
