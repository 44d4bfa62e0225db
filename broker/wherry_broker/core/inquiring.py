"""Inquiring: how one message stands, or how it ended, now or once it has."""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, Any

from wherry.model import commands, replies
from wherry.model.fields import BATCH_MESSAGES_MAX, HEADER_BYTES_MAX
from wherry_broker.core import decide, records, tracking, why
from wherry_broker.core.batch import DEAD, DELAYED, LEASED, READY, STATE_NAMES
from wherry_broker.core.lookups import LOOK_BYTES
from wherry_broker.core.outcomes import Outcomes, Wait, results_between
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.storing import FETCH_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.model.fields import Range, UnresultedRow
    from wherry_broker.core.answers import Answers
    from wherry_broker.core.awaiting import Awaiting
    from wherry_broker.core.batch import Batch, Span
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.lookups import Lookups
    from wherry_broker.core.outcomes import Kept
    from wherry_broker.core.queue import Queue

SECOND_MS = 1_000
REQUEST_MAX = 0xFFFF_FFFF
LENGTH_BYTES = 4
UNRESULTED_BYTES = 32
"""What a row takes at most that has no texts but a state."""
RESULTS_HEADER_BYTES_MAX = HEADER_BYTES_MAX - 64
Inquiry = commands.Status | commands.Await
"""Asks of one message: how it stands, or how it ends."""
SETTLED_HEAD = b'{"state":"settled"'
"""How the outcome of a message begins that was settled."""


