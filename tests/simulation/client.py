"""A client: the real conversation, driven at random, that checks what it hears against what it said."""

from __future__ import annotations

from functools import partial

from simulation.promises import expect, messages_of
from wherry import errors
from wherry.conversation import (
    Answered,
    Confirmed,
    ConsumerStopped,
    Conversation,
    Delivered,
    Ended,
    Envelope,
    Failed,
    Settled,
    Welcomed,
)
from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry.wire.messages import pack_lengths, pack_sizes

SCRATCH = memoryview(bytearray(262_144))
VERBS = (*[Verb.ACK] * 8, Verb.NACK, Verb.NACK, Verb.REJECT, Verb.RELEASE, Verb.EXTEND, Verb.EXTEND)
DELAYS = (0, 0, 0, 0, 0, 0, 5, 50, 400)
TTLS = (0, 0, 0, 0, 0, 0, 30, 300)
SUBJECTS = ("topic.a", "topic.b")
STATES = ("ready", "delayed", "leased", "dead")
EDITS = ("alter", "cancel", "cancel", "redrive", "redrive")
ODDITIES = (
    *("declare", "peek", "peek", "info", "list", "purge", "delete", "pause", "resume", "resume", "stop"),
    *EDITS,
)
CHANGES = {
    "max_messages": (5, 40, 200),
    "max_bytes": (600, 5_000),
    "overflow": ("busy", "drop_oldest"),
    "max_leased": (0, 1, 5),
    "ordered": (False, True),
    "key_max_leased": (0, 2),
    "dead_max_messages": (0, 20),
}


class Held:
    """Messages that were delivered and are not settled yet."""

    __slots__ = ("consumer", "delivery", "high", "low")

    def __init__(self, delivery, low, high, consumer):
        self.delivery = delivery
        self.low = low
        self.high = high
        self.consumer = consumer


