"""What carries a conversation: one socket after the other, read and written by the threads that share it.

All that threads share is touched under `turns.lock`, which is held for the time of some bytecode and of a system call
that does not block. What is said is written at once. What comes is read by the threads that wait (`Turns`). A lost
socket is replaced by whoever would read, and the conversation goes on: who waits notices nothing but the time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from wherry import errors
from wherry.sync.reconnecting import Itinerary
from wherry.sync.stream import Stream
from wherry.sync.telling import tell
from wherry.sync.turns import Turns, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry.address import Address
    from wherry.conversation import Conversation
    from wherry.sync.telling import Intake

logger = logging.getLogger("wherry")

CONNECTING, CONNECTED, RECONNECTING, CLOSED = "connecting", "connected", "reconnecting", "closed"
HEARTBEAT_S = 15.0
"""While somebody waits: after how much silence the broker is asked for a sign of life; after twice that it is gone."""
ATTEMPT_S = 5.0
"""How long one attempt to connect again may take; the first connection has the caller's timeout."""
ATTEMPT_S_MIN = 0.5
"""How long it may take though the thread that makes it has less time."""
NAP_S = 0.05
"""How long a thread sleeps at a time before the next attempt; what it waits for may come from another thread."""
FINAL = (errors.Unauthenticated, errors.Forbidden, errors.ProtocolError)
"""What trying again does not change."""


