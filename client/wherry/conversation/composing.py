"""From what users publish to what the wire carries: envelopes and blocks; `content` makes the messages. Pure.

What the wire cannot hold is refused here, before it gets to the connection, which others use too.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING

from wherry import errors
from wherry.conversation.pending import Envelope
from wherry.model.fields import BATCH_MESSAGES_MAX, NAME_BYTES_MAX, PRIORITY_MAX
from wherry.model.names import split_id
from wherry.model.times import Duration, moment_ms, to_ms
from wherry.wire.messages import pack_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

BATCH_BYTES_MAX = 1_048_576
"""The longest block of a `publish_many`, so that no frame keeps the others waiting for long."""


def envelope_of(
    priority: int,
    key: str,
    dedupe: str,
    delay: Duration | None,
    at: datetime | None,
    ttl: Duration | None,
    track: bool = False,  # noqa: FBT001, FBT002 (its place is among what users give)
    parent: str = "",
) -> Envelope:
    """The envelope of the options that users give to a publish.

    Raises:
        Invalid: a value is out of its range.
        ValueError: a duration or a moment makes no sense, or the parent is no id.
        TypeError: a key is no str.
    """
    priority = int(index(priority))
    if not 0 <= priority <= PRIORITY_MAX:
        raise errors.Invalid(f"priority {priority} is not within 0 to {PRIORITY_MAX}")
    for what, text in (("key", key), ("dedupe key", dedupe)):
        if not isinstance(text, str):
            raise TypeError(f"a {what} is a str, not {text!r:.40}")
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > NAME_BYTES_MAX:
            raise errors.Invalid(f"a {what} of {size} bytes is over the limit of {NAME_BYTES_MAX}")
        text.encode()  # raises when it holds a lone surrogate
    delay_ms = 0 if delay is None else to_ms(delay)
    ttl_ms = 0 if ttl is None else to_ms(ttl)
    if parent:
        split_id(parent)
    if ttl is not None and not ttl_ms:
        raise ValueError(f"a time to live is more than 0 seconds, not {ttl!r}")
    return Envelope(priority, key, delay_ms, 0 if at is None else moment_ms(at), ttl_ms, dedupe, bool(track), parent)


def check_size(size: int, limit: int) -> None:
    """Refuses a message of `size` bytes when a frame holds no more than `limit`.

    Raises:
        TooLarge: it does not fit.
    """
    if size > limit:
        raise errors.TooLarge(f"a message of {size} bytes is over the broker's limit of {limit} bytes")


def blocks(packed: bytes, bodies: list[bytes], limit: int) -> Iterator[tuple[bytes, bytes]]:
    """Messages that share their headers, in batches of at most BATCH_BYTES_MAX: lengths, and bytes back to back.

    Args:
        packed: the headers of each of them, packed.
        bodies: the bodies.
        limit: how many bytes a frame holds.

    Raises:
        TooLarge: one of them does not fit into a frame; nothing was yielded before.
    """
    head_bytes = len(packed)
    sizes = [head_bytes + len(body) for body in bodies]
    check_size(max(sizes, default=0), limit)
    room_bytes = min(BATCH_BYTES_MAX, limit)
    start = 0
    # Each message is the headers and a body: the headers stand before the first body, and between two.
    if len(sizes) <= BATCH_MESSAGES_MAX and 0 < sum(sizes) <= room_bytes:
        start = len(sizes)
        yield pack_sizes(sizes), packed.join([b"", *bodies])
    while start < len(sizes):
        stop, size = start + 1, sizes[start]
        while stop < len(sizes) and size + sizes[stop] <= room_bytes and stop - start < BATCH_MESSAGES_MAX:
            size += sizes[stop]
            stop += 1
        yield pack_sizes(sizes[start:stop]), packed.join([b"", *bodies[start:stop]])
        start = stop
