"""What a DELIVER brings: deliveries, and the messages in them. Pure.

A `Delivery` is one span: messages that share an attempt, a lease and an envelope. A message holds its delivery and
its own bytes; headers are unpacked when they are first looked at.

A message is *held* from its delivery until it is settled, cancelled or lost. Which ones are held is known of ranges, by
the delivery, so that a message that is settled in its turn costs one comparison.
"""

from __future__ import annotations

import json
import struct
from bisect import bisect_left
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from wherry.model.names import message_id
from wherry.model.times import from_moment_ms
from wherry.wire.messages import NO_HEADERS, split_block, unpack_headers, unpack_lengths, unpack_message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from wherry.model.fields import DetailRow, SpanRow

CONTENT_TYPE = "content-type"
"""The header that says how a body is written."""
_NO_HEADERS = NO_HEADERS[0]
_NOTHING = b"\xc1"
"""Stands for the packed form of an empty message: a byte that is no msgpack, since b"" means no headers."""


class Token(NamedTuple):
    """A fencing token: of two deliveries of a message, the later one has the greater token."""

    epoch: int
    attempt: int


class Lease:
    """What the deliveries that came together have in common.

    Attributes:
        seconds: how long a lease runs from when it is given, or extended.
        since: when they came, on the client's monotonic clock in seconds.
        wall: what that clock is behind the seconds since 1970.
    """

    __slots__ = ("seconds", "since", "wall")

    def __init__(self, seconds: float, since: float, wall: float) -> None:
        self.seconds = seconds
        self.since = since
        self.wall = wall


NO_LEASE = Lease(0.0, 0.0, 0.0)
"""That of messages that were looked at and not taken."""
Part = tuple[int, int, float]
"""(low, high, when the lease of these messages ends)"""


class Delivery:
    """One span, as it was delivered.

    Attributes:
        queue: the name of the queue.
        first: the offset of its first message.
        count: how many messages it has.
        attempt: which delivery of these messages it is; with `epoch`, the fencing token.
        released: how many earlier ones were handed back unworked.
        lease: how its messages are leased.
        deadline: when that ends, on the client's monotonic clock in seconds.
        parts: the same for ranges of messages, where it is not the same for all; else None.
        open: how many of its messages are held.
        low: all messages before this offset are held no longer.
        gaps: further ranges [low, high) that are held no longer, in order and apart from each other.
        cancelled: the ranges [low, high) of its messages that were cancelled.
        lost: the ranges [low, high) of its messages whose lease ended unsettled.
        position: how many messages its consumer was delivered before it.
        look_at: when to look whether a lease is to be extended, or is over.
    """

    __slots__ = (
        "attempt",
        "cancelled",
        "count",
        "deadline",
        "epoch",
        "first",
        "gaps",
        "key",
        "lease",
        "look_at",
        "lost",
        "low",
        "open",
        "parts",
        "position",
        "priority",
        "published_at_ms",
        "queue",
        "released",
    )

    def __init__(self, queue: str, epoch: int, row: SpanRow) -> None:
        self.queue = queue
        self.epoch = epoch
        self.first, self.count, self.attempt, self.released, self.published_at_ms, self.priority, self.key = row[:7]
        self.lease = NO_LEASE
        self.deadline = self.look_at = 0.0
        self.parts: list[Part] | None = None
        self.low = self.first
        self.gaps: list[tuple[int, int]] | None = None
        self.open = self.count
        self.cancelled: tuple[tuple[int, int], ...] = ()
        self.lost: tuple[tuple[int, int], ...] = ()
        self.position = 0

    def let_go(self, low: int, high: int) -> int:
        """Takes note that the messages [low, high) are held no longer; returns how many of them were until now."""
        if low == self.low and self.gaps is None:
            self.low = high
            self.open -= high - low
            return high - low
        return self._let_go_among(max(low, self.low), high)

    def _let_go_among(self, low: int, high: int) -> int:
        """The same, where messages before or between them are held or not."""
        if low >= high:
            return 0
        gaps = self.gaps or []
        start = bisect_left(gaps, low, key=lambda gap: gap[1])  # the first gap that ends at `low` or after it
        stop, gone = start, 0
        new_low, new_high = low, high
        while stop < len(gaps) and gaps[stop][0] <= high:
            gap_low, gap_high = gaps[stop]
            gone += max(0, min(gap_high, high) - max(gap_low, low))
            new_low, new_high = min(new_low, gap_low), max(new_high, gap_high)
            stop += 1
        gaps[start:stop] = [(new_low, new_high)]
        if gaps[0][0] <= self.low:
            self.low = gaps.pop(0)[1]
        self.gaps = gaps or None
        self.open -= high - low - gone
        return high - low - gone

    def held(self) -> Iterator[tuple[int, int]]:
        """The ranges [low, high) that are held, in order."""
        low = self.low
        for gap_low, gap_high in self.gaps or ():
            yield low, gap_low
            low = gap_high
        if low < self.first + self.count:
            yield low, self.first + self.count

    def holds(self, offset: int) -> bool:
        """Whether one message is held."""
        return any(low <= offset < high for low, high in self.held())

    def held_parts(self) -> Iterator[Part]:
        """The same, cut where leases end at different times, and with these times."""
        if self.parts is None:
            for low, high in self.held():
                yield low, high, self.deadline
            return
        held = list(self.held())
        for low, high, until in self.parts:
            for held_low, held_high in held:
                if max(low, held_low) < min(high, held_high):
                    yield max(low, held_low), min(high, held_high), until

    def deadline_of(self, offset: int) -> float:
        """When the lease of one message ends, on the client's monotonic clock in seconds."""
        return next((until for low, high, until in self.parts or () if low <= offset < high), self.deadline)


