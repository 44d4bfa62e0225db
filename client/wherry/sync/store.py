"""A store of the broker: the newest value of each key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry.conversation import asks, storing
from wherry.conversation.content import body_bytes
from wherry.conversation.storing import WAIT_SLICE_MS
from wherry.model.times import to_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.model.options import Entry, QueueInfo
    from wherry.model.times import Duration
    from wherry.sync.link import Link


class Store:
    """A store; made by `Broker.store`.

    It keeps the newest value of each key, a str of 1 to 255 bytes. Values are bytes (a str becomes UTF-8) of at most
    1 MiB. Every value has a version, a number that only grows. What is done to one key happens one after the other,
    whoever does it.

    Attributes:
        name: its name.

    Example::

        store = broker.store("sessions")
        store.put("user-17", b"...", ttl=3600)
        value = store.get("user-17")
    """

    def __init__(self, link: Link, name: str) -> None:
        self.name = name
        self._link = link

    def declare(self, **options: Any) -> None:
        """Creates the store, or checks that it has these options.

        Without this, it is created with the broker's defaults when it is first used.

        Args:
            **options: max_messages (how many values), max_bytes, overflow (`busy`, or `drop_oldest` for a cache), ttl,
                durability. Durations are seconds.

        Raises:
            ExistsDifferently: the store exists with other options, or the name is a queue's; the text says which.
            Invalid: an option is unknown or out of range.
        """
        self._link.ask(asks.declare(self.name, {"kind": "store", **options}))

    def put(self, key: str, value: bytes | str, ttl: Duration | None = None, *, if_version: int | None = None) -> int:
        """Keeps a value, in the place of the one that the key has.

        Args:
            key: the key.
            value: the value.
            ttl: how long it is kept, in seconds; as long as the store says when not given.
            if_version: the version that the value must have now; 0 for no value, which makes a lock of it.

        Returns:
            The version of the value, once it is as safe as the store's durability says.

        Raises:
            Conflict: the value has another version than `if_version`.
            Busy: the store is full.
            TooLarge: the value is over the limit.
        """
        return self._link.ask(storing.put(self.name, key, body_bytes(value), ttl, if_version))

    def get(self, key: str) -> bytes | None:
        """The value of a key; None when it has none."""
        entry = self.entry(key)
        return None if entry is None else entry.value

    def entry(self, key: str) -> Entry | None:
        """The value of a key with its version and when it expires; None when it has none."""
        entries = self._entries([key])
        return entries.get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of keys; those that have none are left out."""
        entries = self._entries(list(dict.fromkeys(keys)))
        return {key: entry.value for key, entry in entries.items()}

    def delete(self, *keys: str) -> int:
        """Removes the values of keys; returns how many there were."""
        for key in keys:
            storing.check_key(key)
        total = 0
        for start in range(0, len(keys), storing.UNSET_KEYS):
            total += self._link.ask(storing.unset(self.name, keys[start : start + storing.UNSET_KEYS]))
        return total

    def increment(self, key: str, by: int = 1, ttl: Duration | None = None) -> int:
        """Adds to a value that is a whole number in decimal digits; no value counts as 0.

        Args:
            key: the key.
            by: how much to add; less than 0 to subtract.
            ttl: the time to live, in seconds, of a number that begins with this; one that is there keeps its own.

        Returns:
            The number now.

        Raises:
            Invalid: the value is no such number, or would have more than 64 bits.
        """
        return self._link.ask(storing.increment(self.name, key, by, ttl))

    def expire(self, key: str, ttl: Duration | None) -> bool:
        """Gives a value another time to live, counted from now on; the value and its version stay.

        Args:
            key: the key.
            ttl: how long it is kept, in seconds; None for as long as the store says.

        Returns:
            Whether there is such a value.
        """
        return self._link.ask(storing.expire(self.name, key, ttl))

    def watch(self, key: str, timeout: Duration, *, after: int = 0) -> Entry | None:
        """Waits for a value that is newer than a version. The broker tells of it; nothing is polled.

        Args:
            key: the key.
            timeout: how long to wait, in seconds.
            after: the newest version that is known already; 0 for none.

        Returns:
            The value that there is then; None when none came in time.

        Raises:
            NotFound: the store was deleted meanwhile.
        """
        left_ms = to_ms(timeout)
        end = self._link.now() + left_ms / 1000
        while True:
            wait_ms = min(left_ms, WAIT_SLICE_MS)
            entry = self._link.ask(storing.watch(self.name, key, after, wait_ms), self._link.timeout + wait_ms / 1000)
            left_ms = round((end - self._link.now()) * 1000)
            if entry is not None or left_ms <= 0:
                return entry

    def info(self) -> QueueInfo:
        """Its counts and options; its values count as ready.

        Raises:
            NotFound: there is no such store.
        """
        return self._link.ask(asks.info(self.name))

    def _entries(self, keys: list[str]) -> dict[str, Entry]:
        result: dict[str, Entry] = {}
        while keys:
            entries, answered = self._link.ask(storing.fetch(self.name, keys))
            result |= entries
            keys = keys[answered:]
        return result
