"""Threads that share a socket take turns at reading it.

Whoever waits for an answer reads, for itself and for the others that wait; they sleep meanwhile. Once it has its own
answer, one of them reads on. So no thread is needed that does nothing else, an answer wakes the one thread that it is
for, and a thread that waits for messages all day keeps no other from anything.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Waiter:
    """One thread's wait for one answer.

    Args:
        then: called when the answer is there, under the lock, with the waiter.

    Attributes:
        done: whether the answer is there.
        value: the answer.
        error: an exception instead of it.
    """

    __slots__ = ("done", "error", "then", "value")

    def __init__(self, then: Callable[[Waiter], None] | None = None) -> None:
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.then = then


class Turns:
    """The threads that wait, one of which reads.

    Args:
        read: reads once, and acts on what has come; called by one thread at a time, without the lock, with the longest
            time to wait for something, in seconds. Returns whether there is something to do `between`.
        between: does what a thread that reads must not do, such as calling what belongs to the user.

    Attributes:
        lock: protects everything that threads share. It is never held while waiting for the other end.
    """

    def __init__(self, read: Callable[[float], bool], between: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self._read = read
        self._between = between
        self._reading = False
        self._gates: dict[Waiter, threading.Lock] = {}
        self._inside: set[int] = set()

    @property
    def inside(self) -> bool:
        """Whether this very thread waits already: then what asks is the handler of a signal."""
        return threading.get_ident() in self._inside

    def resolve(self, waiter: Waiter, value: Any = None, error: BaseException | None = None) -> None:
        """The answer is there; the caller holds the lock. A second answer changes nothing."""
        if not waiter.done:
            waiter.value, waiter.error = value, error
            waiter.done = True
            self._wake(waiter)
            if waiter.then is not None:
                waiter.then(waiter)

    def resolve_all(self, waiters: Iterable[Waiter]) -> None:
        """The same for many, whose answer is only that something is so."""
        for waiter in waiters:
            self.resolve(waiter)

    def wait(self, waiter: Waiter, until: float) -> None:
        """Returns when the answer is there, or the time is over.

        Args:
            waiter: whose answer.
            until: the end of the time, on the monotonic clock in seconds; may be infinite.
        """
        if waiter.done:
            return
        me = threading.get_ident()
        self._inside.add(me)
        try:
            while not waiter.done and time.monotonic() < until:
                if self._take_turn(waiter, until):
                    self._inside.discard(me)
                    self._leave(waiter)  # meanwhile another one reads
                    self._between()
                    self._inside.add(me)
        finally:
            self._inside.discard(me)
            self._leave(waiter)

    def step(self, do: Callable[[bool], None]) -> None:
        """Does something that may wait, and is told whether to read as well, since nobody else does."""
        reads = False
        me = threading.get_ident()
        self._inside.add(me)
        try:
            with self.lock:
                if not self._reading:
                    self._reading = reads = True
            do(reads)
        finally:
            self._inside.discard(me)
            if reads:
                self._reading = False
                self._leave(None)

    def glance(self) -> None:
        """Reads what is there already, unless another thread reads."""

        def look(reads: bool) -> None:  # noqa: FBT001 (see `step`)
            if reads:
                self._read(0.0)

        self.step(look)

    def _take_turn(self, waiter: Waiter, until: float) -> bool:
        """Reads until the answer is there, or sleeps until it is, or until this thread is to read.

        Returns:
            Whether there is something to do `between`.
        """
        gate: threading.Lock | None = None
        reads = False
        try:
            with self.lock:
                if waiter.done:
                    return False
                if self._reading:
                    gate = self._gates[waiter] = threading.Lock()
                    gate.acquire()
                else:
                    self._reading = reads = True  # the handler of no signal can come between the two
            if gate is not None:
                gate.acquire(timeout=min(threading.TIMEOUT_MAX, max(0.0, until - time.monotonic())))
            while reads and not waiter.done and (left := until - time.monotonic()) > 0:
                if self._read(left):
                    return True
        finally:
            if reads:
                self._reading = False
        return False

    def _leave(self, waiter: Waiter | None) -> None:
        """A thread waits no more: if nobody reads, another one is woken to do so."""
        with self.lock:
            if waiter is not None:
                self._gates.pop(waiter, None)
            if not self._reading and self._gates:
                self._wake(next(iter(self._gates)))

    def _wake(self, waiter: Waiter) -> None:
        gate = self._gates.pop(waiter, None)
        if gate is not None:
            gate.release()
