"""Consuming: an iterator over what the broker delivers."""

from __future__ import annotations

import threading
import time
from math import inf
from typing import TYPE_CHECKING, Self

from wherry import errors
from wherry.conversation.holding import MAX_LEASE_S, Holding
from wherry.conversation.leased import SAID, runs
from wherry.model.commands import Verb
from wherry.model.times import Duration, to_ms
from wherry.sync.link import SIGNAL_S
from wherry.sync.message import Message, Settlement
from wherry.sync.turns import Waiter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from wherry.conversation import Delivered
    from wherry.conversation.leased import Outcome
    from wherry.delivery import BaseMessage, Delivery
    from wherry.sync.link import Link


class Intake(Holding[Message]):
    """What a consumer has been delivered, and the threads that wait for it.

    Args:
        link: the connection.
        queue: the queue's name.
        credit: how many messages may be here, or in the user's hands, at a time.
        lease: how long a lease is to run, in seconds; None for as long as `max_lease`, or the queue's own.
        max_lease: how long a message may be held in the user's hands by extending its lease, in seconds; None for an
            hour.
        make: the type of its messages.

    Attributes:
        ended: why no more will come; None while more may.
        is_stopped: whether it was stopped by the user.
        look_at: when to look at its leases, on the monotonic clock in seconds.
    """

    def __init__(
        self,
        link: Link,
        queue: str,
        credit: int,
        lease: Duration | None,
        max_lease: Duration | None,
        make: type[Message],
    ) -> None:
        link.open()
        # While a single thread works on a message nothing extends its lease, so that is as long as it may be held.
        asked = max_lease if lease is None else lease
        longest = MAX_LEASE_S if max_lease is None else to_ms(max_lease) / 1000
        super().__init__(link.conversation, queue, credit, 0 if asked is None else to_ms(asked), longest, make.many)
        self.link = link
        self.ended: errors.WherryError | None = None
        self.is_stopped = False
        self.look_at = inf
        self._starting = threading.Lock()
        self._waiters: list[Waiter] = []
        self._drainers: list[Waiter] = []

    # Called by the user's threads.

    def attach(self) -> None:
        """Begins to consume, unless that is done."""
        with self._starting:
            if self.attached or self.is_stopped or self.ended is not None:
                return
            try:
                self.link.call(self._attach)
            except errors.RequestTimeout:
                self.link.drop(self)  # the broker may have attached it, or may still
                raise

    def next(self, until: float) -> Message | None:
        """The next message; None when no more will come, or none comes in time.

        Raises:
            WherryError: the broker has stopped the consumer, or the connection is gone.
        """
        self.link.glance()
        while True:
            with self.link.turns.lock:
                if self.buffer.make_some() and not self.is_stopped:
                    return self.buffer.made.popleft()
            if not self.more(1, until):
                return None

    def take_batch(self, n: int) -> list[Message]:
        """Up to `n` messages of those that are here."""
        with self.link.turns.lock:
            return [] if self.is_stopped else self.buffer.take(n)

    def more(self, n: int, until: float) -> bool:
        """Waits until `n` messages may be here; False when they will not be, or are not in time.

        Raises:
            WherryError: the broker has stopped the consumer, or the connection is gone.
        """
        if self.is_stopped:
            self.link.glance()  # for a STOP that has yet to be said
            return False
        if not self.attached and self.ended is None:
            self.attach()
        enough = self.link.linger(self._waiters, lambda: len(self.buffer) >= n or self._over, until)
        if self.ended is not None and not self.is_stopped:
            raise self.ended
        return enough and not self.is_stopped

    def detach(self) -> None:
        """Takes no more. Once this returns, all that was ever delivered is here."""
        if not self.attached or not self.link.is_open:
            return
        if not self.link.is_live:  # the broker has none of it, and it will not be attached again
            with self.link.turns.lock:
                self._detached()
            return
        try:
            self.link.call(self._detach)
        except (errors.NotFound, errors.Disconnected):
            return  # the broker has stopped it meanwhile, or is gone: nothing is left to stop
        except errors.RequestTimeout:
            self.link.drop(self)
            raise

    def stop(self) -> None:
        """Takes no more, and hands back what nobody has taken. A handler of a signal does not wait for that."""
        self.is_stopped = True
        if self.link.turns.inside or not self._can_lock():
            self.link.drop(self)
            return
        self.detach()
        if self.link.is_open:
            self.link.say(lambda _: self._hand_back())

    def wait_ended(self) -> None:
        """Returns when the consumer was stopped; raises what has stopped it, if not the user."""
        while not self.is_stopped:
            if self.ended is not None:
                raise self.ended
            self.link.linger(self._waiters, lambda: self.is_stopped or self.ended is not None, inf)

    def drain(self, until: float) -> None:
        """Waits until nothing is held any more, or the time is over, and hands back the rest unspent."""
        if not self.link.linger(self._drainers, lambda: not self.leases, until) and self.link.is_open:
            self.link.say(self.release_all)

    def _can_lock(self) -> bool:
        """Whether the lock can be had; else this is the handler of a signal that came while this thread held it."""
        got = self.link.turns.lock.acquire(timeout=SIGNAL_S)
        if got:
            self.link.turns.lock.release()
        return got

    # Called by messages.

    def settle(
        self, message: BaseMessage, verb: Verb, duration_ms: int | None, text: str, result: bytes | None = None
    ) -> Settlement:
        """Settles one message."""
        settlement = Settlement(self.link, SAID[verb], message)

        def what(until: float) -> None:
            self.link.check_own(self._conversation)
            self.settle_range(message.delivery, verb, message.offset, 1, settlement, until, duration_ms, text, result)

        self.link.say(what)
        return settlement

    def extend(
        self, message: BaseMessage, duration_ms: int | None, progress: int | None = None, note: str = ""
    ) -> Settlement:
        """Moves the deadline of one message's lease, and says how far the work has come."""
        settlement = Settlement(self.link, "extend", message)

        def what(until: float) -> None:
            self.link.check_own(self._conversation)
            now = self.link.now()
            self.look_at = min(self.look_at, self.prolong(message, duration_ms, settlement, now, until, progress, note))

        self.link.say(what)
        return settlement

    # Called under the lock.

    def ack_range(self, delivery: Delivery, first: int, count: int, outcome: Outcome) -> None:
        """Acknowledges messages of one delivery, next to each other."""
        self.link.check_own(self._conversation)
        self.settle_range(delivery, Verb.ACK, first, count, outcome, self.link.now() + self.link.timeout)

    def take(self, delivered: Delivered) -> None:
        """Messages came."""
        self.look_at = min(self.look_at, self.hold(delivered, self.link.now(), _now_ms()))
        self._arrived()

    def cancelled(self, ranges: Sequence[tuple[int, int, int]]) -> None:
        """Messages were cancelled."""
        self.drop_cancelled(ranges)

    def suspended(self) -> None:
        """The broker shuts down: hands back what nobody has taken, and goes on with the next one."""
        self.release_buffer()

    def leases_lost(self, parts: Sequence[tuple[Delivery, int, int]]) -> None:
        """Messages are held no longer."""
        self.lose(parts)

    def stopped(self, error: errors.WherryError) -> None:
        """No more will come: the broker has detached the consumer, or the connection is gone."""
        self.ended = error
        if self.link.is_open:
            self.release_buffer()
        self.buffer.clear()
        self.forget()
        self._arrived()

    def look(self, now: float) -> None:
        """Time has passed: looks at the leases."""
        look_at = self.expire(now, now + self.link.timeout if self.link.is_live else None)
        self.look_at = inf if look_at is None else look_at

    def abandon(self) -> None:
        """Stops without waiting for the broker. May be called again."""
        if not self.attached or not self.link.is_open:
            return
        if self.link.is_live:
            deadline = self.link.now() + self.link.timeout
            self._conversation.stop(self.number, Waiter(lambda _: self._detached()), deadline)
            self.release_buffer()
        else:
            self.release_buffer()
            self.forget()
            self._arrived()

    def release_buffer(self) -> None:
        """Hands back what nobody has taken, unspent."""
        messages = self.buffer.take_all()
        deadline = self.link.now() + self.link.timeout
        for delivery, first, count in runs(messages):
            self.settle_range(delivery, Verb.RELEASE, first, count, None, deadline)
        for message in messages:
            message.settled = "release"

    def emptied(self) -> None:
        """Nothing is held, and nothing more will come: nobody needs to look at it again."""
        self.link.intakes.pop(self.number, None)
        self.link.turns.resolve_all(self._drainers)

    @property
    def _over(self) -> bool:
        return self.is_stopped or self.ended is not None or not self.attached

    def _attach(self, waiter: Waiter, until: float) -> None:
        waiter.then = self._attach_answered
        self.consume(waiter, until)
        self.link.intakes[self.number] = self

    def _attach_answered(self, waiter: Waiter) -> None:
        if waiter.error is not None and not isinstance(waiter.error, errors.RequestTimeout):
            self.forget()
            self._arrived()

    def _detach(self, waiter: Waiter, until: float) -> None:
        waiter.then = lambda _: self._detached()
        self._conversation.stop(self.number, waiter, until)

    def _hand_back(self) -> None:
        self.release_buffer()
        self._arrived()
        self._conversation.ping()  # the thread that reads may be one of those who wait: the answer has it look up

    def _detached(self) -> None:
        if self.is_stopped and self.link.is_open:
            self.release_buffer()
        self.forget()
        self._arrived()

    def _arrived(self) -> None:
        self.link.turns.resolve_all(self._waiters)