class Client:
    """One client; it comes back after every disconnect.

    Attributes:
        link: its connection; None while it has none.
        unknown: how many requests ended without an answer.
    """

    def __init__(self, number, rng, audit, settings, clock):
        self.number = number
        self.link = None
        self.conversation = None
        self.unknown = 0
        self.held = []
        self.consumers = {}
        self._old = []
        self._rng = rng
        self._audit = audit
        self._settings = settings
        self._clock = clock
        self._names = list(settings.queues)
        self._serial = 0
        self._draining = False

    # Chance.

    def _below(self, limit):
        return int(self._rng.random() * limit)

    def _pick(self, options):
        return options[int(self._rng.random() * len(options))]

    # Its connection.

    def connect(self, link):
        """A connection is there."""
        self.link = link
        self.conversation = Conversation("", f"client {self.number}", 0, SCRATCH)
        self.held, self.consumers = [], {}
        self._draining = False
        self.send()

    def disconnect(self):
        """The connection is gone, for the client; it does not forget what it held."""
        self.link = None
        self._old = self.held[-5:]
        self._take(self.conversation.end(errors.Disconnected("the simulation cut it")))

    def send(self):
        """Hands what it has to say to the network."""
        self.link.to_broker += b"".join(self.conversation.data_to_send())

    def hear(self, data):
        """Bytes have come."""
        self._take(self.conversation.receive(self.conversation.reader.feed(data)))

    # What it does.

    def act(self):
        """Does something, at random, once it is welcome."""
        if self.conversation.welcome is None:
            return
        chance = self._rng.random()
        if self._old and chance < 0.05:
            self._settle_old(self._old.pop())
        elif self._rng.random() < self._settings.commit_share:
            self.commit()
        elif self.held and chance < self._settings.settle_share:
            self.settle()
        elif self._rng.random() < self._settings.oddity_share:
            self.do_oddity(self._pick(ODDITIES))
        elif self._rng.random() < 0.07 or not self.consumers:
            self.consume(self._pick(self._names))
        elif self._rng.random() < self._settings.topic_share:
            self.publish_topic()
        else:
            self.publish()
        if self._rng.random() < 0.7:
            self.send()

    def finish(self):
        """Settles all that it holds, and asks for more; for the end, when everything has to drain."""
        if self.conversation.welcome is None:
            return
        if not self._draining:
            self._draining = True
            for name in self._names:
                self._declare(name)
                self._ask(commands.Pause, name, False)
                self.consume(name)
        for held in self.held:
            self._settle(held, Verb.ACK, held.low, held.high - held.low)
        self.held = []
        self.send()

    def _ask(self, kind, *fields):
        self.conversation.request(lambda request: kind(request, *fields), kind, self._deadline())

    def _deadline(self):
        return self._clock.steady_ms / 1000 + 3600

    def _declare(self, name):
        self._ask(commands.Declare, name, self._settings.queues[name])

    def _message(self, name):
        self._serial += 1
        size = self._below(2500 if self._settings.big_messages and self._rng.random() < 0.1 else 60)
        body = f"{name}/{self.number}/{self._serial}/".encode()
        body += bytes([65 + self._serial % 26]) * size
        self._audit.sent[b"\x80" + body] = self._settings.bound[name] if name in SUBJECTS else (name,)
        return (b"\x80", body)

    def _envelope(self):
        if self._rng.random() < 0.6:
            return Envelope()
        return Envelope(
            priority=self._below(3),
            key=self._pick(("", "", "ann", "bob")),
            delay_ms=self._pick(DELAYS),
            ttl_ms=self._pick(TTLS),
            dedupe=self._pick(("", "", "k1", "k2", "k3", f"n{self._serial}")),
        )

    def publish(self):
        """Publishes a few messages, one by one or as a batch."""
        name, envelope = self._pick(self._names), self._envelope()
        if self._rng.random() < 0.5:
            messages = [self._message(name) for _ in range(1 + self._below(6))]
            waiter = (name, [b"".join(each) for each in messages])
            self.conversation.publish_batch(name, envelope, messages, waiter, self._deadline())
            return
        deadline = self._deadline()
        for _ in range(1 + self._below(4)):
            message = self._message(name)
            self.conversation.publish(name, envelope, message, (name, [b"".join(message)]), deadline)

    def publish_topic(self):
        """Publishes a few messages to a subject, as one batch."""
        subject = self._pick(SUBJECTS)
        envelope = (self._below(3), "", self._pick(DELAYS), 0, self._pick(TTLS), self._pick(("", "", "", "k1", "k2")))
        messages = [b"".join(self._message(subject)) for _ in range(1 + self._below(4))]
        lengths, anyway = pack_sizes([len(each) for each in messages]), self._rng.random() < 0.5
        block = b"".join(messages)
        self._ask(partial(commands.PublishTopic, block=block), subject, lengths, *envelope, anyway)

    def consume(self, name):
        """Attaches a consumer."""
        window = 1 + self._below(12)
        number = self.conversation.consume(
            name, window, self._pick((0, 0, 15, 300)), commands.Consume, self._deadline()
        )
        self.consumers[number] = name

    def settle(self):
        """Settles, in one way or another, some of what it holds."""
        position = self._below(len(self.held))
        held = self.held[position]
        verb = self._pick(VERBS)
        low, high = held.low, held.high
        if high - low > 1 and self._rng.random() < 0.4:
            low, high = low + self._below(2), high - self._below(2)
        if low >= high:
            return
        self._settle(held, verb, low, high - low)
        if verb == Verb.EXTEND or self._rng.random() < 0.02:
            return
        del self.held[position]
        for part in ((held.low, low), (high, held.high)):
            if part[0] < part[1]:
                self.held.append(Held(held.delivery, *part, held.consumer))

    def commit(self):
        """Settles some of what it holds and publishes a little, all or nothing."""
        count = min(len(self.held), self._below(3))
        taken = [self.held.pop(self._below(len(self.held))) for _ in range(count)]
        settles, rows, block = [], [], b""
        for held in taken:
            delivery, verb = held.delivery, self._pick(VERBS[:-2])
            row = (held.low, held.high - held.low, delivery.attempt)
            settles.append((delivery.queue, verb, delivery.epoch, (row,), self._pick((None, 10)), "why"))
        shared = (self._pick(self._names), self._envelope()) if self._rng.random() < 0.3 else None
        for _ in range(self._below(4 if taken else 2)):
            name, envelope = shared or (self._pick(self._names), self._envelope())
            messages = [b"".join(self._message(name)) for _ in range(1 + self._below(3))]
            rows.append((name, pack_lengths(messages), *envelope))
            block += b"".join(messages)
        self.conversation.request(
            lambda request: commands.Commit(request, tuple(settles), tuple(rows), block=block), taken, self._deadline()
        )

    def _settle(self, held, verb, low, count):
        duration_ms = self._pick((None, None, 0, 10, 200)) if verb in {Verb.NACK, Verb.EXTEND} else None
        if verb == Verb.EXTEND and duration_ms == 0:
            duration_ms = 100
        waiter = (verb, held.delivery, low, count)
        self.conversation.settle(held.delivery, verb, low, count, waiter, self._deadline(), duration_ms, "why")
        if verb != Verb.EXTEND:
            self.conversation.finish(held.consumer, count)

    def _settle_old(self, held):
        """Settles what was delivered on another connection: its lease is over."""
        waiter = (Verb.ACK, held.delivery, held.low, held.high - held.low)
        self.conversation.settle(held.delivery, Verb.ACK, *waiter[2:], waiter, self._deadline())

    def purge_all(self):
        """Empties all queues, but for what is leased."""
        if self.conversation.welcome is not None:
            for name in self._names:
                self._ask(commands.Purge, name, ("ready", "delayed", "dead"))
            self.send()

    def do_oddity(self, what):
        """Does one of the rarer things."""
        name = self._pick(self._names)
        if what in EDITS:
            self._edit(what, name)
            return
        rarely = self._rng.random() < 0.3
        if what == "declare":
            self._declare(name)
        elif what == "peek":
            self._ask(commands.Peek, name, self._pick(STATES), self._below(50), 1 + self._below(20))
        elif what == "info":
            self._ask(commands.Info, name)
        elif what == "list":
            self._ask(commands.ListQueues)
        elif what == "purge" and rarely:
            self._ask(commands.Purge, name, self._pick((("ready", "delayed"), ("dead",), ("delayed", "dead"))))
        elif what == "delete" and rarely:
            self._ask(commands.Delete, name)
            self._declare(name)
        elif what in {"pause", "resume"}:
            self._ask(commands.Pause, name, what == "pause" and rarely)
        elif what == "stop" and self.consumers:
            number = self._pick(list(self.consumers))
            del self.consumers[number]
            self.conversation.stop(number, commands.Stop, self._deadline())

    def _edit(self, what, name):
        """Changes a queue, or messages without a delivery."""
        if what == "alter":
            option = self._pick(list(CHANGES))
            self._ask(commands.Alter, name, {option: self._pick(CHANGES[option])})
        elif what == "cancel":
            first = self._pick(self.held).low if self.held and self._rng.random() < 0.5 else 1 + self._below(60)
            self._ask(commands.Cancel, name, ((first, 1 + self._below(3)),))
        else:
            self._ask(commands.Redrive, name, ((1 + self._below(20), 100),))

    # What it hears.

    def _take(self, events):
        for event in events:
            handler = _EVENTS.get(type(event))
            if handler is not None:
                handler(self, event)

    def _confirmed(self, event):
        offset = event.first
        name = self._audit.key_name(event.queue)
        for queue, messages in event.waiters:
            expect(queue == event.queue, "a confirm is of what was published", event)
            for message in messages if not event.duplicate else ():
                self._audit.check_identity((name, offset), message)
                offset += 1

    def _delivered(self, event):
        name = self.link.consumers[event.consumer]
        messages = iter(messages_of(event.lengths, event.block))
        for delivery in event.deliveries:
            for offset in range(delivery.first, delivery.first + delivery.count):
                self._audit.check_identity((name, offset), next(messages))
            self.held.append(Held(delivery, delivery.first, delivery.first + delivery.count, event.consumer))

    def _answered(self, event):
        if type(event.reply) is replies.Committed:
            for held in event.waiter:
                self.conversation.finish(held.consumer, held.high - held.low)

    def _failed(self, event):
        for waiter in event.waiters:
            error = event.error()
            if isinstance(waiter, list) and isinstance(error, errors.Refused):
                self.held += waiter
            self.unknown += isinstance(error, errors.Disconnected)
            if isinstance(waiter, tuple | list) and isinstance(error, errors.Internal):
                expect(False, "the broker has no bugs", error)

    def _settled(self, event):
        for _, error in event.outcomes:
            self.unknown += isinstance(error, errors.Disconnected)

    def _stopped(self, event):
        self.consumers.pop(event.consumer, None)
        if self._draining:
            self._draining = False  # to be attached again

    def _welcomed(self, _event):
        for name in self._names:
            self._declare(name)
        self.send()

    def _ended(self, event):
        expect(isinstance(event.error, errors.Disconnected), "both ends keep to the protocol", event.error)


_EVENTS = {
    Answered: Client._answered,
    Confirmed: Client._confirmed,
    Delivered: Client._delivered,
    Failed: Client._failed,
    Settled: Client._settled,
    ConsumerStopped: Client._stopped,
    Welcomed: Client._welcomed,
    Ended: Client._ended,
}
