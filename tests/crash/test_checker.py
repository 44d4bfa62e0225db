"""The checker catches what it is made for, and lets pass what may happen. Each bad history breaks one promise."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from crash import history
from crash.checker import check
from crash.history import (
    ACK,
    ERROR,
    KILL,
    NACK,
    OK,
    POWER,
    REJECT,
    RELEASE,
    STALE,
    STOP,
    UNKNOWN,
    Attach,
    Counters,
    Crash,
    Deliver,
    Detach,
    Drained,
    Pub,
    PubEnd,
    Queue,
    Restart,
    Settle,
    SettleEnd,
)
from installing import ROOT, plain_environ

if TYPE_CHECKING:
    from collections.abc import Callable


class Tale:
    """A history that is made up: times are given as they are told, one tenth of a second after another."""

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


def stranger() -> Tale:
    return Tale().add(Deliver, "c/1", "p:9", "q", 9, 1, 1)


BAD: dict[str, Callable[[], Tale]] = {
    "K1 confirmed and never delivered": lambda: Tale().pub("p:1", 1).drained(),
    "K1 lost by a kill": lambda: Tale().pub("p:1", 1).crash().drained(),
    "K1 lost by a power cut": lambda: Tale().pub("p:1", 1).crash(POWER).drained(),
    "K1 lost by an ordinary end": lambda: Tale().pub("p:1", 1).crash(STOP).drained(),
    "K1 lost by a kill at the level written": lambda: Tale("written").pub("p:1", 1).crash().drained(),
    "K1 lost at the level written though long synced": lambda: (
        Tale("written").pub("p:1", 1).wait(2).crash(POWER).drained()
    ),
    "K1 lost in memory after the last crash": lambda: Tale("memory").crash().pub("p:1", 1).drained(),
    "K1 delivered, not settled, and gone": lambda: Tale().pub("p:1", 1).take("p:1", 1).crash().drained(),
    "K1 handed back and gone": lambda: Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", NACK).drained(),
    "K1 its ack was stale, and it is gone": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", outcome=STALE).drained()
    ),
    "K1 never confirmed, but delivered and gone": lambda: (
        Tale().add(Pub, "p/1", "p:1", "q").take("p:1", 1).crash().drained()
    ),
    "K1 a hole before what a power cut left": lambda: (
        Tale("written").pub("p:1", 1).pub("p:2", 2).crash(POWER).done("p:2", 2, who="c/2", token=(2, 1)).drained()
    ),
    "K2 never published": stranger,
    "K2 delivered before it was published": lambda: Tale().done("p:1", 1).pub("p:1", 1),
    "K2 damaged": lambda: Tale().pub("p:1", 1).take("p:1", 1, intact=False),
    "K2 in another queue": lambda: Tale().pub("p:1", 1).take("p:1", 1, queue="r"),
    "K2 stored twice": lambda: Tale().pub("p:1", 1).done("p:1", 1).done("p:1", 2),
    "K2 delivered from where it was not stored": lambda: Tale().pub("p:1", 1).done("p:1", 2),
    "K2 stored twice under a dedupe key": lambda: (
        Tale()
        .add(Pub, "p/1", "p:1", "q", dedupe=True)
        .crash()
        .pub("p:1", 2, who="p/2", dedupe=True)
        .done("p:1", 1, token=(2, 1))
        .done("p:1", 2, token=(2, 1))
    ),
    "K2 an offset that names two messages": lambda: (
        Tale()
        .pub("p:1", 1)
        .done("p:1", 1)
        .add(Crash, KILL)
        .add(Restart)
        .add(Pub, "p/2", "p:2", "q")
        .done("p:2", 1, who="c/2", token=(2, 1))
    ),
    "K3 comes back though it was acked": lambda: Tale().pub("p:1", 1).done("p:1", 1).take("p:1", 1, token=(1, 2)),
    "K3 comes back after a kill": lambda: Tale().pub("p:1", 1).done("p:1", 1).crash().take("p:1", 1, token=(2, 1)),
    "K3 comes back after a power cut": lambda: (
        Tale().pub("p:1", 1).done("p:1", 1).crash(POWER).take("p:1", 1, token=(2, 1))
    ),
    "K3 comes back at the level written after a kill": lambda: (
        Tale("written").pub("p:1", 1).done("p:1", 1).crash().take("p:1", 1, token=(2, 1))
    ),
    "K3 comes back at the level written, long after": lambda: (
        Tale("written").pub("p:1", 1).done("p:1", 1).wait(2).crash(POWER).take("p:1", 1, token=(2, 1))
    ),
    "K3 comes back though it was rejected": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", REJECT).take("p:1", 1, token=(1, 2))
    ),
    "K4 stored before what was confirmed earlier": lambda: Tale().pub("p:1", 2).pub("r:1", 1, who="r/1"),
    "K4 stored at an offset that is taken": lambda: Tale().pub("p:1", 1).pub("r:1", 1, who="r/1"),
    "K4 one connection's publishes stored in another order": lambda: (
        Tale()
        .add(Pub, "p/1", "p:1", "q")
        .add(Pub, "p/1", "p:2", "q")
        .add(PubEnd, "p/1", "p:2", OK, 1)
        .add(PubEnd, "p/1", "p:1", OK, 2)
    ),
    "K4 delivered in another order": lambda: Tale().pub("p:1", 1).pub("p:2", 2).done("p:2", 2).done("p:1", 1),
    "K4 delivered in another order after a restart": lambda: (
        Tale()
        .pub("p:1", 1)
        .pub("p:2", 2)
        .crash()
        .done("p:2", 2, who="c/2", token=(2, 1))
        .done("p:1", 1, who="c/2", token=(2, 1))
    ),
    "K4 what returned does not take its place": lambda: (
        Tale()
        .pub("p:1", 1)
        .take("p:1", 1)
        .settle("p:1", RELEASE)
        .pub("p:2", 2)
        .done("p:2", 2)
        .done("p:1", 1, token=(1, 2))
    ),
    "K4 what failed does not take its place": lambda: (
        Tale()
        .pub("p:1", 1)
        .take("p:1", 1)
        .settle("p:1", NACK)
        .pub("p:2", 2)
        .done("p:2", 2)
        .done("p:1", 1, token=(1, 2))
    ),
    "K1 survived a power cut and is gone after all": lambda: (
        Tale("written").pub("p:1", 1).crash(POWER).take("p:1", 1, who="c/2", token=(2, 1)).drained()
    ),
    "K4 stored before what was confirmed before a kill": lambda: Tale().pub("p:1", 2).crash().pub("p:2", 1, who="p/2"),
    "K4 stored before what was confirmed before a power cut": lambda: (
        Tale().pub("p:1", 2).crash(POWER).pub("p:2", 1, who="p/2")
    ),
    "K4 stored before what was confirmed before a kill, at the level written": lambda: (
        Tale("written").pub("p:1", 2).crash().pub("p:2", 1, who="p/2")
    ),
    "K4 stored before what was confirmed before another": lambda: (
        Tale().add(Pub, "p/1", "p:1", "q").pub("r:1", 5, who="r/1").add(PubEnd, "p/1", "p:1", OK, 3).pub("s:1", 4)
    ),
    "K4 two publishes of a connection at one offset": lambda: (
        Tale()
        .add(Pub, "p/1", "p:1", "q")
        .add(Pub, "p/1", "p:2", "q")
        .add(PubEnd, "p/1", "p:1", OK, 1)
        .add(PubEnd, "p/1", "p:2", OK, 1)
    ),
    "K4 what returned does not take its place, behind another that returned": lambda: (
        Tale()
        .pub("p:1", 1)
        .pub("p:2", 2)
        .take("p:1", 1)
        .take("p:2", 2, who="d/1")
        .settle("p:1", RELEASE)
        .pub("p:3", 3)
        .done("p:3", 3)
        .add(Detach, "d/1")
        .done("p:2", 2, token=(1, 2))
        .done("p:1", 1, token=(1, 2))
    ),
    "K7 one token again after it was handed back": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", NACK).done("p:1", 1)
    ),
    "K5 refused and delivered": lambda: (
        Tale().add(Pub, "p/1", "p:1", "q").add(PubEnd, "p/1", "p:1", ERROR).done("p:1", 1)
    ),
    "K5 refused twice and delivered": lambda: (
        Tale()
        .add(Pub, "p/1", "p:1", "q")
        .add(PubEnd, "p/1", "p:1", ERROR)
        .add(Pub, "p/1", "p:1", "q")
        .add(PubEnd, "p/1", "p:1", ERROR)
        .done("p:1", 1)
    ),
    "K6 counts more than it holds": lambda: Tale().pub("p:1", 1).done("p:1", 1).count(1, 1, ready=1),
    "K6 counts less than it holds": lambda: Tale().pub("p:1", 1).count(1, 0),
    "K6 has more published than there were": lambda: Tale().pub("p:1", 1).count(2, 0, ready=2),
    "K6 has fewer published than there were": lambda: Tale().pub("p:1", 1).count(0, 0),
    "K6 counts what was refused": lambda: (
        Tale().add(Pub, "p/1", "p:1", "q").add(PubEnd, "p/1", "p:1", ERROR).count(1, 0, ready=1)
    ),
    "K6 counts a duplicate": lambda: (
        Tale().pub("p:1", 1, dedupe=True).pub("p:1", 1, dedupe=True).done("p:1", 1).count(3, 1, ready=2)
    ),
    "K6 has settled more than was acked": lambda: Tale().pub("p:1", 1).pub("p:2", 2).done("p:1", 1).count(2, 2),
    "K6 has settled less than was acked": lambda: Tale().pub("p:1", 1).done("p:1", 1).count(1, 0, ready=1),
    "K6 has settled what was stale": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", outcome=STALE).count(1, 1)
    ),
    "K6 has dropped something": lambda: Tale().pub("p:1", 1).count(1, 0, removed={"dropped": 1}),
    "K6 something is ready at the end": lambda: (
        Tale().pub("p:1", 1).done("p:1", 1).add(Pub, "p/2", "p:2", "q").drained().count(2, 1, ready=1, next_offset=2)
    ),
    "K6 something is leased at the end": lambda: (
        Tale().pub("p:1", 1).done("p:1", 1).add(Pub, "p/2", "p:2", "q").drained().count(2, 1, leased=1, next_offset=2)
    ),
    "K6 something is dead that nobody rejected": lambda: (
        Tale().pub("p:1", 1).done("p:1", 1).add(Pub, "p/2", "p:2", "q").drained().count(2, 1, dead=1, next_offset=2)
    ),
    "K6 something rejected is not dead": lambda: (
        Tale()
        .pub("p:1", 1)
        .take("p:1", 1)
        .settle("p:1", REJECT)
        .pub("p:2", 2)
        .take("p:2", 2)
        .settle("p:2", outcome=UNKNOWN)
        .crash()
        .drained()
        .count(1, 1, next_offset=3)
    ),
    "K6 something was stored and given to nobody": lambda: (
        Tale().pub("p:1", 1).done("p:1", 1).add(Pub, "p/1", "p:2", "q").drained().count(1, 1, next_offset=3)
    ),
    "K7 two have it under one token": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).take("p:1", 1, who="d/1").settle("p:1")
    ),
    "K7 one has it twice under one token": lambda: Tale().pub("p:1", 1).take("p:1", 1).take("p:1", 1).settle("p:1"),
    "K7 another has it while the first holds it": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).take("p:1", 1, who="d/1", token=(1, 2))
    ),
    "K7 the first had gone only long after": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).take("p:1", 1, who="d/1", token=(1, 2)).wait(6).add(Detach, "c/1")
    ),
    "K7 the first handed it back only later": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).take("p:1", 1, who="d/1", token=(1, 2)).settle("p:1", NACK)
    ),
    "K7 before its lease was over": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).wait(20).take("p:1", 1, who="d/1", token=(1, 2))
    ),
    "K8 before its delay was over": lambda: Tale().pub("p:1", 1, delay_ms=5_000).wait(4).done("p:1", 1),
    "K8 just before its delay was over": lambda: Tale().pub("p:1", 1, delay_ms=220).done("p:1", 1),
    "K8 too late for an idle broker": lambda: Tale(idle=True).pub("p:1", 1, delay_ms=1_000).wait(2).done("p:1", 1),
    "K8 handed back for longer": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", NACK, delay_ms=2_000).wait(1).done("p:1", 1, token=(1, 2))
    ),
    "K8 handed back for longer than the restart took": lambda: (
        Tale()
        .pub("p:1", 1)
        .take("p:1", 1)
        .settle("p:1", NACK, delay_ms=2_000)
        .crash()
        .done("p:1", 1, who="c/2", token=(2, 1))
    ),
    "K9 nothing comes": lambda: Tale().add(Attach, "c/1", "q", 10).pub("p:1", 1).wait(6).done("p:1", 1),
    "K9 nothing comes to the one who came later": lambda: (
        Tale().pub("p:1", 1).wait(6).add(Attach, "c/1", "q", 10).wait(6).done("p:1", 1)
    ),
    "K9 nothing more comes": lambda: (
        Tale().add(Attach, "c/1", "q", 10).pub("p:1", 1).pub("p:2", 2).done("p:1", 1).wait(6).done("p:2", 2)
    ),
    "K9 nothing comes after a restart": lambda: (
        Tale().pub("p:1", 1).crash().add(Attach, "c/2", "q", 10).wait(6).done("p:1", 1, who="c/2", token=(2, 1))
    ),
    "K9 nothing comes to the end": lambda: Tale().add(Attach, "c/1", "q", 10).pub("p:1", 1).wait(6).add(Detach, "c/1"),
}
"""The promise that is broken, how, and by what history."""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_caught_by_its_own_check(name):
    assert BAD[name]().verdict() == [name[:2]]


def test_every_check_has_bad_histories():
    counts = {f"K{n}": sum(name.startswith(f"K{n} ") for name in BAD) for n in range(1, 10)}
    assert min(counts.values()) >= 2, counts
    assert len(BAD) >= 30


GOOD: dict[str, Callable[[], Tale]] = {
    "nothing at all": Tale,
    "published, delivered, settled": lambda: Tale().pub("p:1", 1).done("p:1", 1).drained().count(1, 1),
    "not drained: it may come yet": lambda: Tale().pub("p:1", 1),
    "refused and not delivered": lambda: (
        Tale().add(Pub, "p/1", "p:1", "q").add(PubEnd, "p/1", "p:1", ERROR).drained().count(0, 0)
    ),
    "refused, and stored when it was tried again": lambda: (
        Tale().add(Pub, "p/1", "p:1", "q").add(PubEnd, "p/1", "p:1", ERROR).pub("p:1", 1).done("p:1", 1).drained()
    ),
    "an unknown outcome that was stored": lambda: (
        Tale().add(Pub, "p/1", "p:1", "q").add(PubEnd, "p/1", "p:1", UNKNOWN).done("p:1", 1).drained().count(1, 1)
    ),
    "an unknown outcome that was not stored": lambda: (
        Tale().add(Pub, "p/1", "p:1", "q").add(PubEnd, "p/1", "p:1", UNKNOWN).drained().count(0, 0)
    ),
    "a publish that was open at the end": lambda: Tale().add(Pub, "p/1", "p:1", "q").drained().count(0, 0),
    "an unknown one that was published again": lambda: (
        Tale()
        .add(Pub, "p/1", "p:1", "q")
        .add(PubEnd, "p/1", "p:1", UNKNOWN)
        .pub("p:1", 2, who="p/2")
        .done("p:1", 1)
        .done("p:1", 2)
        .drained()
        .count(2, 2)
    ),
    "a duplicate under a dedupe key": lambda: (
        Tale().pub("p:1", 1, dedupe=True).pub("p:1", 1, dedupe=True).done("p:1", 1).drained().count(1, 1)
    ),
    "redelivered after a restart": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).crash().done("p:1", 1, who="c/2", token=(2, 1)).drained()
    ),
    "read late by one whose connection is gone": lambda: (
        Tale()
        .pub("p:1", 1)
        .crash()
        .done("p:1", 1, who="c/2", token=(2, 1))
        .take("p:1", 1, who="c/1")
        .add(Detach, "c/1")
        .drained()
    ),
    "redelivered after an unknown ack": lambda: (
        Tale()
        .pub("p:1", 1)
        .take("p:1", 1)
        .settle("p:1", outcome=UNKNOWN)
        .crash()
        .done("p:1", 1, who="c/2", token=(2, 1))
        .drained()
    ),
    "gone after an unknown ack": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", outcome=UNKNOWN).crash().drained().count(1, 1)
    ),
    "an ack that was open at the crash": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).add(Settle, "c/1", ACK, "p:1", 1, 1, 1).crash().drained()
    ),
    "a stale ack, and another delivery": lambda: (
        Tale()
        .pub("p:1", 1)
        .take("p:1", 1)
        .wait(31)
        .done("p:1", 1, who="d/1", token=(1, 2))
        .settle("p:1", outcome=STALE)
        .drained()
        .count(1, 1)
    ),
    "handed back and taken again": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", NACK).done("p:1", 1, token=(1, 2)).drained()
    ),
    "its holder left, and another one has it": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).add(Detach, "c/1").done("p:1", 1, who="d/1", token=(1, 2)).drained()
    ),
    "its holder noticed a little later that it had left": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).done("p:1", 1, who="d/1", token=(1, 2)).add(Detach, "c/1").drained()
    ),
    "rejected, and dead": lambda: (
        Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", REJECT).drained().count(1, 0, dead=1)
    ),
    "rejected, perhaps": lambda: (
        Tale()
        .pub("p:1", 1)
        .take("p:1", 1)
        .settle("p:1", REJECT, UNKNOWN)
        .crash()
        .take("p:1", 1, who="c/2", token=(2, 1))
        .settle("p:1", REJECT, who="c/2", token=(2, 1))
        .drained()
        .count(1, 0, dead=1)
    ),
    "memory loses everything": lambda: Tale("memory").pub("p:1", 1).pub("p:2", 2).take("p:1", 1).crash().drained(),
    "memory uses offsets again": lambda: (
        Tale("memory")
        .pub("p:1", 1)
        .done("p:1", 1)
        .crash()
        .pub("p:2", 1, who="p/2")
        .done("p:2", 1, who="c/2", token=(2, 1))
        .drained()
        .count(1, 1)
    ),
    "memory loses what a slow client knows late": lambda: (
        Tale("memory").add(Pub, "p/1", "p:1", "q").crash().wait(3).add(PubEnd, "p/1", "p:1", OK, 1).drained()
    ),
    "written loses what was not synced": lambda: (
        Tale("written").pub("p:1", 1).done("p:1", 1).wait(3).pub("p:2", 2).crash(POWER).drained().count(1, 1)
    ),
    "written forgets an ack that was not synced": lambda: (
        Tale("written")
        .pub("p:1", 1)
        .wait(3)
        .done("p:1", 1)
        .crash(POWER)
        .done("p:1", 1, who="c/2", token=(2, 1))
        .drained()
    ),
    "written uses an offset again that was not synced": lambda: (
        Tale("written")
        .pub("p:1", 1)
        .done("p:1", 1)
        .crash(POWER)
        .pub("p:2", 1, who="p/2")
        .done("p:2", 1, who="c/2", token=(2, 1))
        .drained()
    ),
    "written stores again what a power cut took": lambda: (
        Tale("written")
        .pub("p:1", 1, dedupe=True)
        .done("p:1", 1)
        .crash(POWER)
        .pub("p:2", 1, who="p/2")
        .pub("p:1", 2, who="p/2", dedupe=True)
        .done("p:2", 1, who="c/2", token=(2, 1))
        .done("p:1", 2, who="c/2", token=(2, 1))
        .drained()
    ),
    "written loses the end of what is not settled": lambda: (
        Tale("written")
        .pub("p:1", 1)
        .pub("p:2", 2)
        .pub("p:3", 3)
        .pub("p:4", 4)
        .done("p:1", 1)
        .take("p:4", 4)
        .crash(POWER)
        .done("p:2", 2, who="c/2", token=(2, 1))
        .drained()
    ),
    "written stores the end again, elsewhere": lambda: (
        Tale("written")
        .pub("p:1", 1, dedupe=True)
        .pub("p:2", 2, dedupe=True)
        .crash(POWER)
        .pub("p:2", 1, who="p/2", dedupe=True)
        .done("p:2", 1, who="c/2", token=(2, 1))
        .drained()
    ),
    "two copies of what was published twice": lambda: (
        Tale()
        .add(Pub, "p/1", "p:1", "q")
        .add(PubEnd, "p/1", "p:1", UNKNOWN)
        .pub("p:1", 2, who="p/2")
        .done("p:1", 1)
        .take("p:1", 2)
        .settle("p:1", NACK, offset=2)
        .done("p:1", 2, token=(1, 2))
        .drained()
    ),
    "published again on the same connection, behind others": lambda: (
        Tale().add(Pub, "p/1", "p:1", "q").add(PubEnd, "p/1", "p:1", UNKNOWN).pub("p:2", 1).pub("p:1", 2)
    ),
    "handed back for a while, and overtaken": lambda: (
        Tale()
        .pub("p:1", 1)
        .take("p:1", 1)
        .settle("p:1", NACK, delay_ms=300)
        .pub("p:2", 2)
        .done("p:2", 2)
        .done("p:1", 1, token=(1, 2))
    ),
    "perhaps handed back, and overtaken": lambda: (
        Tale()
        .pub("p:1", 1)
        .pub("p:2", 2)
        .take("p:1", 1)
        .take("p:2", 2)
        .settle("p:1", RELEASE, UNKNOWN)
        .add(Settle, "c/1", RELEASE, "p:2", 2, 1, 1)
        .pub("p:3", 3)
        .done("p:3", 3)
        .done("p:2", 2, token=(1, 2))
        .done("p:1", 1, token=(1, 2))
    ),
    "several consumers overlap": lambda: (
        Tale().pub("p:1", 1).pub("p:2", 2).done("p:2", 2, who="d/1").done("p:1", 1).drained().count(2, 2)
    ),
    "priorities overtake": lambda: Tale().pub("p:1", 1).pub("p:2", 2, priority=5).done("p:2", 2).done("p:1", 1),
    "the delayed are overtaken": lambda: (
        Tale(idle=True).pub("p:1", 1, delay_ms=500).pub("p:2", 2).done("p:2", 2).done("p:1", 1).drained()
    ),
    "late for a busy broker": lambda: Tale().pub("p:1", 1, delay_ms=100).wait(3).done("p:1", 1),
    "late for an idle one that was restarted": lambda: (
        Tale(idle=True).pub("p:1", 1, delay_ms=100).crash().wait(2).done("p:1", 1, who="c/2", token=(2, 1))
    ),
    "the same offsets in several queues": lambda: (
        Tale()
        .add(Queue, "r", "synced")
        .pub("p:1", 1)
        .pub("p:2", 1, queue="r")
        .done("p:1", 1)
        .take("p:2", 1, queue="r")
        .settle("p:2")
        .drained()
        .count(1, 1)
    ),
    "two publishes at once, in either order": lambda: (
        Tale()
        .add(Pub, "p/1", "p:1", "q")
        .add(Pub, "r/1", "r:1", "q")
        .add(PubEnd, "r/1", "r:1", OK, 1)
        .add(PubEnd, "p/1", "p:1", OK, 2)
    ),
    "what returned is overtaken by what was on its way": lambda: (
        Tale()
        .pub("p:1", 1)
        .pub("p:2", 2)
        .take("p:1", 1)
        .settle("p:1", RELEASE)
        .done("p:2", 2)
        .done("p:1", 1, token=(1, 2))
    ),
    "nobody takes anything": lambda: Tale().pub("p:1", 1).wait(60).count(1, 0, ready=1),
    "a consumer whose credit is used up": lambda: (
        Tale()
        .add(Attach, "c/1", "q", 1)
        .pub("p:1", 1)
        .pub("p:2", 2)
        .take("p:1", 1)
        .wait(9)
        .settle("p:1")
        .done("p:2", 2)
    ),
    "a broker that is down": lambda: (
        Tale().add(Attach, "c/1", "q", 1).pub("p:1", 1).add(Crash, KILL).wait(9).add(Restart).add(Attach, "c/2", "q", 9)
    ),
    "counted while much is under way": lambda: (
        Tale()
        .pub("p:1", 1)
        .pub("p:2", 2)
        .add(Pub, "p/1", "p:3", "q")
        .done("p:1", 1)
        .take("p:2", 2)
        .add(Settle, "c/1", ACK, "p:2", 2, 1, 1)
        .count(3, 1, leased=1, ready=1)
    ),
    "counted anew after a restart": lambda: (
        Tale().pub("p:1", 1).done("p:1", 1).crash().drained().count(0, 0, next_offset=2)
    ),
}
"""Histories that keep every promise."""


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name):
    assert GOOD[name]().verdict() == []


def test_a_violation_names_ids_and_times():
    tale = Tale().pub("p:1", 1).drained()
    (violation,) = check(tale.events).violations
    assert str(violation) == (
        "K1 at 100.300000: p:1 of q was confirmed at 100.300000, delivered never, and finished by nobody"
    )


def test_the_figures_are_counted():
    tale = Tale().pub("p:1", 1).done("p:1", 1).crash().crash(POWER).crash(STOP).add(Pub, "p/2", "p:2", "q")
    tale.done("p:2", 2, token=(2, 1)).take("p:2", 2, token=(2, 2)).settle("p:2", outcome=UNKNOWN, token=(2, 2))
    tale.add(Pub, "p/2", "p:3", "q").add(PubEnd, "p/2", "p:3", ERROR)
    assert check(tale.events).figures._asdict() == {
        "published": 3,
        "confirmed": 1,
        "refused": 1,
        "unknown": 1,
        "recovered": 1,
        "delivered": 2,
        "redelivered": 1,
        "settled": 2,
        "settles_unknown": 1,
        "kills": 1,
        "power_cuts": 1,
        "stops": 1,
    }


def test_it_reads_files_and_says_by_its_exit_code_what_it_found(tmp_path):
    parts: dict[str, list[Any]] = {"clients": [], "broker": []}
    for event in Tale().pub("p:1", 1).crash().drained().count(1, 0, ready=1).events:
        parts["clients" if isinstance(event, Pub | PubEnd) else "broker"].append(event)
    for name, events in parts.items():
        (tmp_path / name).write_text("".join(map(history.line, events)), "utf-8")
    command = [sys.executable, "-m", "crash.checker", str(tmp_path / "broker"), str(tmp_path / "clients")]
    environ = plain_environ() | {"PYTHONPATH": str(ROOT / "tests")}
    bad = subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=60)
    assert (bad.returncode, bad.stderr) == (1, "")
    figures, *violations = bad.stdout.splitlines()
    assert "published 1, confirmed 1" in figures
    assert [violation[:2] for violation in violations] == ["K1", "K6", "K6"]
    good = subprocess.run(command[:-1], check=False, env=environ, capture_output=True, text=True, timeout=60)
    assert good.returncode == 1, "what the broker counts is not in half of a history"


def test_a_history_survives_its_file(tmp_path):
    events = Tale().pub("p:1", 1, priority=3).done("p:1", 1).crash().drained().count(1, 1).events
    (tmp_path / "all").write_text("".join(map(history.line, events)), "utf-8")
    assert history.read([tmp_path / "all"]) == events
