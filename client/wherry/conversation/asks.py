"""What can be asked about queues, as pairs: the command, and what to make of its reply. Pure.

Each shell sends an `Ask` in its own way; what the verbs mean stands here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from wherry import errors
from wherry.delivery import Delivery, PeekedMessage, bodies
from wherry.model import commands, names, replies
from wherry.model.fields import ROWS_MAX, Range
from wherry.model.options import BrokerInfo, GateInfo, QueueCounts, QueueInfo, Snapshot, TopicReceipt, wire_options
from wherry.model.status import Status

if TYPE_CHECKING:
    from wherry.conversation.pending import Envelope

PEEK_MESSAGES_MAX = 1_000
"""The most messages of one page of a peek."""
Where = Callable[[PeekedMessage], bool]
"""Says which messages are meant."""
T = TypeVar("T")


class Ask(NamedTuple, Generic[T]):
    """A request, and how to read its reply.

    Attributes:
        make: makes the command for a request's number.
        read: makes what the user gets, of the reply.
    """

    make: Callable[[int], commands.Request]
    read: Callable[[Any], T]


def check_queue_name(name: str) -> str:
    """The name, if a queue can have it.

    Raises:
        Invalid: none can.
    """
    problem = names.queue_name_problem(name)
    if problem:
        raise errors.Invalid(problem)
    return name


def check_subject(subject: str) -> str:
    """The subject, if a topic can have it.

    Raises:
        Invalid: none can.
    """
    problem = names.subject_problem(subject)
    if problem:
        raise errors.Invalid(problem)
    return subject


def publish_topic(
    subject: str, lengths: bytes, block: bytes, envelope: Envelope, *, allow_unroutable: bool
) -> Ask[TopicReceipt]:
    """Stores messages in every queue that is bound to a subject, or in none."""

    def make(request: int) -> commands.PublishTopic:
        return commands.PublishTopic(request, subject, lengths, *envelope.fields, allow_unroutable, block=block)

    def read(reply: replies.Routed) -> TopicReceipt:
        # One that was sent twice is no duplicate to the user, who has published it once.
        return TopicReceipt(subject, reply.queues, reply.durability, reply.duplicate and bool(envelope.dedupe))

    return Ask(make, read)


def declare(queue: str, options: dict[str, Any]) -> Ask[None]:
    """Creates a queue, or checks that it has these options, which are as users write them."""
    return Ask(partial(commands.Declare, queue=queue, options=wire_options(options)), _nothing)


def alter(queue: str, options: dict[str, Any]) -> Ask[QueueInfo]:
    """Changes options of a queue."""
    return Ask(partial(commands.Alter, queue=queue, options=wire_options(options)), _info)


def info(queue: str) -> Ask[QueueInfo]:
    """The state of a queue."""
    return Ask(partial(commands.Info, queue=queue), _info)


def queues(prefix: str, after: str) -> Ask[tuple[list[QueueCounts], bool]]:
    """A page of the list of queues, by name after `after`, and whether more follow."""
    return Ask(partial(commands.ListQueues, prefix=prefix, after=after), _queues)


def sign_of_life() -> Ask[None]:
    """A request that goes all the way through the core, and that any broker can answer."""
    return Ask(partial(commands.ListQueues, prefix="-"), _nothing)


def broker_info() -> Ask[BrokerInfo]:
    """The state of the broker."""
    return Ask(partial(commands.ListQueues, prefix="-"), lambda reply: BrokerInfo(*reply[3:7]))


def gate(name: str, skip: int) -> Ask[tuple[GateInfo, int]]:
    """How those do that count for a gate, a page of which they are, and the row at which the next one begins or 0."""

    def read(reply: replies.Gate) -> tuple[GateInfo, int]:
        members = [
            names.message_id(queue, offset)
            for queue, first, count, *_ in reply.members
            for offset in range(first, first + count)
        ]
        waits = names.message_id(reply.queue, reply.offset)
        more = skip + len(reply.members) if reply.more else 0
        return GateInfo(waits, reply.remaining, reply.failed, reply.strict, members), more

    return Ask(partial(commands.ReadGate, gate=name, skip=skip), read)


def pause(queue: str, *, paused: bool) -> Ask[None]:
    """Stops the deliveries of a queue, or starts them again."""
    return Ask(partial(commands.Pause, queue=queue, paused=paused), _nothing)


def purge(queue: str, states: Sequence[str]) -> Ask[int]:
    """Removes the messages of some states; how many."""
    return Ask(partial(commands.Purge, queue=queue, states=tuple(states) or ("ready", "delayed")), _total)


def delete(queue: str) -> Ask[int]:
    """Removes a queue; how many messages it had."""
    return Ask(partial(commands.Delete, queue=queue), _total)


def cancel(queue: str, ranges: tuple[Range, ...]) -> Ask[int]:
    """Removes messages, whatever their state; how many there were."""
    return Ask(partial(commands.Cancel, queue=queue, ranges=ranges), _total)


def cancel_each(queue: str, messages: Iterable[str | int]) -> Iterator[Ask[int]]:
    """The same for ids and offsets in any order, so many at a time as a request may name.

    Raises:
        ValueError: one is the id of another queue's message, or no id; nothing was yielded before.
    """
    offsets = sorted({offset_of(queue, each) for each in messages})
    for start in range(0, len(offsets), ROWS_MAX):
        yield cancel(queue, tuple((offset, 1) for offset in offsets[start : start + ROWS_MAX]))


def redrive(queue: str, ranges: tuple[Range, ...], to: str | None) -> Ask[int]:
    """Makes dead messages ready again, in their own queue or in the queue `to`; how many there were."""
    return Ask(partial(commands.Redrive, queue=queue, ranges=ranges, to=to or ""), _total)


def look(queue: str, limit: int, state: str, first: int) -> Ask[tuple[list[PeekedMessage], int]]:
    """A page of messages from the offset `first` on, and where the next page begins; 0 when there is none."""
    make = partial(commands.Peek, queue=queue, state=state, first=first, limit=min(limit, PEEK_MESSAGES_MAX))
    return Ask(make, partial(_peeked, queue))


def find(queue: str, message: str | int) -> Ask[PeekedMessage]:
    """One message, in whatever state it is.

    Raises:
        ValueError: it is the id of another queue's message, or no id.
        NotFound: (when read) it has left the queue, or was never there.
    """
    offset = offset_of(queue, message)
    return Ask(look(queue, 1, "", offset).make, partial(_found, queue, offset))


def status(queue: str, message: str | int, wait_ms: int = 0) -> Ask[Status]:
    """How a message stands; with a wait, once it has ended.

    Raises:
        ValueError: it is the id of another queue's message, or no id.
    """
    offset = offset_of(queue, message)
    make = partial(commands.Status, queue=queue, offset=offset, wait_ms=wait_ms)
    return Ask(make, partial(told, names.message_id(queue, offset)))


def backup() -> Ask[Snapshot]:
    """A snapshot of the broker's log."""
    return Ask(commands.Backup, lambda reply: Snapshot(reply.first, reply.last, reply.total))