class Carrier:
    """The lower half of a `Link`: its sockets, and what it was told.

    Args:
        addresses: where brokers are.
        converse: begins a conversation.
        timeout: how long a request may take when it does not say itself, in seconds.
        on_status: called with each new status, without the lock.

    Attributes:
        conversation: what is said; another one in a process that was forked.
        status: `connecting`, `connected`, `reconnecting` or `closed`.
        turns: the threads that wait, and the lock.
        intakes: consumers by number, those too that take no more but hold messages still.
        welcomed: resolved when the broker has accepted the connection, or has not.
        idle: those who wait until nothing is unanswered.
        inbox: where replies to requests come; None before the first request.
        inbox_lock: held while it is made.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        converse: Callable[[], Conversation],
        timeout: float,
        on_status: Callable[[str], None] | None = None,
    ) -> None:
        self.timeout = timeout
        self._addresses = addresses
        self._converse = converse
        self._on_status = on_status
        self._begin()
        _carriers.add(self)

    def _begin(self) -> None:
        self.turns = Turns(self._read_turn, self._run_later)
        self.inbox: Intake | None = None
        self.inbox_lock = threading.Lock()
        self.conversation = self._converse()
        self.status = CONNECTING
        self.intakes: dict[int, Intake] = {}
        self._stream: Stream | None = None
        self.welcomed = Waiter()
        self._opening = threading.Lock()
        self._opened = False
        self._itinerary = Itinerary(self._addresses)
        self._attempt_until = 0.0
        self.idle: list[Waiter] = []
        self._dropped: deque[Intake] = deque()
        self._later: deque[Callable[[], None]] = deque()
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
        """One round over the addresses; of several, the last one's error counts."""
        for left in reversed(range(len(self._itinerary))):
            try:
                self._connect_to(self._itinerary.address)
            except FINAL:
                raise
            except errors.WherryError:
                self._itinerary.failed(self.now())
                if not left:
                    raise
            else:
                return

    def _connect_to(self, address: Address) -> None:
        until = self.now() + self.timeout
        if self.conversation.ended is not None:  # of an attempt that failed
            self.conversation, self.welcomed, self.status = self._converse(), Waiter(), CONNECTING
        try:
            stream = Stream.dial(address.host, address.port, self.timeout)
        except TimeoutError as error:
            raise _unanswered(address, self.timeout) from error
        except OSError as error:
            raise errors.Disconnected(
                f"no broker could be reached at {address.host}:{address.port}: {error}"
            ) from error
        with self.turns.lock:
            self._use(stream, until)
        try:
            self.turns.wait(self.welcomed, until)
        finally:
            if not self.welcomed.done:
                self.abort(_unanswered(address, self.timeout))
        self._run_later()
        if self.welcomed.error is not None:
            raise self.welcomed.error

    def _connect_again(self, timeout: float) -> None:
        """Makes an attempt to get another socket if it is time to; else sleeps for a while. Without the lock."""
        pause = self._itinerary.next_at - self.now()
        if pause > 0:
            time.sleep(min(pause, timeout, NAP_S))
            return
        address = self._itinerary.address
        try:
            stream = Stream.dial(address.host, address.port, max(ATTEMPT_S_MIN, min(ATTEMPT_S, timeout)))
        except OSError:
            with self.turns.lock:
                self._itinerary.failed(self.now())
            return
        with self.turns.lock:
            if self.status == RECONNECTING:
                self.conversation.reopen()
                self._use(stream, self.now() + ATTEMPT_S)
            else:
                stream.end()

    def _use(self, stream: Stream, until: float) -> None:
        """Says HELLO on a new socket, which has its time for the answer."""
        self._stream = stream
        self._attempt_until = until
        self._silent_s, self._pinged = 0.0, False
        self._send()

    def abort(self, error: errors.WherryError) -> None:
        """Ends the conversation and closes the socket, whatever waits to be written."""
        with self.turns.lock:
            tell(self, self.conversation.end(error))
            self.end_stream()
        self._run_later()

    # What others ask of it.

    @property
    def is_open(self) -> bool:
        """Whether requests can be made."""
        return self.conversation.ended is None

    @property
    def is_live(self) -> bool:
        """Whether there is a connection."""
        return self.status == CONNECTED and self.conversation.is_live

    def now(self) -> float:
        """The time, in seconds of the monotonic clock."""
        return time.monotonic()

    def check_open(self) -> None:
        """Raises what ended the conversation, if it has ended."""
        error = self.conversation.ended
        if error is not None:
            raise errors.Disconnected(str(error)) from error

    def forked(self) -> None:
        """This is a child process now, and has but one thread: what its parent has is left to that."""
        ended, intakes, stream = self.conversation.ended, self.intakes, self._stream
        self._begin()
        if ended is not None:
            self.conversation.end(ended)
            self.status, self._opened = CLOSED, True
        for intake in intakes.values():
            intake.stopped(of_parent("the consumer"))
        if stream is not None:
            stream.forsake()

    # Called under the lock.

    def report(self, text: str, what: str, error: errors.WherryError) -> None:
        """Has something logged once the lock is free, for those who read the log may do anything."""
        self._later.append(partial(logger.warning, text, what, error))

    def set_status(self, status: str) -> None:
        """The status is another one."""
        if self.status in {status, CLOSED}:
            return
        self.status = status
        if status == CONNECTED:
            self._itinerary.connected(self.now())
        if self._on_status is not None:
            self._later.append(partial(self._on_status, status))

    def interrupted(self, error: errors.WherryError) -> None:
        """The connection is lost, and the conversation waits for another one."""
        self._later.append(partial(logger.info, "%s; connecting again", error))
        self._itinerary.lost(self.now())
        self.set_status(RECONNECTING)
        self.end_stream()

    def end_stream(self) -> None:
        """Closes the socket."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.end()

    # Inside, without the lock.

    def _run_later(self) -> None:
        while self._later:
            self._later.popleft()()

    def _read_turn(self, timeout: float) -> bool:
        stream = self._wait(timeout, read=True, write=False)
        if stream is None:
            if self.status == RECONNECTING:
                self._connect_again(timeout)
        else:
            with self.turns.lock:
                self._read(stream)
                self._send()
        return bool(self._later)

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

    def _check_whole(self) -> None:
        """Ends a conversation in which a thread was interrupted midway, by Ctrl-C say: it may have lost something."""
        if self._midway:
            self._midway = False
            error = errors.Disconnected("a thread was interrupted while it used the connection to the broker")
            tell(self, self.conversation.end(error))
            self.end_stream()

    def _send(self) -> None:
        """Writes what is to be said, as far as there is room."""
        stream = self._stream
        if stream is None:
            self.conversation.gather()
            return
        if not stream.unsent and not self.conversation.has_more_to_say:
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
        if self._stream is not None and self.status == RECONNECTING:
            due.append(self._attempt_until)
            if now >= self._attempt_until:
                self._lose(no_answer())
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
        """The socket is gone, or is of no use; the conversation goes on without, if it can."""
        if self.status == RECONNECTING:  # an attempt to connect again has failed
            self._itinerary.failed(self.now())
        is_last = self.status == CONNECTING
        tell(self, self.conversation.end(error) if is_last else self.conversation.lose(error))
        self.end_stream()


_carriers: weakref.WeakSet[Carrier] = weakref.WeakSet()


def _forked() -> None:
    for carrier in list(_carriers):
        carrier.forked()


os.register_at_fork(after_in_child=_forked)


def _gone(cause: OSError | None) -> errors.Disconnected:
    error = errors.Disconnected(f"the connection to the broker is gone: {cause or 'it was closed'}")
    error.__cause__ = cause
    return error


def _unanswered(address: Address, timeout: float) -> errors.RequestTimeout:
    text = f"no broker answered at {address.host}:{address.port} within {timeout:g} s"
    return errors.RequestTimeout(text, outcome_unknown=False)


def no_answer() -> errors.RequestTimeout:
    """The error of a request that was not answered in time."""
    return errors.RequestTimeout("the broker did not answer in time; the outcome is unknown", outcome_unknown=True)


def of_parent(what: str) -> errors.Disconnected:
    """The error of using, in a process that was forked, what its parent has."""
    return errors.Disconnected(f"this process was forked: {what} belongs to its parent")
