"""Histories that a broker must not have; the checker has to catch each by the check that it is made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crash.history import (
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
    Crash,
    Detach,
    Pub,
    PubEnd,
    Restart,
)
from crash.tale import Tale

if TYPE_CHECKING:
    from collections.abc import Callable

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
    "K2 never published": lambda: Tale().take("p:9", 9),
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
        Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", NACK).take("p:1", 1)
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
    "K6 has settled what was handed back": lambda: Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", NACK).count(1, 1),
    "K6 has settled what was rejected": lambda: Tale().pub("p:1", 1).take("p:1", 1).settle("p:1", REJECT).count(1, 1),
    "K6 has settled what is acked only later": lambda: Tale().pub("p:1", 1).count(1, 1).done("p:1", 1),
    "K6 has fewer published, of which one was tried twice": lambda: (
        Tale().add(Pub, "p/1", "p:1", "q").add(PubEnd, "p/1", "p:1", UNKNOWN).pub("p:1", 1).count(0, 0)
    ),
    "K6 something in memory was stored and given to nobody": lambda: (
        Tale("memory").pub("p:1", 1).done("p:1", 1).add(Pub, "p/1", "p:2", "q").drained().count(1, 1, next_offset=3)
    ),
    "K6 something was stored, and after a restart given to nobody": lambda: (
        Tale().pub("p:1", 1).done("p:1", 1).add(Pub, "p/1", "p:2", "q").crash().drained().count(1, 1, next_offset=3)
    ),
    "K6 something was stored and given to nobody, but in another queue": lambda: (
        Tale()
        .pub("p:1", 1)
        .done("p:1", 1)
        .pub("r:2", 2, queue="r")
        .take("r:2", 2, queue="r")
        .settle("r:2")
        .drained()
        .count(1, 1, next_offset=3)
    ),
    "K9 nothing comes, though publishes do": lambda: (
        Tale().add(Attach, "c/1", "q", 10).pub("p:1", 1).wait(3).pub("p:2", 2).wait(3).done("p:1", 1)
    ),
    "K9 nothing comes, though it does from another queue": lambda: (
        Tale()
        .add(Attach, "c/1", "q", 10)
        .pub("p:1", 1)
        .pub("r:1", 1, queue="r")
        .wait(3)
        .take("r:1", 1, queue="r", who="d/1")
        .wait(3)
        .done("p:1", 1)
    ),
    "K9 nothing more comes once credit is back": lambda: (
        Tale()
        .add(Attach, "c/1", "q", 2)
        .pub("p:1", 1)
        .pub("p:2", 2)
        .pub("p:3", 3)
        .done("p:1", 1)
        .done("p:2", 2)
        .wait(6)
        .done("p:3", 3)
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
