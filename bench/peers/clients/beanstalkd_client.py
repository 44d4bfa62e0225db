"""beanstalkd, through greenstalk, which is synchronous and sends one job a round trip.

There is no asyncio client that is kept, and no client that pipelines. So threads share the work, each with a connection
of its own, as its documentation says for threads; eight of them, since more are slower under one interpreter lock.
"""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import ThreadPoolExecutor

import greenstalk

THREADS = 8
TUBE = "bench"


class Client:
    """See `clients.Client`."""

    def __init__(self, host: str, port: int) -> None:
        self._came: asyncio.Queue[bytes] | None = None
        self._pool = ThreadPoolExecutor(THREADS)
        self._free: queue.SimpleQueue[greenstalk.Client] = queue.SimpleQueue()
        self._all = [greenstalk.Client((host, port), encoding=None, use=TUBE, watch=TUBE) for _ in range(THREADS)]
        for each in self._all:
            self._free.put(each)

    async def publish(self, bodies: list[bytes]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._put, bodies)

    def _put(self, bodies: list[bytes]) -> None:
        client = self._free.get()
        try:
            for body in bodies:
                client.put(body)
        finally:
            self._free.put(client)

    async def take(self) -> list[bytes]:
        if self._came is None:
            self._came = asyncio.Queue()
            loop = asyncio.get_running_loop()
            for client in self._all:
                loop.run_in_executor(self._pool, self._reserve, client, loop, self._came)
        bodies = [await self._came.get()]
        while not self._came.empty():
            bodies.append(self._came.get_nowait())
        return bodies

    async def settle(self, *, last: bool) -> None:
        """Nothing: each thread has deleted its job."""

    def _reserve(self, client: greenstalk.Client, loop: asyncio.AbstractEventLoop, came: asyncio.Queue[bytes]) -> None:
        try:
            while True:
                job = client.reserve()
                client.delete(job)
                loop.call_soon_threadsafe(came.put_nowait, job.body)
        except (OSError, greenstalk.Error):  # closed at the end
            return

    async def close(self) -> None:
        for each in self._all:
            each.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


async def connect(address: str, _role: str, _variant: str) -> Client:
    host, _, port = address.partition(":")
    return Client(host, int(port))
