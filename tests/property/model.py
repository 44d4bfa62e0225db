"""What queues do, said as plainly as possible: a list of messages, one dict each, looked through from end to end.

Written from the tables of the design and the docstrings of the commands, and not from the core, which it is held
against. It knows no spans, indexes, lanes, heaps or records. Where the core is free to choose (which consumer, how many
at once, which of the messages that died in the same moment makes room), `deliver` and `drop_dead` take its choice and
check that it was allowed.
"""

from __future__ import annotations

import operator
from itertools import accumulate
from types import SimpleNamespace

STATES = ("ready", "delayed", "leased", "dead")
WAITING = ("ready", "delayed")


def bodies_of(lengths, data):
    """The messages of a block."""
    sizes = [int.from_bytes(lengths[at : at + 4], "big") for at in range(0, len(lengths), 4)]
    ends = list(accumulate(sizes))
    assert (ends[-1] if ends else 0) == len(data)
    return [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def matches(pattern, subject):
    """Whether a pattern matches a subject, both as lists of tokens."""
    if pattern == [">"]:
        return bool(subject)
    if not pattern or not subject:
        return pattern == subject
    return pattern[0] in ("*", subject[0]) and matches(pattern[1:], subject[1:])


class Queue:
    """One queue.

    Attributes:
        messages: those that it holds, by offset.
        dedupe: key to (first offset, when it is forgotten).
        asked: the options that somebody asked for.
    """

    def __init__(self, name, options, first, asked):
        self.name = name
        self.options = options
        self.next_offset = first
        self.messages = []
        self.dedupe = {}
        self.published = 0
        self.held_before = {}  # what it held when its options were changed: it may still hold as much
        self.removed = {}
        self.ended = {}
        self.asked = set(asked)

    def where(self, *states):
        return [each for each in self.messages if each["state"] in states]

    def at(self, offset):
        return next((each for each in self.messages if each["offset"] == offset), None)

    def alter(self, options):
        window = self.options["dedupe_window_ms"]
        shorter = max(0, window - options.get("dedupe_window_ms", window))
        self.dedupe = {key: (first, until - shorter) for key, (first, until) in self.dedupe.items()}
        self.options = {**self.options, **options}
        self.held_before = {
            "messages": len(self.messages),
            "bytes": self.size(),
            "leased": self.count("leased"),
        }

    def count(self, state):
        return len(self.where(state))

    def size(self, *states):
        return sum(len(each["body"]) for each in self.where(*(states or STATES)))

    def remove(self, message, cause):
        self.messages.remove(message)
        self.removed[cause] = self.removed.get(cause, 0) + 1

    def fits(self, bodies, without=()):
        held = [each for each in self.messages if each not in without]
        size = sum(len(each["body"]) for each in held) + sum(map(len, bodies))
        return len(held) + len(bodies) <= self.options["max_messages"] and size <= self.options["max_bytes"]

    # Publish.

    def publish(self, bodies, command, now, lineage=()):
        """What is answered: ("confirm", first, duplicate) or ("error", code, bound, first, accepted).

        `lineage` are the ancestors of the messages, and None when their parent has ended.
        """
        options = self.options
        first, until = self.dedupe.get(command.dedupe, (0, 0))
        if command.dedupe and until > now:
            return ("confirm", first, True)
        ready_at, expires_at = self.moments(command, now)
        if not self.is_valid(command, now):
            return ("error", "invalid", "", 0, 0)
        if lineage is None:
            return ("error", "stale_delivery", "", 0, 0)
        divisible = command.divisible and not command.dedupe
        self.make_room(bodies)
        bound = self.never_fits(bodies[:1] if divisible else bodies)
        if bound:
            return ("error", "too_large", bound, 0, 0)
        taken = bodies if self.fits(bodies) else []
        while divisible and len(taken) < len(bodies) and self.fits(bodies[: len(taken) + 1]):
            taken = bodies[: len(taken) + 1]
        first = self.next_offset
        self.store(taken, command, now, ready_at, expires_at, lineage)
        if taken == bodies:
            if command.dedupe and options["dedupe_window_ms"]:
                self.dedupe[command.dedupe] = (first, now + options["dedupe_window_ms"])
            return ("confirm", first, False)
        over = len(self.messages) + (1 if divisible else len(bodies)) > options["max_messages"]
        return ("error", "busy", "max_messages" if over else "max_bytes", first if taken else 0, len(taken))

    def moments(self, command, now):
        """When the messages of a publish become ready, and when they expire."""
        ttls = [each for each in (command.ttl_ms, self.options["ttl_ms"]) if each]
        return max(command.at_ms, now + command.delay_ms), now + min(ttls) if ttls else 0

    def is_valid(self, command, now):
        ready_at, expires_at = self.moments(command, now)
        return command.priority < self.options["priorities"] and not (expires_at and now < ready_at >= expires_at)

    def is_bound(self, subject):
        return any(matches(pattern.split("."), subject.split(".")) for pattern in self.options["bind"])

    def knows(self, key, now):
        return bool(key) and self.dedupe.get(key, (0, 0))[1] > now

    def refusal(self, bodies, command, now):
        """Why messages of a topic are refused; "" when they are not."""
        if self.never_fits(bodies):
            return "too_large"
        spare = self.where("ready") if self.options["overflow"] == "drop_oldest" else ()
        if not self.fits(bodies, spare):
            return "busy"
        ready_at, expires_at = self.moments(command, now)
        return "invalid" if expires_at and now < ready_at >= expires_at else ""

    def take(self, bodies, command, now):
        """Stores messages of a topic, which fit."""
        ready_at, expires_at = self.moments(command, now)
        self.make_room(bodies)
        if command.dedupe and self.options["dedupe_window_ms"]:
            self.dedupe[command.dedupe] = (self.next_offset, now + self.options["dedupe_window_ms"])
        priority = min(command.priority, self.options["priorities"] - 1)
        self.store(bodies, command._replace(priority=priority), now, ready_at, expires_at)

    def never_fits(self, bodies):
        if len(bodies) > self.options["max_messages"]:
            return "max_messages"
        return "max_bytes" if sum(map(len, bodies)) > self.options["max_bytes"] else ""

    def make_room(self, bodies):
        if self.options["overflow"] != "drop_oldest":
            return
        ready = self.where("ready")
        for count in range(len(ready) + 1):
            if self.fits(bodies, ready[:count]):
                for message in ready[:count]:
                    self.remove(message, "dropped")
                return

    def keep(self, bodies, command, now):
        """Stores the messages of a publish that there is room for, and remembers its dedupe key."""
        if command.dedupe and self.options["dedupe_window_ms"]:
            self.dedupe[command.dedupe] = (self.next_offset, now + self.options["dedupe_window_ms"])
        self.store(bodies, command, now, *self.moments(command, now))

    def store(self, bodies, command, now, ready_at, expires_at, lineage=()):
        for body in bodies:
            self.messages.append(
                {
                    "offset": self.next_offset,
                    "body": body,
                    "priority": command.priority,
                    "key": command.key,
                    "published_at": now,
                    "expires_at": expires_at,
                    "state": "delayed" if ready_at > now else "ready",
                    "due": ready_at if ready_at > now else 0,
                    "attempt": 0,
                    "released": 0,
                    "failure": None,
                    "died_at": 0,
                    "holder": None,
                    "lineage": lineage,
                }
            )
            self.next_offset += 1
        self.published += len(bodies)

    # Deliver and settle.

    def turn(self):
        """The ready messages in the order in which they are to be delivered."""
        return sorted(self.where("ready"), key=lambda each: (-each["priority"], each["offset"]))

    def allowed(self, key):
        """How many more messages of a key may be leased."""
        of_key = [each for each in self.messages if each["key"] == key] if key else []
        leased = sum(each["state"] == "leased" for each in of_key)
        retrying = sum(each["state"] == "delayed" and each["attempt"] > 0 for each in of_key)
        if key and self.options["ordered"]:
            return int(not leased and not retrying)
        limit = self.options["key_max_leased"]
        return limit - leased if key and limit else len(self.messages)

    def next_ones(self, key):
        """The ready messages of a key in their turn, if any of them may be delivered now."""
        turn = [each for each in self.turn() if self.allowed(each["key"]) > 0]
        priority = turn[0]["priority"] if turn else None
        return [each for each in turn if (each["priority"], each["key"]) == (priority, key)]

    def may_lease(self):
        """How many more may be leased."""
        limit = self.options["max_leased"]
        return limit - self.count("leased") if limit else len(self.messages)

    def settle(self, verb, command, epoch, now, jitter):
        """Does what is asked for what is really leased under the named attempt; returns the stale rest as ranges."""
        stale = []
        for first, count, attempt in command.deliveries:
            run = 0
            for offset in range(first, first + count):
                message = self.at(offset)
                leased = message is not None and message["state"] == "leased"
                if leased and message["attempt"] + 1 == attempt and command.epoch == epoch:
                    self.settle_one(message, verb, command, now, jitter)
                    run = 0
                elif run:
                    run += 1
                    stale[-1] = (stale[-1][0], run)
                else:
                    run = 1
                    stale.append((offset, 1))
        return tuple(stale)

    def settle_one(self, message, verb, command, now, jitter):
        if verb == "extend":
            message["due"] = now + (command.duration_ms or message["own_lease"] or self.options["lease_ms"])
        elif verb == "ack":
            self.remove(message, "settled")
        elif verb == "reject":
            self.count_end("rejected")
            self.die(message, ("rejected", command.text, now), now)
        elif verb == "release":
            self.end(message, "released", command.text, now, command.duration_ms or 0)
        else:
            options = self.options
            spent = message["attempt"] + 1 - message["released"]
            longest = min(options["retry_cap_ms"], options["retry_base_ms"] * options["retry_factor"] ** (spent - 1))
            delay = int(jitter * int(longest)) if command.duration_ms is None else command.duration_ms
            self.end(message, "failed", command.text, now, delay)

    def leaves(self, message, verb, now):
        """Whether a settle takes a leased message out."""
        spent = message["attempt"] + 1 - message["released"]
        dies = verb == "reject" or (verb == "nack" and spent >= self.options["max_attempts"])
        return verb == "ack" or (not dies and bool(message["expires_at"]) and message["expires_at"] <= now)

    def end(self, message, cause, text, now, delay):
        """A delivery ended, and not well."""
        self.count_end(cause)
        spent = message["attempt"] + 1 - message["released"]
        if cause != "released" and spent >= self.options["max_attempts"]:
            self.die(message, ("attempts", text or f"attempt {spent} was {cause}", now), now)
        elif message["expires_at"] and message["expires_at"] <= now:
            self.remove(message, "expired")
        else:
            message["attempt"] += 1
            message["holder"] = None
            message["due"] = now + delay if delay else 0
            message["state"] = "delayed" if delay else "ready"
            if cause == "released":
                message["released"] += 1
            if cause != "released" or delay or text:
                message["failure"] = (cause, text, now)

    def count_end(self, cause):
        self.ended[cause] = self.ended.get(cause, 0) + 1

    def die(self, message, failure, now):
        message.update(state="dead", failure=failure, died_at=now, due=0, holder=None)
        message["attempt"] += 1

    def redrive(self, message, target, now):
        """A dead message is ready again, here with all its attempts before it, or as a new one in another queue."""
        if target is self:
            message.update(state="ready", released=message["attempt"], due=0)
            return
        self.remove(message, "moved")
        ttl = target.options["ttl_ms"]
        priority = min(message["priority"], target.options["priorities"] - 1)
        envelope = SimpleNamespace(priority=priority, key=message["key"])
        target.store([message["body"]], envelope, now, 0, now + ttl if ttl else 0, message["lineage"])

    def drop_dead(self, kept_by_core):
        """Drops the oldest dead beyond the bound; `kept_by_core` tells messages apart that died in one moment."""
        dead = sorted(self.where("dead"), key=lambda each: (each["died_at"], each["offset"] in kept_by_core))
        for message in dead[: max(0, len(dead) - self.options["dead_max_messages"])]:
            self.remove(message, "dropped")

    # Time.

    def next_moment(self, since):
        """When something changes by itself, or may."""
        due = [each["due"] for each in self.where("delayed", "leased")]
        return min(due + [each["expires_at"] for each in self.messages if each["expires_at"] > since], default=None)

    def tick(self, since, now):
        """Everything that falls due until `now`, moment by moment."""
        moment = self.next_moment(since)
        while moment is not None and moment <= now:
            for message in self.where("leased"):
                if message["due"] <= moment:
                    self.end(message, "lost", "", now, 0)
            for message in self.where(*WAITING):
                if message["expires_at"] and message["expires_at"] <= moment:
                    self.remove(message, "expired")
                elif message["state"] == "delayed" and message["due"] <= moment:
                    message.update(state="ready", due=0)
            since = moment
            moment = self.next_moment(since)

    # Reading.

    def info(self, consumers, now):
        oldest = min((each["published_at"] for each in self.messages), default=now)
        return {
            "name": self.name,
            **{state: self.count(state) for state in STATES},
            "bytes": self.size(),
            "consumers": consumers,
            "next_offset": self.next_offset,
            "published": self.published,
            "removed": self.removed,
            "ended": self.ended,
            "oldest_age_ms": now - oldest,
            "options": self.options,
            "asked": tuple(sorted(self.asked)),
        }

    def row(self, consumers):
        return (self.name, *(self.count(state) for state in STATES), self.size(), consumers)


def seen(message, *, delivered=False):
    """What a delivery or a peek shows of a message: its attempt counts the delivery that runs."""
    shown = operator.itemgetter("offset", "released", "published_at", "priority", "key", "body")(message)
    return (message["attempt"] + (delivered or message["state"] == "leased"), *shown)


def expanded(rows, lengths, data):
    """The same of rows and a block that came from the core, message by message."""
    bodies = iter(bodies_of(lengths, data))
    result = [
        (attempt, offset, released, published_at, priority, key, next(bodies))
        for first, count, attempt, released, published_at, priority, key in rows
        for offset in range(first, first + count)
    ]
    assert next(bodies, None) is None
    return result


class Consumer:
    """One consumer; `credit` is what it may still be delivered."""

    def __init__(self, queue, credit, lease_ms):
        self.queue = queue
        self.granted = credit
        self.delivered = 0
        self.lease_ms = lease_ms

    @property
    def credit(self):
        return self.granted - self.delivered


class Producer:
    """What is remembered of the publishes of one producer."""

    def __init__(self, window_ms):
        self.window_ms = window_ms
        self.forget()

    def forget(self):
        self.answered, self.until, self.stored = 0, 0, {}

    def remember(self, command, result, now):
        """A publish was stored: `result` is its queue, first offset and how many messages that were."""
        self.known(0, now)
        self.until = now + self.window_ms
        self.answered = max(self.answered, command.answered)
        self.stored = {each: value for each, value in self.stored.items() if each > self.answered}
        self.stored[command.sequence] = result

    def known(self, sequence, now):
        """What was remembered of a sequence; None for nothing."""
        if now >= self.until:
            self.forget()
        return self.stored.get(sequence)


class Model:
    """All queues, and who is attached to them."""

    def __init__(self, epoch, now, span_bytes_max, producer_window_ms):
        self.producer = Producer(producer_window_ms)
        self.epoch = epoch
        self.now = now
        self.span_bytes_max = span_bytes_max
        self.queues = {}
        self.next_first = 1
        self.rooms = {}
        self.consumers = {}

    def declare(self, name, options, asked=()):
        self.queues[name] = Queue(name, options, self.next_first, asked)

    def reconfigure(self, base):
        """Other defaults and policies; `base` gives what a queue of a name has that asks for nothing."""
        for queue in self.queues.values():
            wanted = {name: value for name, value in base(queue.name).items() if name not in queue.asked}
            if any(queue.options[name] != value for name, value in wanted.items()):
                queue.alter(wanted)

    def bound(self, subject):
        return [queue for queue in self.queues.values() if queue.is_bound(subject)]

    def topic(self, bodies, command, now):
        """What is answered: ("routed", queues, duplicate) or ("error", code, the queues that may be named)."""
        queues = self.bound(command.subject)
        if not queues and not command.allow_unroutable:
            return ("error", "unroutable", [""])
        new = [queue for queue in queues if not queue.knows(command.dedupe, now)]
        refused = {queue.name: queue.refusal(bodies, command, now) for queue in new}
        for code in ("too_large", "busy", "invalid"):
            if code in refused.values():
                return ("error", code, [name for name, why in refused.items() if why == code])
        for queue in new:
            queue.take(bodies, command, now)
        return ("routed", len(queues), bool(queues) and not new)

    def delete(self, name):
        """Returns how many messages went, and the consumers that were stopped."""
        queue = self.queues.pop(name)
        self.next_first = max(self.next_first, queue.next_offset)
        stopped = [key for key, consumer in self.consumers.items() if consumer.queue is queue]
        for key in stopped:
            del self.consumers[key]
        return len(queue.messages), stopped

    # Commits.

    def commit(self, settles, publishes, jitter):
        """Does all of a commit, or nothing.

        Args:
            settles: (queue, verb, the fields of a SETTLE) of each.
            publishes: (queue, bodies, the fields of a PUBLISH) of each.
            jitter: for the back-off.

        Returns:
            The reasons to refuse it, as (code, queue), and the rows of the answer when there are none.
        """
        reasons, ended = self.commit_settles(settles)
        plans, rows = self.commit_publishes(publishes, reasons)
        dropped = {}
        for name, bodies in plans.items():
            queue = self.queues[name]
            leaving = [
                message for of, message, verb, _ in ended if of is queue and queue.leaves(message, verb, self.now)
            ]
            ready = queue.where("ready") if queue.options["overflow"] == "drop_oldest" else []
            fitting = [n for n in range(len(ready) + 1) if queue.fits(bodies, [*leaving, *ready[:n]])]
            if not fitting:
                reasons.append(("too_large" if queue.never_fits(bodies) else "busy", name))
            dropped[name] = ready[: fitting[0]] if fitting else []
        if reasons:
            return reasons, ()
        for queue, message, verb, command in ended:
            queue.settle_one(message, verb, command, self.now, jitter)
        for name, messages in dropped.items():
            for message in messages:
                self.queues[name].remove(message, "dropped")
        for (name, bodies, command), (_, duplicate, _) in zip(publishes, rows, strict=True):
            if not duplicate:
                self.queues[name].keep(bodies, command, self.now)
        return [], rows

    def commit_reasons(self, settles, publishes):
        """The reasons to refuse it that have nothing to do with room."""
        reasons, _ = self.commit_settles(settles)
        self.commit_publishes(publishes, reasons)
        return reasons

    def commit_settles(self, settles):
        reasons, ended, named = [], [], set()
        for name, verb, command in settles:
            queue = self.queues.get(name)
            if verb == "extend":
                reasons.append(("invalid", name))
            for first, count, attempt in command.deliveries:
                for offset in range(first, first + count):
                    message = queue.at(offset) if queue else None
                    leased = message is not None and message["state"] == "leased"
                    if not leased or message["attempt"] + 1 != attempt or command.epoch != self.epoch:
                        reasons.append(("stale_delivery", name))
                    else:
                        ended.append((queue, message, verb, command))
                    if (name, offset) in named:
                        reasons.append(("invalid", name))
                    named.add((name, offset))
        return reasons, ended

    def commit_publishes(self, publishes, reasons):
        """The messages that each queue is to take, and the rows of the answer."""
        plans, rows, known = {}, [], {}
        for name, bodies, command in publishes:
            queue = self.queues[name]
            first, until = queue.dedupe.get(command.dedupe, (0, 0))
            if not command.dedupe or until <= self.now:
                first = known.get((name, command.dedupe), 0)
            if first:
                rows.append((first, True, queue.options["durability"]))
                continue
            if not queue.is_valid(command, self.now):
                reasons.append(("invalid", name))
            first = queue.next_offset + len(plans.setdefault(name, []))
            plans[name] += bodies
            rows.append((first, False, queue.options["durability"]))
            if command.dedupe and queue.options["dedupe_window_ms"]:
                known[name, command.dedupe] = first
        return plans, tuple(rows)

    def consumers_of(self, queue):
        return [key for key, consumer in self.consumers.items() if consumer.queue is queue]

    def attached(self, queue):
        """A row for each consumer of a queue: its client's name, what it holds, and what more it would take."""
        consumers = [self.consumers[key] for key in self.consumers_of(queue)]
        leased = queue.where("leased")
        return tuple(
            ("", sum(each["by"] is consumer for each in leased), max(0, consumer.credit)) for consumer in consumers
        )

    def stores(self):
        return [queue for queue in self.queues.values() if queue.options["kind"] == "store"]

    def tick(self, now):
        for queue in self.queues.values():
            queue.tick(self.now, now)
        self.now = now

    def next_moment(self):
        moments = (queue.next_moment(self.now) for queue in self.queues.values())
        return min((moment for moment in moments if moment is not None), default=None)

    def detach(self, session):
        del self.rooms[session]
        self.consumers = {key: each for key, each in self.consumers.items() if key[0] != session}
        for store in self.stores():
            store.watches = [each for each in store.watches if each["session"] != session]
        for queue in self.queues.values():
            for message in queue.where("leased"):
                if message["holder"][0] == session:
                    queue.end(message, "lost", "", self.now, 0)

    def deliver(self, session, number, lease_ms, messages):
        """The core has leased `messages` (as `expanded` gives them) to a consumer: was it right to?"""
        consumer = self.consumers[session, number]
        queue = consumer.queue
        key = messages[0][5]
        assert len(messages) <= queue.allowed(key), "too many leases of a key"
        due = queue.next_ones(key)[: len(messages)]
        assert [seen(each, delivered=True) for each in due] == messages, "not the messages whose turn it is"
        assert not queue.options["paused"]
        assert 0 < len(messages) <= consumer.credit, "credit is overspent"
        assert len(messages) <= queue.may_lease(), "too many leases"
        assert lease_ms == (consumer.lease_ms or queue.options["lease_ms"])
        size = sum(len(each["body"]) for each in due)
        assert self.rooms[session] > 0
        assert len(due) == 1 or size <= max(self.rooms[session], self.span_bytes_max)
        self.rooms[session] -= size
        consumer.delivered += len(due)
        for message in due:
            assert not message["expires_at"] or message["expires_at"] > self.now
            message.update(
                state="leased",
                due=self.now + lease_ms,
                holder=(session, number),
                by=consumer,
                own_lease=consumer.lease_ms,
            )

    def idle(self):
        """The consumers that could be delivered something now; after a dispatch there are none."""
        return [
            (session, number)
            for (session, number), consumer in self.consumers.items()
            if consumer.credit > 0
            and self.rooms[session] > 0
            and not consumer.queue.options["paused"]
            and any(consumer.queue.allowed(each["key"]) > 0 for each in consumer.queue.where("ready"))
            and consumer.queue.may_lease() > 0
        ]

    def restart(self, epoch):
        """The process was started anew: nobody is attached, and what was leased is ready or has expired meanwhile."""
        self.epoch = epoch
        self.rooms, self.consumers = {}, {}
        for store in self.stores():
            store.watches = []
        for queue in self.queues.values():
            for message in queue.where("leased"):
                message.update(state="ready", due=0, holder=None)
                if message["expires_at"] and message["expires_at"] <= self.now:
                    queue.remove(message, "expired")