class Consumer:
    """Messages of a queue, as they come.

    An iterator, which several threads may share; it ends when `stop` was called, by any thread or by the handler of a
    signal. As a context manager it stops at the end of the block. Dropping it (leaving its loop by `break`, say) stops
    it too. Messages that were delivered and that nobody has taken are handed back unspent.

    The leases of all that is here are extended in time while any thread is inside a call, those of messages in the
    user's hands until they were there for `max_lease`. While all threads work on messages nothing extends them: `lease`
    is how long a handler may take. A message whose lease has ended all the same is `message.lost`.
    """

    def __init__(self, intake: Intake, wait: float | None) -> None:
        self._intake = intake
        self._wait = inf if wait is None else wait

    def __iter__(self) -> Consumer:
        return self

    def __next__(self) -> Message:
        message = self._intake.next(time.monotonic() + self._wait)
        if message is None:
            raise StopIteration
        return message

    def batches(self, n: int, wait: float = 0.0) -> Iterator[list[Message]]:
        """Messages in lists of at most `n`, for work in bulk.

        Args:
            n: the longest list.
            wait: how long to wait for a list to fill once it has a message, in seconds.

        Yields:
            Lists of at least one message.
        """
        if n < 1:
            raise ValueError(f"a batch has at least 1 message, not {n}")
        intake = self._intake
        intake.link.glance()
        while intake.more(1, time.monotonic() + self._wait):
            until = time.monotonic() + wait
            while len(intake.buffer) < n and time.monotonic() < until and intake.more(n, until):
                pass  # something came, and not all of it
            batch = intake.take_batch(n)
            if batch:
                yield batch
            intake.link.glance()

    def wait_ended(self) -> None:
        """Returns when the consumer was stopped.

        Raises:
            WherryError: the broker has stopped the consumer, or the connection is gone.
        """
        self._intake.wait_ended()

    def stop(self, grace: Duration | None = None) -> None:
        """Takes no more messages; the iterator ends, and what nobody has taken is handed back unspent.

        The handler of a signal may call it, without a grace; then it does not wait for the broker.

        Args:
            grace: how long to wait until the messages in the user's hands are settled, in seconds, by other threads.
                Those that are not by then are handed back unspent, so that others may have them, and their settles
                raise `StaleDelivery`. When not given, this does not wait, and they stay leased.
        """
        self._intake.stop()
        if grace is not None:
            self._intake.drain(self._intake.link.now() + to_ms(grace) / 1000)

    def __enter__(self) -> Self:
        self._intake.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        if not self._intake.is_stopped:
            self._intake.is_stopped = True
            self._intake.link.drop(self._intake)


def _now_ms() -> int:
    return int(time.time() * 1000)
