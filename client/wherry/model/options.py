"""What users say of queues and get to know of them: options, receipts, counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry.model.names import message_id
from wherry.model.times import Duration, to_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

_DURATIONS = {"lease": "lease_ms", "ttl": "ttl_ms", "dedupe_window": "dedupe_window_ms", "result_ttl": "result_ttl_ms"}


@dataclass(frozen=True, slots=True)
class Retry:
    """The back-off of a queue: exponential, with full jitter.

    The delay before the attempt n + 1 is drawn evenly from 0 to `base * factor ** (n - 1)`, at most `cap`.

    Args:
        base: the first back-off, in seconds.
        factor: what it is multiplied by from attempt to attempt.
        cap: the longest back-off, in seconds.
    """

    base: Duration = 1
    factor: float = 2
    cap: Duration = 300


def wire_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Queue options as users write them, as the wire has them: durations become milliseconds, `retry` three options."""
    result: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name == "retry":
            result["retry_base_ms"] = to_ms(value.base)
            result["retry_factor"] = float(value.factor)
            result["retry_cap_ms"] = to_ms(value.cap)
        elif name in _DURATIONS:
            result[_DURATIONS[name]] = to_ms(value)
        else:
            result[name] = value
    return result


class Receipt(NamedTuple):
    """What a confirmed publish returns.

    Attributes:
        queue: the queue that took the message.
        offset: the message's place in it.
        durability: how safe the message is now; see the promise table.
        duplicate: True when it had been stored before under its dedupe key; the offset is then that of the first one.
    """

    queue: str
    offset: int
    durability: str
    duplicate: bool = False

    @property
    def id(self) -> str:
        """The message's id, such as `emails/42`."""
        return message_id(self.queue, self.offset)


class Entry(NamedTuple):
    """A value of a store.

    Attributes:
        key: its key.
        value: the value.
        version: a number that grows with every value of the store.
        expires_at: when it expires, in UTC; None for never.
    """

    key: str
    value: bytes
    version: int
    expires_at: datetime | None


class TopicReceipt(NamedTuple):
    """What a confirmed publish to a topic returns.

    Attributes:
        subject: what the message was published to.
        queues: how many queues have it.
        durability: how safe it is in that of them that promises least; "" when no queue has it.
        duplicate: True when all of them had it before, under its dedupe key.
    """

    subject: str
    queues: int
    durability: str
    duplicate: bool = False


class Attached(NamedTuple):
    """A consumer of a queue.

    Attributes:
        client: what its client calls itself.
        leased: how many messages it holds.
        credit: how many more it would take.
    """

    client: str
    leased: int
    credit: int


class BrokerInfo(NamedTuple):
    """The state of a broker at one moment.

    Attributes:
        memory_bytes: how much memory all that it stores takes, as it counts it.
        memory_bytes_max: at how much it refuses publishes; 0 for no limit.
        clients: how many clients are connected.
        durability: that of a queue that asks for none.
    """

    memory_bytes: int
    memory_bytes_max: int
    clients: int
    durability: str


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """The state of a queue at one moment.

    Attributes:
        name: its name.
        ready: how many messages wait for a consumer.
        delayed: how many wait for their time.
        leased: how many are in a consumer's hands.
        dead: how many are given up.
        bytes: the bytes of all of these.
        consumers: how many consumers are attached.
        attached: some of these, at most 20.
        next_offset: the offset that the next message will have.
        published: how many messages were published, as far back as the broker's log goes.
        removed: how many of them have left, by cause (settled, expired, dropped, purged).
        publish_rate: messages published a second, lately.
        settle_rate: messages acknowledged a second, lately.
        oldest_age: the age of the oldest message held, in seconds.
        options: option names to values, as on the wire.
        ended: how many deliveries ended without an ack, by how: failed, lost (the lease ran out, or the consumer was
            gone), released (handed back unworked) and rejected.
        asked: the options that were named when it was declared or altered; the broker's configuration decides on the
            others.
        policies: the patterns of the broker's policies that match its name.
    """

    name: str
    ready: int
    delayed: int
    leased: int
    dead: int
    bytes: int
    consumers: int
    next_offset: int
    published: int
    removed: dict[str, int]
    publish_rate: float
    settle_rate: float
    oldest_age: float
    options: dict[str, Any]
    ended: dict[str, int] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    attached: tuple[Attached, ...] = ()

    @classmethod
    def from_wire(cls, info: Mapping[str, Any]) -> QueueInfo:
        """What INFO tells; fields that a newer broker adds are left out."""
        known = {name: info[name] for name in cls.__slots__ if name in info}
        known["attached"] = tuple(Attached(*row[:3]) for row in info.get("attached", ()))
        return cls(**known, oldest_age=info["oldest_age_ms"] / 1000)


class GateInfo(NamedTuple):
    """How those do that count for a gate.

    Attributes:
        waits: the id of the message that waits, or has waited, at it.
        remaining: how many others have to end yet.
        failed: how many have ended that were not acknowledged.
        strict: whether the first of these makes the message dead.
        members: the ids of those that count, in the order of their publishes.
    """

    waits: str
    remaining: int
    failed: int
    strict: bool
    members: list[str]


class QueueCounts(NamedTuple):
    """One row of a list of queues."""

    name: str
    ready: int
    delayed: int
    leased: int
    dead: int
    bytes: int
    consumers: int


class Snapshot(NamedTuple):
    """What a backup has to read: the segments `first` to `last`, which have `total` bytes together."""

    first: int
    last: int
    total: int
