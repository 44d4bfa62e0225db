"""What stores do, said as plainly as possible; see `model`. Written from protocol.md, and not from the core."""

from __future__ import annotations

from types import SimpleNamespace

from model import Queue


class Store(Queue):
    """One store: its messages are its values.

    Attributes:
        watches: who waits, in turn: session, request, key, the version they know, and until when they wait.
    """

    def __init__(self, name, options, first, asked):
        super().__init__(name, options, first, asked)
        self.watches = []

    def value(self, key):
        return next((each for each in self.messages if each["key"] == key), None)

    def version(self, key):
        value = self.value(key)
        return value["offset"] if value else 0

    def shown(self, position, key):
        """What a VALUES tells of a key: its row, and its value."""
        value = self.value(key)
        return (position, value["offset"], value["expires_at"]), value["body"]

    def expiry(self, ttl, now):
        ttls = [each for each in (ttl, self.options["ttl_ms"]) if each]
        return now + min(ttls) if ttls else 0

    def put(self, key, body, expires_at, now):
        """What is answered: the version, or ("busy" or "too_large", the bound)."""
        old = [each for each in self.messages if each["key"] == key]
        dropped = []
        if not self.fits([body], old):
            bound = self.never_fits([body])
            if bound:
                return ("too_large", bound)
            if self.options["overflow"] != "drop_oldest":
                return ("busy", self.full_bound(old))
            others = [each for each in self.messages if each["key"] != key]
            while not self.fits([body], old + dropped):
                dropped.append(others.pop(0))
        for message in dropped:
            self.remove(message, "dropped")
        for message in old:
            self.remove(message, "replaced")
        self.store([body], SimpleNamespace(priority=0, key=key), now, 0, expires_at)
        return self.next_offset - 1

    def full_bound(self, without):
        return "max_messages" if len(self.messages) - len(without) + 1 > self.options["max_messages"] else "max_bytes"

    def increment(self, key, by, ttl, now):
        """The same of a number; or ("invalid", "")."""
        value = self.value(key)
        if value and not value["body"].decode().removeprefix("-").isdecimal():
            return ("invalid", "")
        number = by + (int(value["body"]) if value else 0)
        expires_at = value["expires_at"] if value else self.expiry(ttl, now)
        return self.put(key, str(number).encode(), expires_at, now)

    def answered(self):
        """Takes those out whom a dispatch answers, each with what it tells: (session, request, row, value)."""
        due = [each for each in self.watches if self.version(each["key"]) > each["after"]]
        self.watches = [each for each in self.watches if each not in due]
        return [(each["session"], each["request"], *self.shown(0, each["key"])) for each in due]

    def timed_out(self, now):
        """Takes those out whose time is over."""
        due = [each for each in self.watches if each["until"] <= now]
        self.watches = [each for each in self.watches if each not in due]
        return [(each["session"], each["request"]) for each in due]

    def next_moment(self, since):
        moments = [super().next_moment(since), *(each["until"] for each in self.watches)]
        return min((each for each in moments if each is not None), default=None)

    def tick(self, since, now):
        watches, self.watches = self.watches, []  # they change nothing of what is there
        super().tick(since, now)
        self.watches = watches
