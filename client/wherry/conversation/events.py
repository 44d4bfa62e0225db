"""What a conversation tells its shell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from wherry import errors
from wherry.delivery import Delivery
from wherry.model import replies


class Welcomed(NamedTuple):
    """The broker accepts the connection."""

    welcome: replies.Welcome


class Confirmed(NamedTuple):
    """Publishes are confirmed: the waiters' messages have the offsets from `first` on, in the order of the waiters."""

    waiters: Sequence[Any]
    queue: str
    first: int
    durability: str
    duplicate: bool


class Settled(NamedTuple):
    """A SETTLE was answered. Each waiter comes with the error of its messages, None when all went well."""

    outcomes: Sequence[tuple[Any, errors.WherryError | None]]


class Answered(NamedTuple):
    """A request was answered."""

    waiter: Any
    reply: Any


class Failed(NamedTuple):
    """Requests failed; `error` makes one exception for each waiter."""

    waiters: Sequence[Any]
    error: Callable[[], errors.WherryError]


class Delivered(NamedTuple):
    """Messages came for a consumer: each span, then the lengths and the bytes of all their messages."""

    consumer: int
    deliveries: Sequence[Delivery]
    lease_ms: int
    lengths: bytes
    block: bytes


class ConsumerStopped(NamedTuple):
    """The broker has detached a consumer."""

    consumer: int
    error: errors.WherryError


class Cancelled(NamedTuple):
    """Messages that a consumer holds were cancelled: (first offset, count, attempt) of each range."""

    consumer: int
    deliveries: Sequence[tuple[int, int, int]]


class LeasesLost(NamedTuple):
    """A consumer that was attached again holds messages no longer: (delivery, low, high) of each range."""

    consumer: int
    parts: Sequence[tuple[Delivery, int, int]]


class ConsumerSuspended(NamedTuple):
    """The broker has detached a consumer because it shuts down; it is attached again once there is a broker."""

    consumer: int


class Interrupted(NamedTuple):
    """The connection is lost; the conversation goes on with `reopen` on another one."""

    error: errors.WherryError


class Ended(NamedTuple):
    """The conversation is over; all that waited has failed, in events before this one."""

    error: errors.WherryError


Event = (
    Welcomed
    | Confirmed
    | Settled
    | Answered
    | Failed
    | Delivered
    | ConsumerStopped
    | ConsumerSuspended
    | LeasesLost
    | Cancelled
    | Interrupted
    | Ended
)
