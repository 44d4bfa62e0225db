"""Histories that are made up, for tests of the checker."""

from __future__ import annotations

from typing import Any

from crash.checker import check
from crash.history import (
    ACK,
    KILL,
    OK,
    Counters,
    Crash,
    Deliver,
    Drained,
    Pub,
    PubEnd,
    Queue,
    Restart,
    Settle,
    SettleEnd,
)


class Tale:
    """A history with one queue, `q`. What is told happens a tenth of a second after what was told before it.

    Args:
        level: the durability of the queue.
        **options: of `check`.
    """

    def __init__(self, level: str = "synced", **options: Any) -> None:
        self.events: list[Any] = []
        self.now = 100.0
        self.options = options
        self.add(Queue, "q", level)

    def add(self, kind: Any, *fields: Any, **named: Any) -> Tale:
        self.now = round(self.now + 0.1, 3)
        self.events.append(kind(self.now, *fields, **named))
        return self

    def wait(self, seconds: float) -> Tale:
        self.now += seconds
        return self

    def pub(self, name: str, offset: int, who: str = "p/1", queue: str = "q", **named: Any) -> Tale:
        return self.add(Pub, who, name, queue, **named).add(PubEnd, who, name, OK, offset, "synced")

    def take(self, name: str, offset: int, who: str = "c/1", token: tuple[int, int] = (1, 1), **named: Any) -> Tale:
        return self.add(Deliver, who, name, named.pop("queue", "q"), offset, *token, **named)

    def settle(
        self,
        name: str,
        verb: str = ACK,
        outcome: str = OK,
        offset: int = 0,
        who: str = "c/1",
        token: tuple[int, int] = (1, 1),
        **named,
    ) -> Tale:
        offset = offset or int(name[2:])  # what is told of p:3 is at offset 3 unless it says otherwise
        self.add(Settle, who, verb, name, offset, *token, **named)
        return self.add(SettleEnd, who, name, offset, *token, outcome)

    def done(self, name: str, offset: int, who: str = "c/1", token: tuple[int, int] = (1, 1)) -> Tale:
        return self.take(name, offset, who, token).settle(name, offset=offset, who=who, token=token)

    def crash(self, fault: str = KILL) -> Tale:
        return self.add(Crash, fault).add(Restart)

    def count(self, published: int, settled: int, **named: Any) -> Tale:
        fields = {"ready": 0, "delayed": 0, "leased": 0, "dead": 0, "next_offset": published + 1} | named
        removed = {"settled": settled} | fields.pop("removed", {})
        self.now += 0.05
        return self.add(Counters, self.now, "q", published=published, removed=removed, **fields)

    def drained(self) -> Tale:
        return self.add(Drained)

    def verdict(self) -> list[str]:
        events = sorted(self.events, key=lambda event: event.t)
        return sorted({violation.check for violation in check(events, **self.options).violations})
