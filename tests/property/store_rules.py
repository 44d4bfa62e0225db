"""The steps of the core's machine that concern stores; see `test_core_model`."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from model_stores import Store

from wherry.model import commands, replies

KEYS = st.sampled_from(["j", "k", "l"])
VALUES = st.sampled_from([b"", b"7", b"-12", b"text", b"123456"])
TTLS = st.sampled_from([0, 0, 0, 5, 20, 60])
RARELY = st.sampled_from([False] * 4 + [True])


class StoreRules(RuleBasedStateMachine):
    """What is done to the one store, which is called `s`."""

    def model_store(self):
        if "s" not in self.model.queues:
            self.model.queues["s"] = Store("s", self.base("s"), self.model.next_first, {"kind"})
        return self.model.queues["s"]

    def ask(self, which, kind, *fields, **more):
        """Asks something of the store, which there is now; returns the session, the model's store, and the reply."""
        session = self.session(which)
        store = self.model_store()
        _, reply = self.submit(session, kind, "s", *fields, **more)
        return session, store, reply

    def declare_store(self, options):
        asked = {**options, "kind": "store"}
        self.model.queues["s"] = Store("s", {**self.base("s"), **asked}, self.model.next_first, asked)
        _, reply = self.submit(self.session(0), commands.Declare, "s", {**options, "kind": "store"})
        assert reply.created

    def stored(self, reply, expected, done):
        """A put was answered as the model says: `done` makes the answer of a version."""
        if isinstance(expected, tuple):
            self.refused(reply, expected[0])
            assert reply.bound == expected[1]
        else:
            assert reply == done(expected)
        self.pump()

    def told(self, reply, request, rows):
        """A VALUES says this."""
        found, bodies = tuple(row for row, _ in rows), [body for _, body in rows]
        lengths = b"".join(len(each).to_bytes(4, "big") for each in bodies)
        assert reply == replies.Values(request, found, lengths, reply.answered, b"".join(bodies))

    def watches_told(self, effects):
        """The effects of a dispatch are the answers that the model gives: those of each watch, once."""
        store = self.model.queues.get("s")
        expected = store.answered() if store is not None else []
        assert len(effects) == len(expected)
        by_number = {(effect.session, effect.say.request): effect.say for effect in effects}
        for session, request, row, body in expected:
            self.told(by_number[session, request], request, [(row, body)])

    def watches_over(self, effects):
        """The effects of time that goes by are the answers that come without a value."""
        store = self.model.queues.get("s")
        expected = store.timed_out(self.now) if store is not None else []
        found = sorted((effect.session, effect.say.request) for effect in effects)
        assert all(effect.say.values == () for effect in effects)
        assert found == sorted(expected)

    @rule(
        which=st.integers(0, 9),
        key=KEYS,
        value=VALUES,
        ttl_ms=TTLS,
        version=st.sampled_from([None, None, None, "right", "wrong", 0]),
    )
    def put(self, which, key, value, ttl_ms, version):
        before = self.model_store().version(key)
        wanted = {"right": before, "wrong": before + 1}.get(version, version)
        _, store, reply = self.ask(which, commands.Put, key, ttl_ms, wanted, value)
        if wanted is not None and wanted != before:
            self.refused(reply, "conflict")
            return
        expected = store.put(key, value, store.expiry(ttl_ms, self.now), self.now)
        self.stored(reply, expected, lambda version: replies.Done(self.request, version))

    @rule(which=st.integers(0, 9), keys=st.lists(KEYS, max_size=4).map(tuple))
    def fetch(self, which, keys):
        _, store, reply = self.ask(which, commands.Fetch, keys)
        assert reply.answered == len(keys)
        rows = [store.shown(position, key) for position, key in enumerate(keys) if store.value(key)]
        self.told(reply, self.request, rows)

    @rule(which=st.integers(0, 9), keys=st.lists(KEYS, max_size=2).map(tuple))
    def unset(self, which, keys):
        _, store, reply = self.ask(which, commands.Unset, keys)
        gone = [each for each in store.messages if each["key"] in keys]
        for message in gone:
            store.remove(message, "unset")
        assert reply == replies.Done(self.request, len(gone))

    @rule(which=st.integers(0, 9), key=KEYS, by=st.sampled_from([1, -1, 100, 0]), ttl_ms=TTLS)
    def increment(self, which, key, by, ttl_ms):
        _, store, reply = self.ask(which, commands.Increment, key, by, ttl_ms)
        expected = store.increment(key, by, ttl_ms, self.now)

        def done(version):
            value = store.value(key)
            return replies.Counted(self.request, int(value["body"]), version, value["expires_at"])

        self.stored(reply, expected, done)

    @rule(which=st.integers(0, 9), key=KEYS, ttl_ms=TTLS)
    def expire(self, which, key, ttl_ms):
        _, store, reply = self.ask(which, commands.Expire, key, ttl_ms)
        value = store.value(key)
        if value:
            value["expires_at"] = store.expiry(ttl_ms, self.now)
        assert reply == replies.Done(self.request, 1 if value else 0)

    @rule(which=st.integers(0, 9), key=KEYS, known=st.booleans(), wait_ms=st.sampled_from([0, 5, 30, 200]))
    def watch(self, which, key, known, wait_ms):
        store = self.model_store()
        after = store.version(key) if known else 0
        session = self.session(which)
        _, *said = self.submit(session, commands.Watch, "s", key, after, wait_ms)
        if store.version(key) > after:
            self.told(said[0], self.request, [store.shown(0, key)])
        elif not wait_ms:
            self.told(said[0], self.request, [])
        else:
            assert said == []
            until = self.now + wait_ms
            store.watches.append(
                {"session": session, "request": self.request, "key": key, "after": after, "until": until}
            )

    @rule(which=st.integers(0, 9), really=RARELY)
    def delete_store(self, which, really):
        store = self.model.queues.get("s")
        if not really or store is None:
            return
        _, done, *refused = self.submit(self.session(which), commands.Delete, "s")
        held, _ = self.model.delete("s")
        assert done == replies.Done(self.request, held)
        assert {(each.request, each.code) for each in refused} == {
            (each["request"], "not_found") for each in store.watches
        }
        assert len(refused) == len(store.watches)
