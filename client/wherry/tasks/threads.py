"""Where sync tasks run: in threads of the worker.

Calls go to the threads through one queue. What they return comes back to the event loop in batches: whoever returns
first wakes it, and those that return until it looks come along, so that a call that takes no time costs no wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from wherry.tasks.places import ran_over

if TYPE_CHECKING:
    from collections.abc import Callable


class Threads:
    """Threads for sync tasks, started as they are needed. They belong to the running event loop.

    Args:
        size: how many run at a time.
    """

    def __init__(self, size: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._size = size
        self._started = 0
        self._wanted = 0
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._returned: deque[Call] = deque()
        self._is_told = False

    async def run(self, call: Callable[[], Any], timeout: float | None) -> Any:
        """Calls something in a thread; returns when it has returned, however long that takes.

        A thread cannot be stopped from outside. When its time is over TimeoutError is raised in it, which it sees as
        soon as it runs Python code. What is cancelled before a thread has begun with it is not called.

        Args:
            call: what to call.
            timeout: how long it may take, in seconds.
        """
        made = Call(call, self._loop.create_future(), None if timeout is None else Interrupt())
        timer = None if made.interrupt is None else self._loop.call_later(timeout or 0, made.interrupt.fire)
        self._wanted += 1
        if self._started < min(self._wanted, self._size):
            self._started += 1
            threading.Thread(target=self._work, name=f"wherry-task-{self._started}").start()
        self._calls.put(made)
        try:
            return await made.future
        except TimeoutError as error:
            if made.interrupt is not None and made.interrupt.fired and timeout is not None and not error.args:
                error.args = (ran_over(timeout),)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Ends the threads that do nothing, and each other one when its call returns; what has not begun is not called.

        What waits for a call is not told of that.
        """
        with contextlib.suppress(Empty):
            while True:
                self._calls.get_nowait()
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        """What each thread does."""
        while (call := self._calls.get()) is not None:
            call.make()
            self._returned.append(call)
            if not self._is_told:
                self._is_told = True
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        self._is_told = False  # before looking: who returns after this tells again
        while self._returned:
            self._wanted -= 1
            self._returned.popleft().tell()


class Call:
    """One call, made by a thread, and awaited in the event loop.

    Args:
        call: what to call.
        future: who waits.
        interrupt: raises TimeoutError in it; None when it may take any time.
    """

    __slots__ = ("_call", "_error", "_value", "_within", "future", "interrupt")

    def __init__(self, call: Callable[[], Any], future: asyncio.Future[Any], interrupt: Interrupt | None) -> None:
        self.future = future
        self.interrupt = interrupt
        self._call = call
        self._within = contextvars.copy_context()
        self._value: Any = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Makes the call, unless nobody waits for it any more."""
        if self.future.cancelled():
            return
        try:
            if self.interrupt is None:
                self._value = self._within.run(self._call)
            else:
                self._value = self._within.run(self.interrupt.around, self._call)
        except BaseException as error:  # noqa: BLE001 (the outermost frame of a call: who waits for it gets it)
            self._error = error

    def tell(self) -> None:
        """Hands what came of it to who waits; in the event loop."""
        future, error = self.future, self._error
        if future.done():
            return
        if isinstance(error, StopIteration):  # which no future takes
            error = RuntimeError(f"the call raised {error!r}")
        if error is None:
            future.set_result(self._value)
        else:
            future.set_exception(error)


class Interrupt:
    """Raises TimeoutError in the thread that makes a call, and in no other call of the same thread.

    Attributes:
        fired: whether it has.
    """

    def __init__(self) -> None:
        self.fired = False
        self._lock = threading.Lock()
        self._thread: int | None = None  # 0 once the call is over

    def around(self, call: Callable[[], Any]) -> Any:
        """Makes the call; `fire` reaches it until it is over.

        Raises:
            TimeoutError: its time was over before a thread came to it, so that it is not made.
        """
        with self._lock:
            if self.fired:
                raise TimeoutError
            self._thread = threading.get_ident()
        try:
            return call()
        finally:
            with self._lock:
                self._thread = 0

    def fire(self) -> None:
        """Raises TimeoutError in the call, unless it is over."""
        with self._lock:
            self.fired = self._thread != 0
            if self._thread:
                raised = ctypes.py_object(TimeoutError)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), raised)