class Inquiring:
    """Answers who asks about messages.

    Args:
        ledger: the durable state.
        answers: where answers go.
        lookups: where a command waits for bytes that the log has.
        awaiting: keeps those who wait for an end.
    """

    def __init__(self, ledger: Ledger, answers: Answers, lookups: Lookups, awaiting: Awaiting) -> None:
        self._ledger = ledger
        self._state = ledger.state
        self._answers = answers
        self._lookups = lookups
        self._awaiting = awaiting

    def ends(self, session: Session, command: commands.Await, now_ms: int) -> None:
        """Tells how neighbours end, of each on its own.

        Raises:
            Refusal: invalid, they are too many, or their requests have no numbers.
        """
        request, name, first, total, wait_ms = command
        end = first + total
        if total > BATCH_MESSAGES_MAX or request + total - 1 > REQUEST_MAX:
            raise Refusal("invalid", f"{total} requests from {request} on are too many", queue=name)
        queue = self._state.names.get(name)
        position = first
        for span in list(queue.spans(first, end)) if queue is not None and wait_ms else ():
            low, high = max(span.low, first), min(span.high, end)
            if high - low > 1 and span.batch.envelope.tracked and span.state != DEAD:  # all of them at once
                self._each(session, command, range(position, low), now_ms)
                position = low if self._is_refused(session, command, span, (low, high), now_ms) else high
        self._each(session, command, range(position, end), now_ms)

    def status(self, session: Session, command: Inquiry, now_ms: int) -> None:
        """Tells how a message stands; of a tracked one, if asked, once it has ended."""
        queue = self._state.names.get(command.queue)
        span = queue.span_at(command.offset) if queue is not None else None
        if queue is not None and span is not None:
            if command.wait_ms and span.state != DEAD:
                self._wait(session, command, span, (command.offset, command.offset + 1), now_ms)
            else:
                self._lookups.count(session, LOOK_BYTES)
                reply = replies.Told(command.request, status_of(queue, span, command.offset, now_ms))
                self._answers.say(session, reply, queue.mark)
            return
        outcome = tracking.outcome_of(self._state, command.queue, command.offset)
        if outcome is None:
            raise unknown(command.queue, command.offset)
        if self._lookups.has_bytes(session, command, [outcome.batch]):
            self._lookups.count(session, LOOK_BYTES)
            session.answered_bytes += outcome.size
            self._answers.say(session, _ended(command, outcome), outcome.batch.queue.mark)

    def results(self, session: Session, command: commands.ReadResults, _now_ms: int) -> None:
        """Tells the results of messages, as many as fit into an answer."""
        queue = self._state.names.get(command.queue)
        decide.check_ranges(command.queue, command.ranges)
        page, mark = Page(), queue.mark if queue is not None else 0
        for offset in chain.from_iterable(range(first, first + count) for first, count in command.ranges):
            outcome = tracking.outcome_of(self._state, command.queue, offset)
            if outcome is None:
                span = queue.span_at(offset) if queue is not None else None
                fits = page.lack("" if span is None else STATE_NAMES[span.state])
            else:
                mark = max(mark, outcome.batch.queue.mark)
                fits = page.add(outcome)
            if not fits:
                break
        if self._lookups.has_bytes(session, command, page.absent):
            self._lookups.count(session, LOOK_BYTES)
            reply = page.reply(command.request)
            session.answered_bytes += len(reply.block) + LENGTH_BYTES * reply.answered
            self._answers.say(session, reply, mark)

    def _each(self, session: Session, command: commands.Await, offsets: Iterable[int], now_ms: int) -> None:
        """Tells how some of the messages stand that an AWAIT names."""
        for offset in offsets:
            one = commands.Await(command.request + offset - command.offset, command.queue, offset, 1, command.wait_ms)
            try:
                self.status(session, one, now_ms)
            except Refusal as refusal:
                self._answers.refuse(session, one, refusal)

    def _is_refused(self, session: Session, command: commands.Await, span: Span, part: Range, now_ms: int) -> bool:
        """Whether it cannot be waited for some messages all at once; otherwise it is."""
        try:
            self._wait(session, command, span, part, now_ms)
        except Refusal:
            return True  # of as many as there is room for it can be, and that of each of the others is said
        return False

    def _wait(self, session: Session, command: Inquiry, span: Span, part: Range, now_ms: int) -> None:
        """Waits for the ends of the messages [low, high) of a span.

        Raises:
            Refusal: invalid, they are not tracked; unavailable, the session waits for too much, or was answered much.
        """
        low, high = part
        queue = span.batch.queue
        if not span.batch.envelope.tracked:
            text = f"message {command.queue}/{command.offset} is not tracked: nobody will know how it ended"
            raise Refusal("invalid", text, queue=command.queue)
        self._lookups.count(session, LOOK_BYTES * (high - low))
        durability = queue.options.durability
        self._ledger.apply(tracking.store_facts(self._state, durability))
        store = self._state.names[tracking.store_name(durability)]
        assert isinstance(store, Outcomes)
        request = command.request + low - command.offset
        results_only = type(command) is commands.Await
        wait = Wait(session, request, queue.name, low, high, store, results_only=results_only)
        self._awaiting.wait(wait, now_ms + command.wait_ms)


class Page:
    """The results of as many messages as one answer takes, at least one.

    Attributes:
        absent: the outcomes whose bytes are not in memory.
    """

    def __init__(self) -> None:
        self.absent: list[Batch] = []
        self._found: list[Kept | str] = []
        self._room_bytes = FETCH_BYTES_MAX
        self._header_bytes = RESULTS_HEADER_BYTES_MAX

    def add(self, outcome: Kept) -> bool:
        """Takes how a message ended; False when it does not fit."""
        data = outcome.data
        if data is None:
            self.absent.append(outcome.batch)
        is_long = data is None or not is_settled(data)
        return self._take(outcome, outcome.size, tracking.HEAD_BYTES_MAX if is_long else 0)

    def lack(self, state: str) -> bool:
        """Takes that a message has not ended, and is in a state; "" when nothing is known of it."""
        return self._take(state, 0, UNRESULTED_BYTES)

    def _take(self, found: Kept | str, size: int, header_bytes: int) -> bool:
        self._room_bytes -= size
        self._header_bytes -= LENGTH_BYTES + header_bytes
        if self._found and min(self._room_bytes, self._header_bytes) < 0:
            return False
        self._found.append(found)
        return True

    def reply(self, request: int) -> replies.Results:
        """The answer; all bytes must be in memory."""
        results: list[bytes] = []
        unresulted: list[UnresultedRow] = []
        for position, found in enumerate(self._found):
            state, reason, error, result = _came_of(found)
            results.append(result)
            if state != records.SETTLED:
                unresulted.append((position, state, reason, error))
        lengths = struct.pack(f">{len(results)}I", *map(len, results))
        return replies.Results(request, len(results), lengths, tuple(unresulted), b"".join(results))


