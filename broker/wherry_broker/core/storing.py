"""Storing: values are put into stores, looked up, counted up and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry.model import commands, replies
from wherry.model.fields import VALUE_BYTES_MAX
from wherry_broker.core import stores
from wherry_broker.core.lookups import LOOK_BYTES
from wherry_broker.core.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry_broker.core.answers import Answers
    from wherry_broker.core.batch import Batch
    from wherry_broker.core.catalogue import Catalogue
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.lookups import Lookups

FETCH_BYTES_MAX = 1_048_576
"""How many bytes of values one answer has at most, though always one value."""


class Storing:
    """Carries out what is asked of stores, but for waiting.

    Args:
        ledger: the durable state.
        answers: where answers go.
        lookups: where a command waits for bytes that the log has.
        catalogue: gives the stores.

    Attributes:
        commands: what it carries out, by the type of the command.
    """

    def __init__(self, ledger: Ledger, answers: Answers, lookups: Lookups, catalogue: Catalogue) -> None:
        self._ledger = ledger
        self._answers = answers
        self._lookups = lookups
        self._catalogue = catalogue
        self.commands: dict[type, Callable[[Session, Any, int], None]] = {
            commands.Put: self.put,
            commands.Fetch: self.fetch,
            commands.Unset: self.unset,
            commands.Increment: self.increment,
            commands.Expire: self.expire,
        }

    def put(self, session: Session, command: commands.Put, now_ms: int) -> None:
        """Keeps a value."""
        store = self._catalogue.opened_store(command.queue)
        if len(command.block) > VALUE_BYTES_MAX:
            text = f"a value of {len(command.block)} bytes is over the limit of {VALUE_BYTES_MAX} bytes"
            raise Refusal("too_large", text, queue=store.name)
        stores.check_version(store, command.key, command.if_version)
        expires_at_ms = stores.expiry(store, command.ttl_ms, now_ms)
        version = store.next_offset
        self._ledger.apply(stores.put(self._ledger.state, store, command.key, command.block, expires_at_ms, now_ms))
        self._answers.say(session, replies.Done(command.request, version), store.mark)

    def fetch(self, session: Session, command: commands.Fetch, _now_ms: int) -> None:
        """Tells the values of keys; the answer waits until their bytes are in memory."""
        store = self._catalogue.opened_store(command.queue)
        values: list[tuple[int, Batch]] = []
        room_bytes = FETCH_BYTES_MAX
        answered = 0
        for position, key in enumerate(command.keys):
            value = store.value(key)
            if value is not None:
                if values and value.block.size > room_bytes:
                    break
                values.append((position, value))
                room_bytes -= value.block.size
            answered = position + 1
        if self._lookups.has_bytes(session, command, [value for _, value in values]):
            self._lookups.count(session, LOOK_BYTES)
            reply = values_reply(command.request, values, answered)
            session.answered_bytes += len(reply.block)
            self._answers.say(session, reply, store.mark)

    def unset(self, session: Session, command: commands.Unset, now_ms: int) -> None:
        """Removes the values of keys."""
        store = self._catalogue.opened_store(command.queue)
        before = store.messages_held
        self._ledger.apply(stores.unset(store, command.keys, now_ms))
        self._answers.say(session, replies.Done(command.request, before - store.messages_held), store.mark)

    def increment(self, session: Session, command: commands.Increment, now_ms: int) -> None:
        """Adds to a number; that of before must be in memory."""
        store = self._catalogue.opened_store(command.queue)
        old = store.value(command.key)
        if not self._lookups.has_bytes(session, command, [old] if old is not None else []):
            return
        number, expires_at_ms = stores.added(store, command.key, command.by, command.ttl_ms, now_ms)
        version = store.next_offset
        state = self._ledger.state
        self._ledger.apply(stores.put(state, store, command.key, b"%d" % number, expires_at_ms, now_ms))
        reply = replies.Counted(command.request, number, version, expires_at_ms)
        self._answers.say(session, reply, store.mark)

    def expire(self, session: Session, command: commands.Expire, now_ms: int) -> None:
        """Gives a value another time to live."""
        store = self._catalogue.opened_store(command.queue)
        new = stores.expire(store, command.key, command.ttl_ms, now_ms)
        self._ledger.apply(new)
        self._answers.say(session, replies.Done(command.request, len(new)), store.mark)


def values_reply(request: int, values: Sequence[tuple[int, Batch]], answered: int) -> replies.Values:
    """The answer that tells values; their bytes must be in memory.

    Args:
        request: what it answers.
        values: each with the position of its key in the request.
        answered: how many keys it speaks of.
    """
    rows = tuple((position, value.first, value.envelope.expires_at_ms) for position, value in values)
    lengths = b"".join([value.block.lengths for _, value in values])
    block = b"".join([value.block.data or b"" for _, value in values])
    return replies.Values(request, rows, lengths, answered, block)
