"""What can be asked about stores, as `asks` does it for queues. Pure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from wherry import errors
from wherry.conversation.asks import Ask
from wherry.model import commands, replies
from wherry.model.fields import NAME_BYTES_MAX, ROWS_MAX, VALUE_BYTES_MAX
from wherry.model.options import Entry
from wherry.model.times import Duration, from_moment_ms, to_ms
from wherry.wire.messages import split_block

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYS_BYTES_MAX = 32_768
"""The keys of one request are part of its header; this is half of what a header may be."""
UNSET_KEYS = 100
"""How many keys one request removes: with the longest ones, they fit into a header."""
WAIT_SLICE_MS = 60_000
"""How long one WATCH waits: one that nobody waits for any more does not stay for longer."""


def put(store: str, key: str, value: bytes, ttl: Duration | None, if_version: int | None) -> Ask[int]:
    """Keeps a value; its version.

    Raises:
        Invalid: the key cannot be one.
        TooLarge: the value is over the limit.
    """
    if len(value) > VALUE_BYTES_MAX:
        raise errors.TooLarge(f"a value of {len(value)} bytes is over the limit of {VALUE_BYTES_MAX} bytes")
    make = partial(
        commands.Put, queue=store, key=check_key(key), ttl_ms=_ttl_ms(ttl), if_version=if_version, block=value
    )
    return Ask(make, _total)


def fetch(store: str, keys: Sequence[str]) -> Ask[tuple[dict[str, Entry], int]]:
    """The values of keys, and how many of the keys, from the first on, that speaks of; the others are asked again."""
    some: list[str] = []
    size = 0
    for key in keys[:ROWS_MAX]:
        size += len(check_key(key).encode()) + 3
        if some and size > KEYS_BYTES_MAX:
            break
        some.append(key)
    return Ask(partial(commands.Fetch, queue=store, keys=tuple(some)), partial(_fetched, some))


def unset(store: str, keys: Sequence[str]) -> Ask[int]:
    """Removes the values of keys, few enough for one header; how many there were."""
    return Ask(partial(commands.Unset, queue=store, keys=tuple(map(check_key, keys))), _total)


def increment(store: str, key: str, by: int, ttl: Duration | None) -> Ask[int]:
    """Adds to a number; the sum."""
    make = partial(commands.Increment, queue=store, key=check_key(key), by=by, ttl_ms=_ttl_ms(ttl))
    return Ask(make, _number)


def expire(store: str, key: str, ttl: Duration | None) -> Ask[bool]:
    """Gives a value another time to live (None for the store's own); whether there is one."""
    make = partial(commands.Expire, queue=store, key=check_key(key), ttl_ms=_ttl_ms(ttl))
    return Ask(make, _was_there)


def watch(store: str, key: str, after: int, wait_ms: int) -> Ask[Entry | None]:
    """A value that is newer than the version `after`; None when none came in time."""
    make = partial(commands.Watch, queue=store, key=check_key(key), after=after, wait_ms=wait_ms)
    return Ask(make, partial(_watched, key))


def check_key(key: str) -> str:
    """The key, if a value can have it.

    Raises:
        TypeError: it is no str.
        Invalid: it is empty, too long, or no text that UTF-8 can hold.
    """
    if not isinstance(key, str):
        raise TypeError(f"a key is a str, not {key!r:.40}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise errors.Invalid(f"a key is text, and {key!r:.40} is not") from error
    if not 0 < size <= NAME_BYTES_MAX:
        raise errors.Invalid(f"a key has 1 to {NAME_BYTES_MAX} bytes, not {size}")
    return key


def _ttl_ms(ttl: Duration | None) -> int:
    if ttl is None:
        return 0
    ttl_ms = to_ms(ttl)
    if not ttl_ms:
        raise ValueError(f"a time to live is more than 0 seconds, not {ttl!r}")
    return ttl_ms


def _total(reply: replies.Done) -> int:
    return reply.total


def _was_there(reply: replies.Done) -> bool:
    return bool(reply.total)


def _number(reply: replies.Counted) -> int:
    return reply.number


def _fetched(keys: Sequence[str], reply: replies.Values) -> tuple[dict[str, Entry], int]:
    entries = {}
    for row, value in zip(reply.values, split_block(reply.lengths, reply.block), strict=True):
        position, version, expires_at_ms, *_ = row
        expires_at = from_moment_ms(expires_at_ms) if expires_at_ms else None
        entries[keys[position]] = Entry(keys[position], value, version, expires_at)
    return entries, reply.answered


def _watched(key: str, reply: replies.Values) -> Entry | None:
    entries, _ = _fetched([key], reply)
    return entries.get(key)