def read_backup(segment: int, offset: int, size: int) -> Ask[tuple[bytes, int]]:
    """Bytes of one segment of the snapshot, and how long it is in all."""
    make = partial(commands.ReadBackup, segment=segment, offset=offset, size=size)
    return Ask(make, lambda reply: (reply.block, reply.size))


def offset_of(queue: str, message: str | int) -> int:
    """The offset of a message of a queue, from its id or its offset.

    Raises:
        ValueError: it is the id of another queue's message, or no id.
    """
    if isinstance(message, int):
        return message
    named, offset = names.split_id(message)
    if named != queue:
        raise ValueError(f"{message!r} is no message of queue {queue!r}")
    return offset


def ranges_of(messages: Sequence[PeekedMessage]) -> tuple[Range, ...]:
    """The offsets of messages, as (first, count); neighbours are joined."""
    result: list[list[int]] = []
    for message in messages:
        if result and sum(result[-1]) == message.offset:
            result[-1][1] += 1
        else:
            result.append([message.offset, 1])
    return tuple((first, count) for first, count in result)


def told(name: str, reply: replies.Told) -> Status:
    """How a message stands, as a TOLD says."""
    return Status.from_wire(name, reply.status, reply.block)


def _nothing(_reply: Any) -> None:
    """Of replies that only say that it was done."""


def _info(reply: replies.QueueInfo) -> QueueInfo:
    return QueueInfo.from_wire(reply.info)


def _total(reply: replies.Done) -> int:
    return reply.total


def _queues(reply: replies.Queues) -> tuple[list[QueueCounts], bool]:
    return [QueueCounts(*row[:7]) for row in reply.queues], reply.more


def _peeked(queue: str, reply: replies.Peeked) -> tuple[list[PeekedMessage], int]:
    messages = bodies(reply.lengths, reply.block)
    found = []
    for row, detail in zip(reply.spans, reply.details, strict=True):
        delivery = Delivery(queue, 0, row)
        found += [PeekedMessage(delivery, row[0] + n, *next(messages), detail) for n in range(row[1])]
    return found, reply.next_offset


def _found(queue: str, offset: int, reply: replies.Peeked) -> PeekedMessage:
    found, _ = _peeked(queue, reply)
    if not found or found[0].offset != offset:
        raise errors.NotFound(f"there is no message {names.message_id(queue, offset)}, or no longer")
    return found[0]
