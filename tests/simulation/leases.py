"""The books of leases: how many may run at a time, which of a key, and who has to be told that one is over."""

from __future__ import annotations

from simulation.promises import expect, offsets
from wherry_broker.core import records


class Leases:
    """The leases of one life of a broker."""

    def __init__(self):
        self._open = {}
        self._keys = {}
        self._retrying = {}
        self._untold = {}
        self._tokens = {}

    def leased(self, link, name, say, options, now):
        """A span is leased; `name` is what its queue is called in the books."""
        first, count, attempt, *_, key = say.row
        mine = self._open.setdefault(name, {})
        of_key = [offset for offset in mine if self._keys[name, offset] == key]
        limit = options["max_leased"]
        expect(not limit or len(mine) + count <= limit, "no more are leased than may be", name, len(mine), count)
        if options["rate_per_s"]:
            self._spend(name, count, options["rate_per_s"], now)
        if key:
            limit = options["key_max_leased"]
            within = options["ordered"] or not limit or len(of_key) + count <= limit
            expect(within, "no more of a key are leased than may be", name, key, of_key)
        if key and options["ordered"]:
            expect(count == 1 and not of_key, "an ordered key is delivered one at a time", name, key, first, of_key)
            waiting = [at for (of, at), until in self._retrying.items() if of == name and self._keys[of, at] == key]
            waiting = [at for at in waiting if at != first and self._retrying[name, at] > now]
            expect(not waiting, "an ordered key waits for its retries", name, key, first, waiting)
        for offset in range(first, first + count):
            self._keys[name, offset] = key
            self._retrying.pop((name, offset), None)
            mine[offset] = (link, say.consumer, attempt)

    def _spend(self, name, count, rate, now):
        """So many are delivered: no more than come in a tenth of a second at once, nor than come in the long run."""
        burst = max(1.0, rate / 10)
        tokens, at = self._tokens.get(name, (burst, now))
        tokens = min(burst, tokens + rate * (now - at) / 1000) - count
        expect(tokens > -1e-6, "no more are delivered a second than may be", name, count, tokens)
        self._tokens[name] = (tokens, now)

    def changed(self, name):
        """A queue has other options: what is spent of its rate is forgotten."""
        self._tokens.pop(name, None)

    def applied(self, name, record):
        """A fact ends deliveries, or takes messages out."""
        for offset in offsets(record.ranges):
            holder = self._open.get(name, {}).pop(offset, None)
            self._retrying.pop((name, offset), None)
            if holder is not None and record.cause == records.CANCELLED:
                link, consumer, attempt = holder
                self._untold[link, consumer, offset, attempt] = name
            if holder is not None and type(record) is records.Returned and record.ready_at_ms:
                self._retrying[name, offset] = record.ready_at_ms

    def deleted(self, name):
        """A queue has gone."""
        self._open.pop(name, None)
        self._tokens.pop(name, None)
        self._retrying = {key: until for key, until in self._retrying.items() if key[0] != name}

    def told(self, link, cancelled):
        """A consumer is told that messages that it holds were cancelled."""
        for first, count, attempt in cancelled.deliveries:
            for offset in range(first, first + count):
                known = self._untold.pop((link, cancelled.consumer, offset, attempt), None)
                expect(known, "only who holds a message is told that it was cancelled", cancelled)

    def check_told(self):
        """Nothing is left to be said."""
        untold = [key[1:] for key in self._untold if not key[0].closed]
        expect(not untold, "who holds a cancelled message is told", untold)
