"""Every limit of the server, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from wherry.wire.framing import FIRST_FRAME_BYTES_MAX, FRAME_BYTES_MAX
from wherry_broker.core.producers import WINDOW_MS


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection, and all of them together, may take.

    Attributes:
        connections_max: how many connections are open at a time; a further one is told so and closed.
        frame_bytes_max: the longest frame taken once HELLO has been accepted.
        login_ms: how long a client has for its HELLO.
        heartbeat_ms: the longest heartbeat interval; a connection silent for two intervals is closed.
        write_high_bytes: how much may wait to be written to a client before nothing more is delivered to it, and
            nothing more is read from it.
        write_low_bytes: at how much left of that it goes on.
        write_deadline_ms: how long a client may take nothing of what waits before its connection is aborted.
        unfinished_bytes_max: how much memory all connections may hold for frames that are not whole yet; the one that
            goes over it is closed.
        resume_ms: how long what a client was leased outlives its connection.
        producer_window_ms: how long a producer is remembered that is not heard of.
        uncommitted_bytes_max: how much may wait to be made durable before nothing more is read from anyone.
    """

    connections_max: int = 10_000
    frame_bytes_max: int = FRAME_BYTES_MAX
    login_ms: int = 5_000
    heartbeat_ms: int = 30_000
    write_high_bytes: int = 262_144
    write_low_bytes: int = 65_536
    write_deadline_ms: int = 10_000
    unfinished_bytes_max: int = 268_435_456
    uncommitted_bytes_max: int = 67_108_864
    producer_window_ms: int = WINDOW_MS
    resume_ms: int = 15_000


class Unfinished:
    """How much memory all connections hold for frames that are not whole yet.

    Each frame is short enough, and so is each connection; ten thousand of them are not.

    Args:
        bytes_max: the limit.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.held_bytes = 0

    def change(self, before: int, now: int) -> bool:
        """One connection holds `now` bytes in place of `before`; returns whether all may hold as much together.

        What a client needs to say who it is is always allowed.
        """
        self.held_bytes += now - before
        return self.held_bytes <= self._bytes_max or now <= FIRST_FRAME_BYTES_MAX