class BaseMessage:
    """One message. Read-only; the clients add the verbs that settle it. Its kinds say how they are made.

    Attributes:
        delivery: the span that it came in.
        offset: its place in its queue.
        body: its bytes.
        settled: the verb that settled it; "" while it is not.
    """

    __slots__ = ("_headers", "_packed", "body", "delivery", "offset", "settled")

    delivery: Delivery
    offset: int
    body: bytes
    settled: str
    _packed: bytes
    _headers: dict[str, Any] | None

    def __repr__(self) -> str:
        return f"<Message {self.id} attempt {self.attempt}, {len(self.body)} bytes>"

    @property
    def headers(self) -> dict[str, Any]:
        """Its headers.

        Raises:
            ValueError: it was published without any, not even an empty map; its body is all of it.
        """
        if self._headers is None:
            known = 0 if self._packed == _NOTHING else len(self._packed) - len(self.body)
            self._headers = unpack_headers(self._packed, known) if self._packed else {}
        return self._headers

    @property
    def raw(self) -> bytes:
        """All of it as it was published: its packed headers, and its body."""
        if not self._packed:
            return NO_HEADERS + self.body
        return self._packed if self._packed != _NOTHING else self.body

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
        """When its lease ends, in UTC; later once it is extended, which the client does while the message is held."""
        delivery = self.delivery
        return from_moment_ms(round((delivery.deadline_of(self.offset) + delivery.lease.wall) * 1000))

    @property
    def token(self) -> Token:
        """The fencing token of this delivery; grows with every delivery of the message."""
        return Token(self.delivery.epoch, self.delivery.attempt)

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled while it was here: its work is wanted no more, and its settle will be stale."""
        ranges = self.delivery.cancelled
        return bool(ranges) and any(low <= self.offset < high for low, high in ranges)

    @property
    def lost(self) -> bool:
        """Whether its lease ended while it was here: another consumer may have it, and its settle will be stale."""
        ranges = self.delivery.lost
        return bool(ranges) and any(low <= self.offset < high for low, high in ranges)

    @property
    def content_type(self) -> str:
        """How its body is written, such as `application/json`; "" when nobody has said it."""
        return str(self.headers.get(CONTENT_TYPE, ""))

    def json(self) -> Any:
        """Its body, read as JSON.

        Raises:
            ValueError: the body is not JSON.
        """
        return json.loads(self.body)

    def unpack(self) -> Any:
        """Its body, read as msgpack.

        Raises:
            ValueError: the body is not msgpack.
        """
        try:
            return msgpack.unpackb(self.body, strict_map_key=False)
        except (msgpack.UnpackException, ValueError, TypeError) as error:
            raise ValueError(f"the body of {self.id} is not msgpack: {error}") from error

    @property
    def age(self) -> timedelta:
        """How old it was when it came here, by this machine's clock."""
        lease = self.delivery.lease
        return from_moment_ms(round((lease.since + lease.wall) * 1000)) - self.published_at


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
        self.delivery, self.offset, self.body, self._packed = delivery, offset, body, packed
        self.settled, self._headers = "", None
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
    return zip(*columns(lengths, block), strict=False)


def columns(lengths: bytes, block: bytes) -> tuple[Iterator[bytes], Iterator[bytes]]:
    """The same as two columns: the bodies, and the packed forms. Made for blocks of many messages without headers."""
    sizes = unpack_lengths(lengths)
    alike = _of_one_length(sizes, block)
    if alike:
        return iter(alike), repeat(b"")
    plain: list[bytes] = []
    add, start = plain.append, 0
    for size in sizes:
        stop = start + size
        if size and block[start] == _NO_HEADERS:
            add(block[start + 1 : stop])
        start = stop
    if len(plain) == len(sizes):
        return iter(plain), repeat(b"")
    pairs: list[tuple[bytes, bytes]] = []
    head = b""  # the packed headers of the message before: those of its neighbours are mostly the same
    for message in split_block(lengths, block):
        if head and message.startswith(head):
            pairs.append((message[len(head) :], message))
        else:
            pairs.append(_with_headers(message))
            head = message[: len(message) - len(pairs[-1][0])] if pairs[-1][1] else b""
    return iter([body for body, _ in pairs]), iter([packed for _, packed in pairs])


def _of_one_length(sizes: tuple[int, ...], block: bytes) -> tuple[bytes, ...]:
    """The bodies, if all messages are of one length and have no headers: one call cuts them, in half the time."""
    count, size = len(sizes), sizes[0] if sizes else 0
    if size and sizes.count(size) == count == block[::size].count(_NO_HEADERS):
        return struct.unpack(f"x{size - 1}s" * count, block)
    return ()


def _with_headers(message: bytes) -> tuple[bytes, bytes]:
    if message[:1] == NO_HEADERS:
        return message[1:], b""
    try:
        body = unpack_message(message)[1]
    except ValueError:
        body = message
    return body, message or _NOTHING
