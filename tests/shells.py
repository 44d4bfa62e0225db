"""Both shells of the client under one face, so that what they must do is written once: blocking calls.

The asyncio client lives on an event loop in a thread of its own, and `Blocking` calls it from there. The blocking
client is what it is.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any

import wherry
import wherry.aio
import wherry.sync
from patience import PATIENCE_S
from wherry.aio.tracked import TrackedReceipt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class LoopThread:
    """An event loop that turns in a thread of its own; the broker is on it, and the asyncio clients are.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.problems: list[dict] = []
        self.loop.set_exception_handler(lambda _, context: self.problems.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, call, *arguments: Any, **options: Any) -> Any:
        """Calls a function on the loop and awaits what it returns; whatever it says leaves before this ends."""

        async def body():
            result = call(*arguments, **options)
            if inspect.isawaitable(result) and not isinstance(result, wherry.aio.Settlement):
                result = await result
            await asyncio.sleep(0)
            return result

        return asyncio.run_coroutine_threadsafe(body(), self.loop).result(2 * PATIENCE_S)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


ASYNC = (
    wherry.aio.Broker,
    wherry.aio.Queue,
    wherry.aio.Consumer,
    wherry.aio.Message,
    wherry.aio.Settlement,
    wherry.aio.Dead,
    wherry.aio.Transaction,
    wherry.aio.Store,
    wherry.aio.Topic,
    TrackedReceipt,
)


class Blocking:
    """Something of the asyncio client, as the blocking client would have it."""

    def __init__(self, thread: LoopThread, it: Any) -> None:
        self._thread = thread
        self._it = it

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._it, name)
        if not callable(found) or isinstance(found, ASYNC):
            return self._wrap(found)
        return lambda *arguments, **options: self._call(found, *arguments, **options)

    def _call(self, call, *arguments: Any, **options: Any) -> Any:
        plain = [_unwrap(each) for each in arguments]
        return self._wrap(self._thread.run(call, *plain, **{name: _unwrap(each) for name, each in options.items()}))

    def _wrap(self, it: Any) -> Any:
        if isinstance(it, ASYNC) or inspect.isasyncgen(it):
            return Blocking(self._thread, it)
        return [self._wrap(each) for each in it] if type(it) is list else it

    def wait(self, timeout: float = PATIENCE_S) -> None:
        """Waits for the outcome of a settle."""

        async def outcome():
            async with asyncio.timeout(timeout):
                await self._it

        self._thread.run(outcome)

    def __del__(self) -> None:
        # A consumer that is dropped stops, if that is on its loop.
        held = [self.__dict__.pop("_it")]
        if not self._thread.loop.is_closed():
            self._thread.loop.call_soon_threadsafe(held.clear)

    def __iter__(self) -> Blocking:
        return self

    def __next__(self) -> Any:
        async def following():
            return [each async for each in _first(self._it)]

        found = self._thread.run(following)
        if not found:
            raise StopIteration
        return self._wrap(found[0])

    def __enter__(self) -> Any:
        return self._wrap(self._thread.run(self._it.__aenter__))

    def __exit__(self, *details: object) -> Any:
        return self._thread.run(self._it.__aexit__, *details)


async def _first(iterator: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        yield await anext(iterator)
    except StopAsyncIteration:
        return


def _unwrap(it: Any) -> Any:
    if isinstance(it, Blocking):
        return it._it
    return [_unwrap(each) for each in it] if type(it) is list else it


class AsyncShell:
    """The asyncio client."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread

    def connect(self, url: str, **options: Any) -> Any:
        async def connected():
            return await wherry.connect(url, **options)

        return Blocking(self._thread, self._thread.run(connected))


class SyncShell:
    """The blocking client."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread

    def connect(self, url: str, **options: Any) -> wherry.sync.Broker:
        return wherry.sync.connect(url, **options)


SHELLS = {"asyncio": AsyncShell, "blocking": SyncShell}
