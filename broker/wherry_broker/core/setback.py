"""A wall clock that was set back while the broker was away: no moment of before is further off than was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry_broker.core.batch import Batch, Span
    from wherry_broker.core.timers import Timers


def limit_delay(timers: Timers, span: Span, now_ms: int) -> None:
    """Keeps a clock that was set back from making a delay longer than was asked."""
    began_ms = span.failure.at_ms if span.failure else span.batch.envelope.published_at_ms
    limit_ms = now_ms + max(0, span.due_ms - began_ms)
    if span.due_ms > limit_ms:
        timers.arm(span, limit_ms)


def limit_life(timers: Timers, batch: Batch, now_ms: int) -> None:
    """Likewise for a time to live."""
    envelope = batch.envelope
    limit_ms = now_ms + envelope.expires_at_ms - envelope.published_at_ms
    if envelope.expires_at_ms and envelope.expires_at_ms > limit_ms:
        batch.envelope = envelope._replace(expires_at_ms=limit_ms)
        timers.arm(batch, limit_ms)
