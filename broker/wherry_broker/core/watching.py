"""Watching: who waits for a value of a store is told when it comes. No restart survives any of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.model import commands, replies
from wherry_broker.core.lookups import LOOK_BYTES
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.stores import Store, Watch, check_key
from wherry_broker.core.storing import values_reply

if TYPE_CHECKING:
    from wherry_broker.core.answers import Answers
    from wherry_broker.core.catalogue import Catalogue
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.lookups import Lookups

WATCHES_MAX = 100_000
"""How many watches one session has at a time."""


class Watching:
    """Keeps watches, and answers them.

    Args:
        ledger: the durable state.
        answers: where answers go.
        lookups: where a command waits for bytes that the log has.
        catalogue: gives the stores.
    """

    def __init__(self, ledger: Ledger, answers: Answers, lookups: Lookups, catalogue: Catalogue) -> None:
        self._ledger = ledger
        self._answers = answers
        self._lookups = lookups
        self._catalogue = catalogue
        self._timers = ledger.state.timers

    def watch(self, session: Session, command: commands.Watch, now_ms: int) -> None:
        """Tells a value that is new enough, now or once there is one."""
        store = self._catalogue.opened_store(command.queue)
        check_key(store, command.key)
        value = store.value(command.key)
        watch = Watch(session, command.request, store, command.key, command.after)
        if value is not None and value.first > command.after:
            if self._lookups.has_bytes(session, command, [value]):
                self._lookups.count(session, LOOK_BYTES)
                self._tell(watch)
        elif command.wait_ms:
            self._keep(watch, now_ms + command.wait_ms)
        else:
            self._tell_nothing(watch)

    def run(self) -> None:
        """Answers all who wait for values that have come since the last time."""
        for queue in [queue for queue in self._ledger.dirty if queue.is_store]:
            assert isinstance(queue, Store)
            self._serve(queue)

    def _serve(self, store: Store) -> None:
        news, store.news = store.news, {}
        for key in news:
            value = store.value(key)
            if value is None:
                continue  # it has gone already
            if value.block.data is None:
                self._ledger.pager.want(value)
                store.news[key] = None
                continue
            for watch in list(store.watches.get(key, ())):
                if value.first > watch.after:
                    self._forget(watch)
                    self._tell(watch)

    def expire(self, watch: Watch) -> None:
        """Its time is over: it is told that there is nothing new."""
        self._forget(watch)
        self._tell_nothing(watch)

    def forget_session(self, session: Session) -> None:
        """A session has gone, and nobody is to be told."""
        for watch in list(session.watches):
            self._forget(watch)

    def abandon(self, store: Store) -> None:
        """A store was deleted: nothing will come."""
        for watch in [watch for watches in store.watches.values() for watch in watches]:
            self._forget(watch)
            text = f"store {store.name!r} was deleted"
            error = replies.Error(watch.request, "not_found", text, queue=store.name)
            self._answers.say(watch.session, error, self._ledger.newest_mark)

    def _keep(self, watch: Watch, until_ms: int) -> None:
        session, store = watch.session, watch.store
        if len(session.watches) >= WATCHES_MAX:
            text = f"this connection has {WATCHES_MAX} watches, which is the limit"
            raise Refusal("unavailable", text, queue=store.name, retryable=True)
        session.watches[watch] = None
        store.watches.setdefault(watch.key, {})[watch] = None
        self._timers.arm(watch, until_ms)

    def _forget(self, watch: Watch) -> None:
        store = watch.store
        self._timers.disarm(watch)
        del watch.session.watches[watch]
        del store.watches[watch.key][watch]
        if not store.watches[watch.key]:
            del store.watches[watch.key]

    def _tell(self, watch: Watch) -> None:
        value = watch.store.value(watch.key)
        assert value is not None
        reply = values_reply(watch.request, ((0, value),), 1)
        watch.session.answered_bytes += len(reply.block)
        self._answers.say(watch.session, reply, watch.store.mark)

    def _tell_nothing(self, watch: Watch) -> None:
        self._answers.say(watch.session, replies.Values(watch.request, (), b"", 1), watch.store.mark)
