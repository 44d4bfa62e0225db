"""beanstalkd, through greenstalk, which is blocking and sends one job a round trip.

No client that is kept sends a command before the last one is answered, and the protocol has no batch. So a few threads
share the work, each with a connection of its own, as greenstalk's documentation says for threads. More threads are no
faster under one interpreter lock; aiostalk, its asyncio copy, takes a third more CPU time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

import greenstalk

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
THREADS = 4
TUBE = "bench"


class Mailbox(Generic[T]):
    """What threads hand to the event loop, which is woken once for all that is there.

    Args:
        opened: is called on the event loop when something has come.
    """

    def __init__(self, opened: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._opened = opened
        self._woken = False
        self._came: deque[T] = deque()

    def add(self, item: T) -> None:
        """Called by any thread."""
        self._came.append(item)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._opened)

    def take(self) -> list[T]:
        """All that came; called on the event loop."""
        self._woken = False
        return [self._came.popleft() for _ in range(len(self._came))]


class Client:
    """See `clients.Client`."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._jobs: SimpleQueue[tuple[list[bytes], asyncio.Future[None]]] = SimpleQueue()
        self._done: Mailbox[asyncio.Future[None]] = Mailbox(self._finish)
        self._some = asyncio.Event()
        self._came: Mailbox[bytes] = Mailbox(self._some.set)
        self._taking = False

    def start(self, work: Callable[[greenstalk.Client], None]) -> None:
        """Has each thread do this, with a connection of its own."""
        for _ in range(THREADS):
            client = greenstalk.Client(self._server, encoding=None, use=TUBE, watch=TUBE)
            threading.Thread(target=work, args=(client,), daemon=True).start()

    async def publish(self, bodies: list[bytes]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((bodies, future))
        await future

    def put(self, client: greenstalk.Client) -> None:
        """What a producer's thread does."""
        while True:
            bodies, future = self._jobs.get()
            for body in bodies:
                client.put(body)
            self._done.add(future)

    def _finish(self) -> None:
        for future in self._done.take():
            future.set_result(None)

    async def take(self) -> list[bytes]:
        if not self._taking:
            self._taking = True
            self.start(self._reserve)
        await self._some.wait()
        self._some.clear()
        return self._came.take()

    def _reserve(self, client: greenstalk.Client) -> None:
        while True:
            job = client.reserve()
            client.delete(job)
            assert isinstance(job.body, bytes)
            self._came.add(job.body)

    async def settle(self, *, last: bool) -> None:
        """Nothing: each thread has deleted its job."""

    async def close(self) -> None:
        """Nothing: a thread that waits for a job cannot be interrupted; the process ends with them."""


async def connect(address: str, role: str, _variant: str) -> Client:
    host, _, port = address.partition(":")
    client = Client(host, int(port))
    if role == "producer":
        client.start(client.put)
    return client
