"""Histories that a broker may have, however odd they look."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    UNKNOWN,
    Attach,
    Crash,
    Detach,
    Pub,
    PubEnd,
    Queue,
    Restart,
    Settle,
)
from crash.tale import Tale

if TYPE_CHECKING:
    from collections.abc import Callable

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
    "memory uses an offset again whose confirm is read late": lambda: (
        Tale("memory")
        .add(Pub, "p/1", "p:1", "q")
        .crash()
        .add(PubEnd, "p/1", "p:1", OK, 9)
        .pub("p:2", 1, who="p/2")
        .done("p:2", 1, who="c/2", token=(2, 1))
    ),
    "memory loses what came to a client that connected when all was over": lambda: (
        Tale("memory")
        .add(Crash, POWER)
        .pub("p:1", 3)
        .add(Attach, "c/1", "q", 10)
        .add(Restart)
        .wait(9)
        .pub("p:2", 1, who="p/2")
        .done("p:2", 1, who="c/2", token=(2, 1))
        .drained()
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
    "written loses by the first of two power cuts, and keeps what came between them": lambda: (
        Tale("written", window_s=30)
        .pub("p:1", 1)
        .pub("p:2", 2)
        .crash(POWER)
        .pub("p:3", 1, who="p/2")
        .pub("p:4", 2, who="p/2")
        .pub("p:5", 3, who="p/2")
        .crash(POWER)
        .done("p:3", 1, who="c/3", token=(3, 1))
        .done("p:4", 2, who="c/3", token=(3, 1))
        .done("p:5", 3, who="c/3", token=(3, 1))
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
        Tale("written", window_s=3)
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
    "memory has used offsets that it has lost": lambda: (
        Tale("memory")
        .pub("p:1", 1)
        .crash()
        .pub("p:2", 2, who="p/2")
        .done("p:2", 2, who="c/2", token=(2, 1))
        .drained()
        .count(1, 1, next_offset=3)
    ),
    "counted before all was taken": lambda: Tale().pub("p:1", 1).count(1, 0, ready=1).done("p:1", 1).drained(),
    "counted before another was refused": lambda: (
        Tale().pub("p:1", 1).count(1, 0, ready=1).add(Pub, "p/1", "p:2", "q").add(PubEnd, "p/1", "p:2", ERROR)
    ),
    "counted that nothing was dropped": lambda: Tale().pub("p:1", 1).count(1, 0, ready=1, removed={"dropped": 0}),
    "a reject that was open at the crash": lambda: (
        Tale()
        .pub("p:1", 1)
        .take("p:1", 1)
        .add(Settle, "c/1", REJECT, "p:1", 1, 1, 1)
        .crash()
        .drained()
        .count(1, 0, dead=1)
    ),
    "written forgets a reject that was not synced": lambda: (
        Tale("written")
        .pub("p:1", 1)
        .take("p:1", 1)
        .settle("p:1", REJECT)
        .crash(POWER)
        .done("p:1", 1, who="c/2", token=(2, 1))
        .drained()
        .count(1, 1)
    ),
    "nobody was there for a while, though the broker was idle": lambda: (
        Tale(idle=True).pub("p:1", 1).wait(3).done("p:1", 1)
    ),
    "delayed, and not yet delivered": lambda: Tale(idle=True).pub("p:1", 1, delay_ms=5_000),
    "delayed, late, and nobody knows since when": lambda: (
        Tale(idle=True).add(Pub, "p/1", "p:1", "q", delay_ms=100).wait(3).done("p:1", 1)
    ),
    "handed back for a while, perhaps": lambda: (
        Tale()
        .pub("p:1", 1)
        .pub("p:2", 2)
        .take("p:1", 1)
        .take("p:2", 2)
        .settle("p:1", NACK, UNKNOWN, delay_ms=9_000)
        .add(Settle, "c/1", NACK, "p:2", 2, 1, 1, 9_000)
        .crash()
        .done("p:1", 1, who="c/2", token=(2, 1))
        .done("p:2", 2, who="c/2", token=(2, 1))
    ),
    "written forgets for how long it was handed back": lambda: (
        Tale("written")
        .pub("p:1", 1)
        .take("p:1", 1)
        .settle("p:1", NACK, delay_ms=9_000)
        .crash(POWER)
        .done("p:1", 1, who="c/2", token=(2, 1))
    ),
    "one of two copies is handed back for a while": lambda: (
        Tale()
        .add(Pub, "p/1", "p:1", "q")
        .add(PubEnd, "p/1", "p:1", UNKNOWN)
        .pub("p:1", 2, who="p/2")
        .take("p:1", 1)
        .settle("p:1", NACK, delay_ms=9_000)
        .take("p:1", 2)
        .settle("p:1", RELEASE, offset=2)
        .done("p:1", 2, token=(1, 2))
    ),
    "handed back for a while, and an old delivery is read": lambda: (
        Tale()
        .pub("p:1", 1)
        .take("p:1", 1, who="d/1", token=(1, 2))
        .settle("p:1", NACK, delay_ms=9_000, who="d/1", token=(1, 2))
        .take("p:1", 1)
        .add(Detach, "c/1")
    ),
    "nothing was there for a while": lambda: Tale().add(Attach, "c/1", "q", 10).wait(9).pub("p:1", 1).done("p:1", 1),
    "what waits is delayed": lambda: (
        Tale().add(Attach, "c/1", "q", 10).pub("p:1", 1, delay_ms=9_000).wait(9).done("p:1", 1)
    ),
    "what could come was refused": lambda: (
        Tale()
        .add(Attach, "c/1", "q", 10)
        .add(Pub, "p/1", "p:1", "q")
        .add(PubEnd, "p/1", "p:1", ERROR)
        .wait(9)
        .add(Detach, "c/1")
    ),
    "what waits is in another queue": lambda: (
        Tale().pub("p:1", 1).add(Attach, "c/1", "r", 10).wait(9).add(Attach, "d/1", "q", 10).done("p:1", 1, who="d/1")
    ),
    "who could take has left": lambda: (
        Tale().add(Attach, "c/1", "q", 10).pub("p:1", 1).add(Detach, "c/1").wait(9).add(Attach, "c/2", "q", 10)
    ),
    "credit for another queue only": lambda: (
        Tale()
        .add(Attach, "c/1", "q", 1)
        .add(Attach, "c/1", "r", 1)
        .pub("p:1", 1)
        .pub("p:2", 2)
        .pub("r:1", 1, queue="r")
        .take("p:1", 1)
        .take("r:1", 1, queue="r")
        .settle("r:1")
        .wait(9)
        .settle("p:1")
        .done("p:2", 2)
    ),
    "what could come was lost with the memory": lambda: (
        Tale("memory").pub("p:1", 1).crash().add(Attach, "c/2", "q", 10).wait(9).add(Detach, "c/2")
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
