"""Sessions and consumers as the core knows them: credit, and who holds which lease. No restart survives any of it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry.model.fields import Range
    from wherry_broker.core.batch import Span
    from wherry_broker.core.outcomes import Wait
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.stores import Watch

ANSWERS_MAX = 4_096
"""How many SETTLEs of a session are remembered with their answers."""


class Session:
    """One client, for as long as it is attached, and for a while after it has lost its connection.

    Attributes:
        number: what effects name it by.
        name: what the client calls itself.
        identity: whom it belongs to, and the id under which it numbers its publishes; "" for none.
        room_bytes: how many bytes may be delivered to it before it has to be written to the socket.
        consumers: those that are attached, by number.
        parked: consumers that wait for room, in turn.
        retired: consumers that take no more but may hold leases still.
        left: those of the connection before, by number, that may be attached again.
        answered_bytes: about how much it was answered since it was last known to take something.
        watches: what it waits for in stores.
        waits: the ends of messages that it waits for.
        awaited: how many messages these are.
        inboxes: the temporary queues that end with it, by name.
        answers: what its last SETTLEs were answered, for those whose answer is lost: (request, stale ranges).
        answers_kept: whether that is kept at all.
        recalled: the same by request, of the connections before.
        recalls_all: whether no answer of theirs is missing there.
        due_ms: when it is given up, while it has no connection.
        timer: the entry in `Timers` that stands for that.
    """

    __slots__ = (
        "answered_bytes",
        "answers",
        "answers_kept",
        "awaited",
        "consumers",
        "due_ms",
        "identity",
        "inboxes",
        "left",
        "name",
        "number",
        "parked",
        "recalled",
        "recalls_all",
        "retired",
        "room_bytes",
        "timer",
        "waits",
        "watches",
    )

    def __init__(self, number: int, room_bytes: int, identity: tuple[str, str] = ("", ""), name: str = "") -> None:
        self.number = number
        self.name = name
        self.identity = identity
        self.room_bytes = room_bytes
        self.answered_bytes = 0
        self.consumers: dict[int, Consumer] = {}
        self.parked: dict[Consumer, None] = {}
        self.retired: list[Consumer] = []
        self.watches: dict[Watch, None] = {}
        self.waits: dict[Wait, None] = {}
        self.awaited = 0
        self.inboxes: dict[str, Queue] = {}
        self.left: dict[int, Consumer] = {}
        self.answers: deque[tuple[int, tuple[Range, ...]]] = deque(maxlen=ANSWERS_MAX)
        self.answers_kept = False
        self.recalled: dict[int, tuple[Range, ...]] = {}
        self.recalls_all = False
        self.due_ms = 0
        self.timer = 0

    @property
    def producer(self) -> str:
        """The id under which it numbers its publishes; "" for none."""
        return self.identity[1]

    def take_over(self, old: Session) -> None:
        """Goes on where an old session ended that lost its connection."""
        self.retired, self.left, self.answers = old.retired, old.left, old.answers
        self.inboxes = old.inboxes
        self.recalled = dict(old.answers)
        self.recalls_all = len(self.recalled) < ANSWERS_MAX
        for consumer in self.retired:
            consumer.session = self

    def held(self) -> list[Span]:
        """What its consumers hold that take no more."""
        return [span for consumer in self.retired for span in consumer.spans]

    def retire(self, consumer: Consumer) -> None:
        """Makes a consumer take no more. Its leases go on."""
        consumer.attached = False
        del self.consumers[consumer.number]
        del consumer.queue.consumers[consumer]
        # Clients may come and go for ever while nothing is ready or no room is made, and so nobody leaves the lines.
        consumer.queue.waiting.pop(consumer, None)
        self.parked.pop(consumer, None)
        self.retired = [each for each in (*self.retired, consumer) if each.spans]


class Consumer:
    """One consumer of a queue.

    Attributes:
        number: chosen by the client.
        granted: how many messages it may have been delivered in all (its credit is what is left of that).
        delivered: how many it has been delivered.
        lease_ms: how long its leases run; 0 for the queue's own.
        mark: the commit that all it is told waits for, so that it follows what its number was told before, and what was
            changed of its queue.
        spans: what it holds, in the order of delivery.
        queued: whether it stands in its queue's line, or its session's.
        attached: False once it takes no more; its leases may go on.
    """

    __slots__ = (
        "attached",
        "delivered",
        "granted",
        "lease_ms",
        "mark",
        "number",
        "queue",
        "queued",
        "session",
        "spans",
    )

    def __init__(self, session: Session, number: int, queue: Queue, granted: int, lease_ms: int, mark: int) -> None:
        self.session = session
        self.number = number
        self.queue = queue
        self.granted = granted
        self.delivered = 0
        self.lease_ms = lease_ms
        self.mark = mark
        self.spans: dict[Span, None] = {}
        self.queued = False
        self.attached = True

    @property
    def credit(self) -> int:
        """How many more messages it may be delivered."""
        return self.granted - self.delivered

    def line_up(self) -> None:
        """Puts it at the end of its queue's line, when it can take a message and does not stand there yet."""
        if self.attached and not self.queued and self.granted > self.delivered:
            self.queued = True
            self.queue.waiting[self] = None
