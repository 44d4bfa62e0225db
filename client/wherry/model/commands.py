"""What a client may ask for. Each class is one opcode; field order is the wire's.

Numbers of a unit end in it (`delay_ms`). 0 and "" mean "none" unless a field says otherwise. `request` is chosen by
the client, unique among its unanswered ones; exactly one reply carries it back.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from wherry.model.fields import (
    I64,
    U8,
    U16,
    U32,
    U64,
    Binary,
    CommitGates,
    CommitPublishes,
    CommitSettles,
    Deliveries,
    DurationMs,
    Flag,
    Lengths,
    MomentMs,
    Name,
    OptionalDurationMs,
    OptionalPermille,
    OptionalU64,
    Options,
    Priority,
    QueueName,
    Ranges,
    Strings,
    Subject,
    Text,
)


class Verb(IntEnum):
    """How a SETTLE ends (or prolongs) deliveries."""

    ACK = 0
    NACK = 1
    REJECT = 2
    RELEASE = 3
    EXTEND = 4

    __hash__ = int.__hash__  # an enum's own is a call of Python, and settles of one verb are found by it


class Hello(NamedTuple):
    """Opens a connection; the first frame, and only the first."""

    magic: Name
    version_min: U16
    version_max: U16
    token: Text = ""
    name: Name = ""
    heartbeat_ms: U32 = 0
    producer: Name = ""


class Ping(NamedTuple):
    """Asks the other end for a PONG; either end may send it."""

    nonce: U64 = 0


class Goodbye(NamedTuple):
    """The sender closes the connection after this frame; either end may send it."""

    code: Name = ""
    text: Text = ""


class Publish(NamedTuple):
    """Stores a batch of messages that share an envelope."""

    request: U32
    queue: QueueName
    lengths: Lengths
    priority: Priority = 0
    key: Name = ""
    delay_ms: DurationMs = 0
    at_ms: MomentMs = 0
    ttl_ms: DurationMs = 0
    dedupe: Name = ""
    divisible: Flag = False
    sequence: U64 = 0
    answered: U64 = 0
    track: Flag = False
    parent: Text = ""
    block: bytes = b""


class PublishTopic(NamedTuple):
    """Stores a batch of messages once, in every queue that is bound to its subject; in all of them or in none."""

    request: U32
    subject: Subject
    lengths: Lengths
    priority: Priority = 0
    key: Name = ""
    delay_ms: DurationMs = 0
    at_ms: MomentMs = 0
    ttl_ms: DurationMs = 0
    dedupe: Name = ""
    allow_unroutable: Flag = False
    sequence: U64 = 0
    answered: U64 = 0
    block: bytes = b""


class Settle(NamedTuple):
    """Ends (or prolongs) deliveries of one queue; each range stands or falls alone."""

    request: U32
    queue: QueueName
    verb: U8
    epoch: U64
    deliveries: Deliveries
    duration_ms: OptionalDurationMs = None
    text: Text = ""
    again: Flag = False
    progress: OptionalPermille = None
    results: Binary = b""
    block: bytes = b""


class Commit(NamedTuple):
    """Settles and publishes, in any queues, all or nothing.

    The block holds the messages of all publishes, in order, and then the results of all settles.
    """

    request: U32
    settles: CommitSettles
    publishes: CommitPublishes = ()
    sequence: U64 = 0
    answered: U64 = 0
    gates: CommitGates = ()
    tracked: Binary = b""
    results: Binary = b""
    parents: Strings = ()
    block: bytes = b""


class ReadGate(NamedTuple):
    """Asks how those do that count for a gate, and which they are, from the row `skip` on."""

    request: U32
    gate: QueueName
    skip: U32 = 0


class Consume(NamedTuple):
    """Attaches a consumer to a queue."""

    request: U32
    consumer: U32
    queue: QueueName
    credit: U64 = 0
    lease_ms: DurationMs = 0
    epoch: U64 = 0
    held: Deliveries = ()
    temporary: Flag = False


class Credit(NamedTuple):
    """Raises a consumer's credit to `total` messages since it was attached; has no reply."""

    consumer: U32
    total: U64


class Stop(NamedTuple):
    """Detaches a consumer; its leases stay. No DELIVER for it follows the reply."""

    request: U32
    consumer: U32


class Declare(NamedTuple):
    """Creates a queue, or checks that it has these options."""

    request: U32
    queue: QueueName
    options: Options


class Alter(NamedTuple):
    """Changes options of a queue; those that are not given stay."""

    request: U32
    queue: QueueName
    options: Options


class Info(NamedTuple):
    """Asks for a queue's counts, rates and options."""

    request: U32
    queue: QueueName


class ListQueues(NamedTuple):
    """Asks for a page of queues, by name after `after`."""

    request: U32
    prefix: Name = ""
    after: Name = ""


class Purge(NamedTuple):
    """Removes all messages of a queue that are in the given states."""

    request: U32
    queue: QueueName
    states: Strings = ("ready", "delayed")


