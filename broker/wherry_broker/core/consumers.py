"""Sessions and consumers as the core knows them: credit, and who holds which lease. No restart survives any of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry_broker.core.batch import Span
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.stores import Watch


class Session:
    """One client, for as long as it is attached.

    Attributes:
        number: what effects name it by.
        producer: the id under which it numbers its publishes; "" for none.
        room_bytes: how many bytes may be delivered to it before it has to be written to the socket.
        consumers: those that are attached, by number.
        parked: consumers that wait for room, in turn.
        retired: consumers that take no more but may hold leases still.
        answered_bytes: about how much it was answered since it was last known to take something.
        watches: what it waits for in stores.
    """

    __slots__ = ("answered_bytes", "consumers", "number", "parked", "producer", "retired", "room_bytes", "watches")

    def __init__(self, number: int, room_bytes: int, producer: str = "") -> None:
        self.number = number
        self.producer = producer
        self.room_bytes = room_bytes
        self.answered_bytes = 0
        self.consumers: dict[int, Consumer] = {}
        self.parked: dict[Consumer, None] = {}
        self.retired: list[Consumer] = []
        self.watches: dict[Watch, None] = {}

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
        mark: the commit that all it is told waits for, so that it follows what one that had its number before was told.
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
