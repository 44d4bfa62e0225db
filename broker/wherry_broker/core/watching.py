"""Watching: who waits for a value of a store is told when it comes. No restart survives any of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from wherry.model import commands, replies
from wherry_broker.core.lookups import LOOK_BYTES
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.stores import Store, Watch, check_key
from wherry_broker.core.storing import values_reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry_broker.core.answers import Answers
    from wherry_broker.core.batch import Batch
    from wherry_broker.core.catalogue import Catalogue
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.lookups import Lookups
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.stores import Keeper

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
        if value is not None and value.first > command.after:
            if not self._lookups.has_bytes(session, command, [value]):
                return
            self._lookups.count(session, LOOK_BYTES)
        answer = partial(_values, command.request)
        self.wait(Watch(session, command.request, store, command.key, command.after, answer), command.wait_ms, now_ms)

    def wait(self, watch: Watch, wait_ms: int, now_ms: int) -> None:
        """Answers a watch once there is a value that is new enough (whose bytes are in memory if it is there now).

        Raises:
            Refusal: unavailable, the session waits for too much.
        """
        value = watch.store.value(watch.key)
        if value is not None and value.first > watch.after:
            self._answer(watch, value, now_ms)
        elif wait_ms:
            self._keep(watch, now_ms + wait_ms)
        else:
            self._answer(watch, None, now_ms)

    def run(self, stores: Sequence[Keeper], now_ms: int) -> None:
        """Answers all who wait for values that have come to some of the stores since the last time."""
        for store in stores:
            if isinstance(store, Store):
                self._serve(store, now_ms)

    def _serve(self, store: Store, now_ms: int) -> None:
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
                    self._answer(watch, value, now_ms)

    def expire(self, watch: Watch, now_ms: int) -> None:
        """Its time is over: it is told that there is nothing new."""
        self._forget(watch)
        self._answer(watch, None, now_ms)

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
        check_room(session, store)
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

    def _answer(self, watch: Watch, value: Batch | None, now_ms: int) -> None:
        if value is not None:
            watch.session.answered_bytes += value.block.size
        self._answers.say(watch.session, watch.answer(value, now_ms), watch.store.mark)


def check_room(session: Session, store: Queue, more: int = 1) -> None:
    """Refuses that a session waits for so much more in a store than it does already.

    Raises:
        Refusal: unavailable, that is too much.
    """
    if len(session.watches) + session.awaited + more > WATCHES_MAX:
        text = f"this connection has {WATCHES_MAX} watches, which is the limit"
        raise Refusal("unavailable", text, queue=store.name, retryable=True)


def _values(request: int, value: Batch | None, _now_ms: int) -> replies.Values:
    return values_reply(request, () if value is None else ((0, value),), 1)