class Cancel(NamedTuple):
    """Removes messages by their offsets, whatever their state; a consumer that holds one is told."""

    request: U32
    queue: QueueName
    ranges: Ranges


class Redrive(NamedTuple):
    """Makes dead messages ready again, in their own queue or in another one."""

    request: U32
    queue: QueueName
    ranges: Ranges
    to: Name = ""


class Delete(NamedTuple):
    """Removes a queue with all that it holds."""

    request: U32
    queue: QueueName


class Pause(NamedTuple):
    """Stops (or starts again) the deliveries of a queue; publishes and settles go on."""

    request: U32
    queue: QueueName
    paused: Flag


class Peek(NamedTuple):
    """Asks for messages of one state, or of any, from an offset on; never counts as a delivery."""

    request: U32
    queue: QueueName
    state: Name = "ready"
    first: U64 = 0
    limit: U16 = 10


class Await(NamedTuple):
    """Asks for the results of `total` neighbours once they have ended, as so many requests from `request` on."""

    request: U32
    queue: QueueName
    offset: U64
    total: U32
    wait_ms: DurationMs = 0


class ReadResults(NamedTuple):
    """Asks what the consumers of tracked messages have returned, and how those ended that have no result."""

    request: U32
    queue: QueueName
    ranges: Ranges


class Schedule(NamedTuple):
    """Has the broker publish a message at moments to come, or sees that it does so already."""

    request: U32
    name: Name
    queue: QueueName
    cron: Name = ""
    zone: Name = ""
    every_ms: DurationMs = 0
    anchor_ms: MomentMs = 0
    at_ms: MomentMs = 0
    start_ms: MomentMs = 0
    end_ms: MomentMs = 0
    priority: Priority = 0
    key: Name = ""
    ttl_ms: DurationMs = 0
    missed: Name = "once"
    overlap: Name = "allow"
    late_ms: DurationMs = 60_000
    stamp: U32 = 0
    track: Flag = False
    block: bytes = b""


class Unschedule(NamedTuple):
    """Removes a schedule; what it has published stays."""

    request: U32
    name: Name


class ListSchedules(NamedTuple):
    """Asks for a page of schedules, by name after `after`."""

    request: U32
    prefix: Name = ""
    after: Name = ""


class RunSchedule(NamedTuple):
    """Has a schedule publish its message now, whatever else it does and when."""

    request: U32
    name: Name


class PauseSchedule(NamedTuple):
    """Stops a schedule, or lets it go on with the first moment from now on."""

    request: U32
    name: Name
    paused: Flag


class Backup(NamedTuple):
    """Asks for a snapshot of the log; it lasts as long as the connection, or until the next one."""

    request: U32


class ReadBackup(NamedTuple):
    """Asks for bytes of one segment of the snapshot."""

    request: U32
    segment: U64
    offset: U64 = 0
    size: U32 = 0


class Put(NamedTuple):
    """Keeps a value under a key of a store, in the place of the one that it has."""

    request: U32
    queue: QueueName
    key: Name
    ttl_ms: DurationMs = 0
    if_version: OptionalU64 = None
    block: bytes = b""


class Fetch(NamedTuple):
    """Asks for the values of keys of a store."""

    request: U32
    queue: QueueName
    keys: Strings


class Unset(NamedTuple):
    """Removes the values of keys of a store."""

    request: U32
    queue: QueueName
    keys: Strings


class Increment(NamedTuple):
    """Adds to a value of a store that is a whole number in decimal digits."""

    request: U32
    queue: QueueName
    key: Name
    by: I64 = 1
    ttl_ms: DurationMs = 0


class Status(NamedTuple):
    """Asks how a message stands; with `wait_ms`, for how a tracked one ends, once it has."""

    request: U32
    queue: QueueName
    offset: U64
    wait_ms: DurationMs = 0


class Expire(NamedTuple):
    """Gives a value of a store another time to live, counted from now on."""

    request: U32
    queue: QueueName
    key: Name
    ttl_ms: DurationMs = 0


class Watch(NamedTuple):
    """Asks for the value of a key of a store once it is newer than `after`; answered when it is, or without one."""

    request: U32
    queue: QueueName
    key: Name
    after: U64 = 0
    wait_ms: DurationMs = 0


Request = (
    Publish
    | PublishTopic
    | Settle
    | Commit
    | ReadGate
    | Consume
    | Stop
    | Declare
    | Alter
    | Info
    | ListQueues
    | Purge
    | Cancel
    | Redrive
    | Delete
    | Pause
    | Peek
    | Put
    | Fetch
    | Unset
    | Increment
    | Expire
    | Watch
    | Status
    | ReadResults
    | Await
    | Schedule
    | Unschedule
    | ListSchedules
    | RunSchedule
    | PauseSchedule
    | Backup
    | ReadBackup
)
"""Commands that have a reply."""
Command = Hello | Ping | Goodbye | Credit | Request