def _came_of(found: Kept | str) -> tuple[str, str, str, bytes]:
    """(state, reason, error, result) of a message, from its outcome, or from the state that it is in."""
    if isinstance(found, str):
        return found, "", "", b""
    data = found.data
    assert data is not None
    if is_settled(data):  # there may be many: what is not asked for is not read
        return records.SETTLED, "", "", data.partition(b"\n")[2]
    status, _ = tracking.read_outcome(data)
    return status["state"], status.get("reason", ""), status.get("error", ""), b""


def unknown(queue: str, offset: int) -> Refusal:
    """The refusal to tell of a message that nobody knows, or no longer."""
    text = f"there is no message {queue}/{offset}, and it is not remembered how it ended"
    return Refusal("not_found", text, queue=queue)


def is_settled(outcome: bytes) -> bool:
    """Whether a message was settled, by the bytes that remember how it ended."""
    return outcome.startswith(SETTLED_HEAD)


def _ended(command: Inquiry, outcome: Kept) -> replies.Told | replies.Returned:
    batch, place = outcome
    data = outcome.data
    assert data is not None
    if type(command) is commands.Await and is_settled(data):
        return replies.Returned(((command.request, 1),), *results_between(batch, place, place + 1))
    return told(command.request, outcome)


def told(request: int, outcome: Kept) -> replies.Told:
    """What is told of a message that has ended; the bytes that remember how must be in memory."""
    data = outcome.data
    assert data is not None
    status, result = tracking.read_outcome(data)
    return replies.Told(request, {**status, "tracked": True, "why": why.ended(status)}, result)


def status_of(queue: Queue, span: Span, offset: int, now_ms: int) -> dict[str, Any]:
    """How a message stands that its queue holds: what TOLD says of it, by name."""
    envelope = span.batch.envelope
    status: dict[str, Any] = {
        "state": STATE_NAMES[span.state],
        "tracked": envelope.tracked,
        "attempt": span.attempt + (span.state == LEASED),
        "published_at_ms": envelope.published_at_ms,
        "expires_at_ms": envelope.expires_at_ms,
        "why": why.why(queue, span, offset, now_ms),
        "history": tracking.history_of(span) if envelope.tracked else (),
    }
    if span.failure is not None:
        reason, error, at_ms = span.failure
        status |= {"reason": reason, "error": error, "failed_at_ms": at_ms}
    if span.state in (DELAYED, LEASED):
        status["due_ms"] = span.due_ms
    if span.state == LEASED:
        status |= _lease(span)
    if span.state == READY:
        status |= _place(queue, span, offset, now_ms)
    return status


def _lease(span: Span) -> dict[str, Any]:
    progress, note = span.progress or (None, "")
    worker = span.consumer.session.name if span.consumer is not None else ""
    return {
        "leased_by": worker,
        "leased_at_ms": tracking.leased_at_ms(span),
        "progress": progress,
        "note": note,
    }


def _place(queue: Queue, span: Span, offset: int, now_ms: int) -> dict[str, Any]:
    place = why.position(queue, span, offset)
    rate = queue.settled.per_second(now_ms)
    # As slow a rate as there may be after an hour of nothing says nothing.
    starts_in_ms = round(SECOND_MS * place.before / rate) if rate > 1 / SECOND_MS else None
    return {"position": place.before, "position_is_exact": place.is_exact, "starts_in_ms": starts_in_ms}
