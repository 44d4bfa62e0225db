"""The link: how the parts of the client use a connection: saying something, and waiting for what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from wherry import errors
from wherry.sync.carrier import Carrier, no_answer, of_parent
from wherry.sync.turns import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.conversation import Conversation
    from wherry.conversation.asks import Ask
    from wherry.conversation.pending import Awaited
    from wherry.sync.telling import Intake

T = TypeVar("T")

GLANCE_S = 0.005
"""How long a loop that finds its messages at hand may go on without looking at what else has come."""
CLOSE_S = 5.0
"""How long a closing connection may take to send what it still has to say."""
AWAY_S = 2.0
"""How long an end waits for what is not answered, while there is no broker that could answer."""
SIGNAL_S = 0.2
"""For how long the lock is never held: who does not get it in this time has been interrupted while holding it."""
_REFUSED_BEFORE = (errors.WherryError, TypeError, ValueError, OverflowError)
"""What the conversation raises when something cannot be said; nothing has changed then."""


class Link(Carrier):
    """A connection to a broker, as the parts of the client use it."""

    # Saying something.

    def check_own(self, conversation: Conversation) -> None:
        """Raises when something was delivered in another conversation than this process has."""
        if conversation is not self.conversation:
            raise of_parent("the message")

    def say(self, what: Callable[[float], None]) -> None:
        """Says something, and waits for nothing but that it is written.

        Args:
            what: says it to the conversation; called under the lock, with the end of the time for an answer.
        """
        until = self.now() + self.timeout
        with self.turns.lock:
            self._speak(what, until)
        self._finish_writing(until)

    def call(self, what: Callable[[Waiter, float], object], timeout: float | None = None) -> Any:
        """Says something, and waits for its answer.

        Args:
            what: says it to the conversation; called under the lock, with who waits and the end of the time.
            timeout: how long the answer may take, in seconds; None for what is usual.

        Raises:
            WherryError: the broker refused, the connection was lost, or no answer came in time.
        """
        return self._answer(what, timeout, lambda _: None)

    def inquire(self, what: Callable[[Waiter, float], int | Awaited], timeout: float | None = None) -> Any:
        """The same for a question: when the thread that waits is interrupted, by Ctrl-C say, nothing waits for it.

        Args:
            what: as for `call`; returns what the conversation's `give_up` takes.
            timeout: how long the answer may take, in seconds; None for what is usual.

        Raises:
            WherryError: the broker refused, the connection was lost, or no answer came in time.
        """
        return self._answer(what, timeout, self._give_up)

    def ask(self, ask: Ask[T], timeout: float | None = None) -> T:
        """Makes a request and reads its reply.

        Args:
            ask: the request.
            timeout: how long the answer may take, in seconds; None for what is usual.

        Raises:
            WherryError: as for `call`, or as reading the reply says.
        """
        return ask.read(self.inquire(lambda waiter, until: self.conversation.request(ask.make, waiter, until), timeout))

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
            if self.is_open and self.is_live:
                self._speak(self.conversation.close)
        self._finish_writing(self.now() + CLOSE_S)
        self.abort(errors.Disconnected("the connection to the broker was closed"))
        self._opened = True

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
            raise no_answer()

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
        self._run_later()
        return waiter.done or true()

    def settled(self) -> None:
        """Returns when nothing is unanswered any more, or the time is over: less without a broker."""
        if self.is_open and self._opened:
            timeout = self.timeout if self.is_live else min(AWAY_S, self.timeout)
            self.linger(self.idle, lambda: not self.conversation.unanswered, self.now() + timeout)

    def glance(self) -> None:
        """Reads what has come, and looks at what is due, when that was not done lately; does not wait."""
        if self.now() - self._looked_at > GLANCE_S or self._dropped:
            self.turns.glance()
            self._run_later()

    # Inside.

    def _answer(self, what: Callable[[Waiter, float], T], timeout: float | None, give_up: Callable[[T], None]) -> Any:
        if not self._opened:
            self.open()
        waiter = Waiter()
        until = self.now() + (self.timeout if timeout is None else timeout)
        with self.turns.lock:
            asked = self._speak(what, waiter, until)
        try:
            self._finish_writing(until)
            self.turns.wait(waiter, until)
        finally:
            if not waiter.done:  # the time is over, or the thread was interrupted
                with self.turns.lock:
                    self._look()  # it is over for all whose time is over
                    give_up(asked)
                    self.turns.resolve(waiter, error=no_answer())
        self._run_later()
        if waiter.error is not None:
            raise waiter.error
        return waiter.value

    def _give_up(self, asked: int | Awaited) -> None:
        self.conversation.give_up(asked)  # the one that is current now: to connect may have begun another

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

    def _speak(self, what: Callable[..., T], *arguments: Any) -> T:
        self._check_whole()
        self.check_open()
        self._midway = True
        try:
            said = what(*arguments)
        except _REFUSED_BEFORE:
            self._midway = False
            raise
        self._midway = False
        self._send()
        return said
