"""Effects: what is to be said to a session once the record that it depends on is durable.

Most are replies as they are. A `Delivery` is one span; those of one consumer are joined into few frames later, by the
server session, which knows what else leaves at the same time.
"""

from __future__ import annotations

from typing import NamedTuple

from wherry.model import replies
from wherry.model.fields import SpanRow


class Delivery(NamedTuple):
    """One span, leased to a consumer."""

    consumer: int
    lease_ms: int
    row: SpanRow
    lengths: bytes
    data: bytes


Say = Delivery | replies.Confirm | replies.Settled | replies.Stopped | replies.Cancelled | replies.Reply


class Effect(NamedTuple):
    """What is to be said, and to which session."""

    session: int
    say: Say
