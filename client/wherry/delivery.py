"""What a DELIVER brings: deliveries, and the messages in them. Pure.

A `Delivery` is one span: messages that share an attempt, a lease and an envelope. A message holds its delivery and
its own bytes; headers are unpacked when they are first looked at.
"""

from __future__ import annotations

import json
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry.model.names import message_id
from wherry.model.times import from_moment_ms
from wherry.wire.messages import NO_HEADERS, unpack_lengths, unpack_message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from wherry.model.fields import DetailRow, SpanRow

_NO_HEADERS = NO_HEADERS[0]


class Token(NamedTuple):
    """A fencing token: of two deliveries of a message, the later one has the greater token."""

    epoch: int
    attempt: int


class Delivery:
    """One span, as it was delivered.

    Attributes:
        queue: the name of the queue.
        first: the offset of its first message.
        count: how many messages it has.
        attempt: which delivery of these messages it is; with `epoch`, the fencing token.
        released: how many earlier ones were handed back unworked.
        deadline: when its lease ends, on the client's monotonic clock in seconds.
        deadline_ms: the same, in milliseconds since 1970.
        open: how many of its messages the client has not settled yet; 0 once the lease has run out.
        cancelled: the ranges [low, high) of its messages that were cancelled.
    """

    __slots__ = (
        "attempt",
        "cancelled",
        "count",
        "deadline",
        "deadline_ms",
        "epoch",
        "first",
        "key",
        "open",
        "priority",
        "published_at_ms",
        "queue",
        "released",
    )

    def __init__(self, queue: str, epoch: int, row: SpanRow) -> None:
        self.queue = queue
        self.epoch = epoch
        self.first, self.count, self.attempt, self.released, self.published_at_ms, self.priority, self.key = row[:7]
        self.deadline = 0.0
        self.deadline_ms = 0
        self.open = self.count
        self.cancelled: tuple[tuple[int, int], ...] = ()


class BaseMessage:
    """One message. Read-only; the clients add the verbs that settle it.

    Attributes:
        delivery: the span that it came in.
        offset: its place in its queue.
        body: its bytes.
        settled: the verb that settled it; "" while it is not.
    """

    __slots__ = ("_headers", "_packed", "body", "delivery", "offset", "settled")

    def __init__(self, delivery: Delivery, offset: int, body: bytes, packed: bytes) -> None:
        self.delivery = delivery
        self.offset = offset
        self.body = body
        self.settled = ""
        self._packed = packed
        self._headers: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Message {self.id} attempt {self.attempt}, {len(self.body)} bytes>"

    @property
    def headers(self) -> dict[str, Any]:
        """Its headers.

        Raises:
            ValueError: it was published without any, not even an empty map; its body is all of it.
        """
        if self._headers is None:
            self._headers = unpack_message(self._packed)[0] if self._packed else {}
        return self._headers

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self.delivery.queue

    @property
    def id(self) -> str:
        """Its id, such as `emails/42`."""
        return message_id(self.delivery.queue, self.offset)

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1; deliveries that were handed back unworked do not count."""
        return self.delivery.attempt - self.delivery.released

    @property
    def key(self) -> str:
        """Its key, "" for none."""
        return self.delivery.key

    @property
    def priority(self) -> int:
        """Its priority, 0 to 9; 9 goes first."""
        return self.delivery.priority

    @property
    def published_at(self) -> datetime:
        """When the broker took it, in UTC."""
        return from_moment_ms(self.delivery.published_at_ms)

    @property
    def deadline(self) -> datetime:
        """When its lease ends, in UTC."""
        return from_moment_ms(self.delivery.deadline_ms)

    @property
    def token(self) -> Token:
        """The fencing token of this delivery; grows with every delivery of the message."""
        return Token(self.delivery.epoch, self.delivery.attempt)

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled while it was here: its work is wanted no more, and its settle will be stale."""
        return any(low <= self.offset < high for low, high in self.delivery.cancelled)

    def json(self) -> Any:
        """Its body, read as JSON.

        Raises:
            ValueError: the body is not JSON.
        """
        return json.loads(self.body)

    @property
    def age(self) -> timedelta:
        """How old it was when its lease began, by the broker's clock."""
        return self.deadline - self.published_at


class PeekedMessage(BaseMessage):
    """A message that was looked at and not taken.

    Attributes:
        state: ready, delayed, leased or dead.
        reason: why it is dead, or what became of its last attempt: attempts, rejected, failed, lost or
            released (with a delay or a reason); "" for neither.
        error: what was said of that.
    """

    __slots__ = ("_due_ms", "_expires_at_ms", "_failed_at_ms", "error", "reason", "state")

    def __init__(self, delivery: Delivery, offset: int, body: bytes, packed: bytes, detail: DetailRow) -> None:
        super().__init__(delivery, offset, body, packed)
        self.state, self._due_ms, self._expires_at_ms, self.reason, self.error, self._failed_at_ms = detail[:6]

    @property
    def due_at(self) -> datetime | None:
        """When its delay or its lease ends, in UTC; None when neither runs."""
        return from_moment_ms(self._due_ms) if self._due_ms else None

    @property
    def expires_at(self) -> datetime | None:
        """When it expires, in UTC; None for never."""
        return from_moment_ms(self._expires_at_ms) if self._expires_at_ms else None

    @property
    def failed_at(self) -> datetime | None:
        """When its last attempt failed, or it died, in UTC; None for not yet."""
        return from_moment_ms(self._failed_at_ms) if self._failed_at_ms else None


def bodies(lengths: bytes, block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each message of a block as its body, and its packed form when it has headers (else b"").

    One that does not begin with headers is all body: whoever published it may say what it likes, and harms only who
    asks for its headers (a ValueError), not the messages beside it.
    """
    ends = list(accumulate(unpack_lengths(lengths)))
    return (
        (block[start + 1 : stop], b"")
        if start < stop and block[start] == _NO_HEADERS
        else _with_headers(block[start:stop])
        for start, stop in zip(chain((0,), ends), ends, strict=False)
    )


def _with_headers(message: bytes) -> tuple[bytes, bytes]:
    try:
        body = unpack_message(message)[1]
    except ValueError:
        body = message
    return body, message or b"\xc1"  # a byte that is no msgpack: b"" would mean that there are no headers
