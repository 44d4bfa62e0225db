"""What a broker may say: replies, which carry a request's number, and pushes, which do not.

Each class is one opcode; field order is the wire's.
"""

from __future__ import annotations

from typing import NamedTuple

from wherry.model.fields import (
    I64,
    U16,
    U32,
    U64,
    Binary,
    CommittedRows,
    Confirms,
    Deliveries,
    Details,
    DurationMs,
    Flag,
    GateMembers,
    Lengths,
    MomentMs,
    Name,
    Options,
    QueueName,
    QueueRows,
    Ranges,
    ScheduleRows,
    SettledRows,
    Spans,
    Text,
    Unresulted,
    ValueRows,
)


class Welcome(NamedTuple):
    """Accepts a HELLO and says what holds on this connection."""

    version: U16
    epoch: U64
    heartbeat_ms: U32
    frame_bytes_max: U32
    server: Name = ""
    producer_ms: U64 = 0
    resume_ms: U64 = 0


class Pong(NamedTuple):
    """Answers a PING."""

    nonce: U64 = 0


class Confirm(NamedTuple):
    """Confirms publishes, at the named durability; joined for all that became durable together."""

    durability: Name
    confirms: Confirms


class Settled(NamedTuple):
    """Answers SETTLEs; joined. A row names the ranges that were refused as stale, if any.

    Of requests that are `unsure`, what is stale may have been done when they came before.
    """

    settles: SettledRows
    unsure: Ranges = ()


class Done(NamedTuple):
    """Answers a request that returns no more than a number."""

    request: U32
    total: U64 = 0
    stale: Ranges = ()


class QueueInfo(NamedTuple):
    """Answers INFO and DECLARE."""

    request: U32
    info: Options
    created: Flag = False


class Queues(NamedTuple):
    """Answers LISTQUEUES: a page of queues by name, whether more follow, and how the broker is."""

    request: U32
    queues: QueueRows
    more: Flag = False
    memory_bytes: U64 = 0
    memory_bytes_max: U64 = 0
    clients: U32 = 0
    durability: Name = ""


class Peeked(NamedTuple):
    """Answers PEEK."""

    request: U32
    spans: Spans
    lengths: Binary = b""
    details: Details = ()
    next_offset: U64 = 0
    block: bytes = b""


class Committed(NamedTuple):
    """Answers COMMIT: all of it was done. A row for each publish, in order, with the level that it has reached."""

    request: U32
    publishes: CommittedRows = ()


class Schedules(NamedTuple):
    """Answers LISTSCHEDULES with a page of schedules by name, and what concerns one schedule with that one."""

    request: U32
    schedules: ScheduleRows
    more: Flag = False
    change: Name = ""


class Snapshot(NamedTuple):
    """Answers BACKUP: which segments the snapshot has, and their bytes together."""

    request: U32
    first: U64
    last: U64
    total: U64


class Piece(NamedTuple):
    """Answers READBACKUP: how long the segment is in the snapshot, and the bytes that were asked for."""

    request: U32
    size: U64
    block: bytes = b""


class Routed(NamedTuple):
    """Confirms a PUBLISHTOPIC: how many queues have its messages, and the lowest durability among these."""

    request: U32
    queues: U32
    durability: Name = ""
    duplicate: Flag = False


class Values(NamedTuple):
    """Answers FETCH and WATCH: what there is of the first `answered` keys; the rest is to be asked for again."""

    request: U32
    values: ValueRows
    lengths: Binary = b""
    answered: U32 = 0
    block: bytes = b""


class Counted(NamedTuple):
    """Answers INCREMENT: the number, and its version."""

    request: U32
    number: I64
    version: U64
    expires_at_ms: MomentMs = 0


class Told(NamedTuple):
    """Answers STATUS: what is known of a message by name; the block is its result, if it has one."""

    request: U32
    status: Options
    block: bytes = b""


class Returned(NamedTuple):
    """Answers AWAIT for messages that are settled: ranges of requests, and the results of all their messages."""

    requests: Ranges
    lengths: Binary
    block: bytes = b""


class Results(NamedTuple):
    """Answers READRESULTS: the results of the first `answered` messages; the rest is to be asked for again.

    A message without a result has an empty one, and a row that says why.
    """

    request: U32
    answered: U32
    lengths: Binary
    unresulted: Unresulted = ()
    block: bytes = b""


class Gate(NamedTuple):
    """Answers READGATE: the message that waits (or waited) there, how the others do, and a page of which they are."""

    request: U32
    queue: QueueName
    offset: U64
    remaining: U64
    failed: U64
    strict: Flag
    members: GateMembers
    more: Flag = False


class Deliver(NamedTuple):
    """Leases messages to a consumer."""

    consumer: U32
    lease_ms: DurationMs
    spans: Spans
    lengths: Lengths
    block: bytes = b""


class Stopped(NamedTuple):
    """A consumer was detached by the broker."""

    consumer: U32
    code: Name = ""
    text: Text = ""


class Cancelled(NamedTuple):
    """Messages that a consumer holds were cancelled; their leases are over."""

    consumer: U32
    deliveries: Deliveries


class Error(NamedTuple):
    """Refuses a request."""

    request: U32
    code: Name
    text: Text = ""
    retryable: Flag = False
    retry_after_ms: DurationMs = 0
    queue: Name = ""
    bound: Name = ""
    first: U64 = 0
    accepted: U32 = 0
    durability: Name = ""


Reply = (
    Done
    | QueueInfo
    | Queues
    | Peeked
    | Committed
    | Routed
    | Schedules
    | Snapshot
    | Piece
    | Values
    | Counted
    | Told
    | Results
    | Returned
    | Gate
    | Error
)
"""Answers to one request; Confirm and Settled answer many at once."""
Push = Deliver | Stopped | Cancelled
Spoken = Welcome | Pong | Confirm | Settled | Reply | Push
