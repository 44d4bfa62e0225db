"""The link: one socket under one conversation, and the threads that share it.

All that threads share is touched under `turns.lock`, which is held for the time of some bytecode and of a system call
that does not block. What is said is written at once. What comes is read by the threads that wait (`Turns`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from wherry import errors
from wherry.conversation import Conversation
from wherry.sync.stream import Stream
from wherry.sync.telling import tell
from wherry.sync.turns import Turns, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.address import Address
    from wherry.conversation.asks import Ask
    from wherry.sync.telling import Intake

T = TypeVar("T")
logger = logging.getLogger("wherry")

HEARTBEAT_S = 15.0
"""While somebody waits: after how much silence the broker is asked for a sign of life; after twice that it is gone."""
GLANCE_S = 0.005
"""How long a loop that finds its messages at hand may go on without looking at what else has come."""
CLOSE_S = 5.0
"""How long a closing connection may take to send what it still has to say."""
SIGNAL_S = 0.2
"""For how long the lock is never held: who does not get it in this time has been interrupted while holding it."""
_REFUSED_BEFORE = (errors.WherryError, TypeError, ValueError, OverflowError)
"""What the conversation raises when something cannot be said; nothing has changed then."""


class Link:
    """A connection to a broker.

    Args:
        address: where the broker is.
        token: what to show to it.
        name: what this client calls itself.
        timeout: how long a request may take when it does not say itself, in seconds.

    Attributes:
        conversation: what is said; another one in a process that was forked.
        turns: the threads that wait, and the lock.
        intakes: consumers by number, those too that take no more but hold messages still.
        welcomed: resolved when the broker has accepted the connection, or has not.
        idle: those who wait until nothing is unanswered.
    """

    def __init__(self, address: Address, token: str, name: str, timeout: float) -> None:
        self.timeout = timeout
        self._address = address
        self._token = token
        self._name = name
        self._begin()
        _links.add(self)

    def _begin(self) -> None:
        self.turns = Turns(self._read_turn)
        self.conversation = Conversation(self._token, self._name)
        self.intakes: dict[int, Intake] = {}
        self._stream: Stream | None = None
        self.welcomed = Waiter()
        self._opening = threading.Lock()
        self._opened = False
        self.idle: list[Waiter] = []
        self._dropped: deque[Intake] = deque()
        self._reports: deque[tuple[str, str, errors.WherryError]] = deque()
        self._midway = False
        self._looked_at = 0.0
        self._silent_s = 0.0  # for how long threads have waited since something came
        self._pinged = False

    # Connecting.

    def open(self) -> None:
        """Connects, unless that is done, and returns when the broker has accepted the connection.

        Raises:
            Disconnected: the broker cannot be reached, or has closed the connection.
            RequestTimeout: it did not answer in time.
            Unauthenticated: the token is missing or wrong.
        """
        with self._opening:
            if not self._opened:
                self._connect()
                self._opened = True

    def _connect(self) -> None:
        host, port, _ = self._address
        until = self.now() + self.timeout
        if self.conversation.ended is not None:  # of an attempt that failed
            self.conversation, self.welcomed = Conversation(self._token, self._name), Waiter()
        try:
            stream = Stream.dial(host, port, self.timeout)
        except TimeoutError as error:
            raise self._unanswered() from error
        except OSError as error:
            raise errors.Disconnected(f"no broker could be reached at {host}:{port}: {error}") from error
        with self.turns.lock:
            self._stream = stream
            self._send()
        try:
            self.turns.wait(self.welcomed, until)
        finally:
            if not self.welcomed.done:
                self.abort(self._unanswered())
        if self.welcomed.error is not None:
            raise self.welcomed.error

    def _unanswered(self) -> errors.RequestTimeout:
        text = f"no broker answered at {self._address.host}:{self._address.port} within {self.timeout:g} s"
        return errors.RequestTimeout(text, outcome_unknown=False)

    @property
    def is_open(self) -> bool:
        """Whether requests can be made."""
        return self.conversation.ended is None

    def now(self) -> float:
        """The time, in seconds of the monotonic clock."""
        return time.monotonic()

    def forked(self) -> None:
        """This is a child process now, and has but one thread: what its parent has is left to that."""
        ended, intakes, stream = self.conversation.ended, self.intakes, self._stream
        self._begin()
        if ended is not None:
            self.conversation.end(ended)
            self._opened = True
        for intake in intakes.values():
            intake.stopped(_of_parent("the consumer"))
        if stream is not None:
            stream.forsake()

    # Saying something.

    def check_open(self) -> None:
        """Raises what ended the conversation, if it has ended."""
        error = self.conversation.ended
        if error is not None:
            raise errors.Disconnected(str(error)) from error

    def check_own(self, conversation: Conversation) -> None:
        """Raises when something was delivered in another conversation than this process has."""
        if conversation is not self.conversation:
            raise _of_parent("the message")

    def say(self, what: Callable[[float], None]) -> None:
        """Says something, and waits for nothing but that it is written.

        Args:
            what: says it to the conversation; called under the lock, with the end of the time for an answer.
        """
        until = self.now() + self.timeout
        with self.turns.lock:
            self._speak(what, until)
        self._finish_writing(until)

    def call(self, what: Callable[[Waiter, float], None], timeout: float | None = None) -> Any:
        """Says something, and waits for its answer.

        Args:
            what: says it to the conversation; called under the lock, with who waits and the end of the time.
            timeout: how long the answer may take, in seconds; None for what is usual.

        Raises:
            WherryError: the broker refused, the connection was lost, or no answer came in time.
        """
        if not self._opened:
            self.open()
        waiter = Waiter()
        until = self.now() + (self.timeout if timeout is None else timeout)
        with self.turns.lock:
            self._speak(what, waiter, until)
        self._finish_writing(until)
        self.turns.wait(waiter, until)
        if not waiter.done:
            with self.turns.lock:
                self._look()  # it is over for all whose time is over
                self.turns.resolve(waiter, error=_no_answer())
        self._log_reports()
        if waiter.error is not None:
            raise waiter.error
        return waiter.value

    def ask(self, ask: Ask[T], timeout: float | None = None) -> T:
        """Makes a request and reads its reply.

        Args:
            ask: the request.
            timeout: how long the answer may take, in seconds; None for what is usual.

        Raises:
            WherryError: as for `call`, or as reading the reply says.
        """
        return ask.read(self.call(lambda waiter, until: self.conversation.request(ask.make, waiter, until), timeout))

    def drop(self, intake: Intake) -> None:
        """Stops a consumer without waiting: now, or when a thread comes by; for destructors and handlers of signals."""
        if self.turns.lock.acquire(timeout=SIGNAL_S):
            try:
                if self.is_open:
                    self._speak(intake.abandon)
            finally:
                self.turns.lock.release()
        else:
            self._dropped.append(intake)

    def close(self) -> None:
        """Says GOODBYE, and closes the socket."""
        with self.turns.lock:
            if self.is_open and self._stream is not None:
                self._speak(self.conversation.close)
        self._finish_writing(self.now() + CLOSE_S)
        self.abort(errors.Disconnected("the connection to the broker was closed"))
        self._opened = True

    def abort(self, error: errors.WherryError) -> None:
        """Closes the socket, whatever waits to be written."""
        with self.turns.lock:
            self._lose(error)

    # Waiting for something else than an answer.

    def wait(self, waiters: list[Waiter], true: Callable[[], bool], timeout: float | None = None) -> None:
        """Waits until something is so.

        Args:
            waiters: where those stand who wait for it; whoever makes it so resolves them, under the lock.
            true: whether it is so.
            timeout: how long to wait, in seconds; None for as long as a request may take.

        Raises:
            RequestTimeout: it was not so in time.
        """
        if not self.linger(waiters, true, self.now() + (self.timeout if timeout is None else timeout)):
            raise _no_answer()

    def linger(self, waiters: list[Waiter], true: Callable[[], bool], until: float) -> bool:
        """Waits until something is so, or the time is over; returns whether it was so. See `wait`."""
        waiter = Waiter()
        with self.turns.lock:
            if true():
                return True
            waiters.append(waiter)
        try:
            self.turns.wait(waiter, until)
        finally:
            with self.turns.lock:
                if waiter in waiters:
                    waiters.remove(waiter)
        self._log_reports()
        return waiter.done or true()

    def settled(self) -> None:
        """Returns when nothing is unanswered any more, or the time for a request is over."""
        if self._stream is not None:
            self.linger(self.idle, lambda: not self.conversation.unanswered, self.now() + self.timeout)

    def glance(self) -> None:
        """Reads what has come, and looks at what is due, when that was not done lately; does not wait."""
        if self.now() - self._looked_at > GLANCE_S or self._dropped:
            self.turns.glance()
            self._log_reports()

    def report(self, text: str, what: str, error: errors.WherryError) -> None:
        """Has something logged once the lock is free, for those who read the log may do anything."""
        self._reports.append((text, what, error))

    def _log_reports(self) -> None:
        while self._reports:
            logger.warning(*self._reports.popleft())

    # Inside, without the lock.

    def _finish_writing(self, until: float) -> None:
        """Returns when all is written, or the time is over. Reads as well: else both ends could wait for each other."""
        while (stream := self._stream) is not None and stream.unsent and self.now() < until:
            self.turns.step(lambda reads: self._write_turn(until - self.now(), reads=reads))

    def _write_turn(self, timeout: float, *, reads: bool) -> None:
        stream = self._wait(timeout, read=reads, write=True)
        with self.turns.lock:
            if stream is not None and reads:
                self._read(stream)
            self._send()

    def _read_turn(self, timeout: float) -> None:
        stream = self._wait(timeout, read=True, write=False)
        with self.turns.lock:
            if stream is not None:
                self._read(stream)
            self._send()

    def _wait(self, timeout: float, *, read: bool, write: bool) -> Stream | None:
        with self.turns.lock:
            timeout = min(timeout, self._look() - self.now())
            stream = self._stream
            if stream is None:
                return None
            stream.enter()
        began = self.now()
        try:
            stream.wait(timeout, read=read, write=write or stream.unsent)
        finally:
            with self.turns.lock:
                stream.leave()
                if read:
                    self._silent_s += self.now() - began
        return stream

    # Inside, under the lock.

    def _speak(self, what: Callable[..., None], *arguments: Any) -> None:
        self._check_whole()
        self.check_open()
        self._midway = True
        try:
            what(*arguments)
        except _REFUSED_BEFORE:
            self._midway = False
            raise
        self._midway = False
        self._send()

    def _check_whole(self) -> None:
        """Ends a conversation in which a thread was interrupted midway, by Ctrl-C say: it may have lost something."""
        if self._midway:
            self._midway = False
            self._lose(errors.Disconnected("a thread was interrupted while it used the connection to the broker"))

    def _send(self) -> None:
        """Writes what is to be said, as far as there is room."""
        stream = self._stream
        if stream is None:
            return
        self._midway = True
        try:
            stream.write(self.conversation.data_to_send())
        except OSError as error:
            self._lose(_gone(error))
        self._midway = False

    def _read(self, stream: Stream) -> None:
        """Reads what is there, and tells those whom it concerns."""
        self._check_whole()
        if stream is not self._stream:
            return
        reader = self.conversation.reader
        try:
            size = stream.read(reader.get_buffer())
        except OSError as error:
            self._lose(_gone(error))
            return
        if size is None:
            return
        if not size:
            self._lose(_gone(None))
            return
        self._silent_s, self._pinged = 0.0, False
        self._midway = True
        tell(self, self.conversation.receive(reader.received(size)))
        self._midway = False
        if self.idle and not self.conversation.unanswered:
            self.turns.resolve_all(self.idle)

    def _look(self) -> float:
        """Does what is due; returns when there is something to do again."""
        self._check_whole()
        now = self.now()
        self._midway = True
        while self._dropped:
            self._dropped.popleft().abandon()
        tell(self, self.conversation.expire(now))
        due = []
        for intake in list(self.intakes.values()):
            if intake.look_at <= now:
                intake.look(now)
            due.append(intake.look_at)
        deadline = self.conversation.next_deadline()
        if deadline is not None:
            due.append(deadline)
        due.append(now + self._beat())
        self._looked_at = now
        self._midway = False
        self._send()
        return min(due)

    def _beat(self) -> float:
        """Asks the broker for a sign of life when it is silent; returns in how many seconds to look again."""
        if self._silent_s >= 2 * HEARTBEAT_S:
            self._lose(errors.Disconnected(f"the broker was silent for {2 * HEARTBEAT_S:g} s"))
        elif self._silent_s >= HEARTBEAT_S and not self._pinged:
            self._pinged = True
            self.conversation.ping()
        return (2 if self._pinged else 1) * HEARTBEAT_S - self._silent_s

    def _lose(self, error: errors.WherryError) -> None:
        tell(self, self.conversation.end(error))
        self.end_stream()

    def end_stream(self) -> None:
        """Closes the socket; called under the lock."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.end()


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _forked() -> None:
    for link in list(_links):
        link.forked()


os.register_at_fork(after_in_child=_forked)


def _gone(cause: OSError | None) -> errors.Disconnected:
    error = errors.Disconnected(f"the connection to the broker is gone: {cause or 'it was closed'}")
    error.__cause__ = cause
    return error


def _no_answer() -> errors.RequestTimeout:
    return errors.RequestTimeout("the broker did not answer in time; the outcome is unknown", outcome_unknown=True)


def _of_parent(what: str) -> errors.Disconnected:
    return errors.Disconnected(f"this process was forked: {what} belongs to its parent")
