"""A story: a history by message and by fault, so that a check can ask what became of each."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from crash.history import (
    ACK,
    ERROR,
    OK,
    POWER,
    REJECT,
    STALE,
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crash.history import Event

Place = tuple[int, int, int]
"""(offset, epoch, attempt)."""
Told = PubEnd | Deliver | SettleEnd
"""What a client learns from a broker."""


class Try(NamedTuple):
    """One publish of a message; `end` is None when nobody knows how it ended."""

    pub: Pub
    end: PubEnd | None

    @property
    def outcome(self) -> str:
        """ok, error, or unknown."""
        return "unknown" if self.end is None else self.end.outcome


class Settled(NamedTuple):
    """One settle of a delivery; `end` is None when nobody knows how it ended."""

    begin: Settle
    end: SettleEnd | None

    @property
    def outcome(self) -> str:
        """ok, stale, or unknown."""
        return "unknown" if self.end is None else self.end.outcome

    @property
    def may_finish(self) -> bool:
        """Whether the message may be gone for good by it."""
        return self.begin.verb in {ACK, REJECT} and self.outcome != STALE


class Life:
    """Everything that is told of one message.

    Attributes:
        id: what it is called.
        tries: its publishes, in order of time.
        deliveries: its deliveries, in order of their tokens.
        settles: its settles, by the place of the delivery.
    """

    def __init__(self, name: str) -> None:
        self.id = name
        self.tries: list[Try] = []
        self.deliveries: list[Deliver] = []
        self.settles: dict[Place, Settled] = {}

    @property
    def pub(self) -> Pub:
        """Its first publish."""
        return self.tries[0].pub

    @property
    def confirmed(self) -> PubEnd | None:
        """Its first confirm."""
        return next((each.end for each in self.tries if each.end is not None and each.end.outcome == OK), None)

    @property
    def refused(self) -> bool:
        """Whether it was certainly not stored."""
        return all(each.outcome == ERROR for each in self.tries)

    @property
    def evidence(self) -> list[PubEnd | Deliver]:
        """What shows that it was stored: confirms and deliveries."""
        ends = [each.end for each in self.tries if each.end is not None and each.end.outcome == OK]
        return [*ends, *self.deliveries]

    @property
    def finished(self) -> bool:
        """Whether it may be gone for good by the will of a consumer."""
        return any(each.may_finish for each in self.settles.values())


class Fault(NamedTuple):
    """When the broker was hurt, how, and when it had certainly ended, since it was started again."""

    t: float
    kind: str
    over: float


class Story:
    """A history, told by message.

    Args:
        events: the history, by time.
        window_s: how much before a power cut what is confirmed at the level `written` may be lost.
    """

    def __init__(self, events: list[Event], window_s: float) -> None:
        self.events = events
        self.window_s = window_s
        self.levels: dict[str, str] = {}
        self.lives: dict[str, Life] = {}
        self.strangers: list[Deliver] = []
        self.faults: list[Fault] = []
        self.began: dict[str, float] = {}
        self.detached: dict[str, float] = {}
        self.counters: list[Counters] = []
        self.drained: float | None = None
        for event in events:
            self.began.setdefault(getattr(event, "who", ""), event.t)
            _TAKE[type(event)](self, event)
        self._end()

    def level(self, queue: str) -> str:
        """The durability of a queue; the strongest one when nobody told."""
        return self.levels.get(queue, "synced")

    def faults_that_take(self, queue: str, evidence: Told) -> Iterator[Fault]:
        """The faults that may have taken what somebody was told of a queue before they came."""
        for fault in self._dangers(queue)[self.generation(queue, evidence.who) :]:
            if self.level(queue) == "memory" or evidence.t > fault.t - self.window_s:
                yield fault

    def may_be_gone(self, queue: str, evidence: Told) -> bool:
        """Whether a fault may have taken what somebody was told of a queue."""
        return any(True for _ in self.faults_that_take(queue, evidence))

    def generation(self, queue: str, who: str) -> int:
        """After how many of the faults that can take something from a queue a connection was made.

        A slow client may read what it was told long after the fault; a later connection was told by a later broker.
        """
        return sum(fault.over <= self.began[who] for fault in self._dangers(queue))

    def _dangers(self, queue: str) -> list[Fault]:
        level = self.level(queue)
        return [fault for fault in self.faults if level == "memory" or (level == "written" and fault.kind == POWER)]

    def fault_between(self, start: float, end: float) -> bool:
        """Whether the broker was hurt in this time."""
        return any(start < fault.t < end for fault in self.faults)

    @cached_property
    def deliveries(self) -> list[Deliver]:
        """All deliveries, by time."""
        return [event for event in self.events if isinstance(event, Deliver)]

    @property
    def told(self) -> Iterable[Life]:
        """All messages that somebody has published."""
        return self.lives.values()

    # Taking events.

    def _queue(self, event: Queue) -> None:
        self.levels[event.q] = event.level

    def _pub(self, event: Pub) -> None:
        life = self.lives.setdefault(event.id, Life(event.id))
        life.tries.append(Try(event, None))

    def _pub_end(self, event: PubEnd) -> None:
        tries = self.lives[event.id].tries
        position = next(n for n, each in enumerate(tries) if each.pub.who == event.who and each.end is None)
        tries[position] = Try(tries[position].pub, event)

    def _deliver(self, event: Deliver) -> None:
        life = self.lives.get(event.id)
        if life is None:
            self.strangers.append(event)
        else:
            life.deliveries.append(event)

    def _settle(self, event: Settle) -> None:
        if event.id in self.lives:
            self.lives[event.id].settles[event.place] = Settled(event, None)

    def _settle_end(self, event: SettleEnd) -> None:
        if event.id in self.lives:
            settles = self.lives[event.id].settles
            settles[event.place] = Settled(settles[event.place].begin, event)

    def _detach(self, event: Detach) -> None:
        self.detached[event.who] = event.t

    def _crash(self, event: Crash) -> None:
        self.faults.append(Fault(event.t, event.fault, float("inf")))

    def _restart(self, event: Restart) -> None:
        if self.faults and self.faults[-1].over > event.t:
            self.faults[-1] = self.faults[-1]._replace(over=event.t)

    def _counters(self, event: Counters) -> None:
        self.counters.append(event)

    def _drained(self, event: Drained) -> None:
        self.drained = event.t

    def _nothing(self, event: Attach) -> None:
        pass

    def _end(self) -> None:
        for life in self.lives.values():
            life.deliveries.sort(key=lambda each: each.token)


_TAKE = {
    Queue: Story._queue,
    Pub: Story._pub,
    PubEnd: Story._pub_end,
    Attach: Story._nothing,
    Deliver: Story._deliver,
    Settle: Story._settle,
    SettleEnd: Story._settle_end,
    Detach: Story._detach,
    Crash: Story._crash,
    Restart: Story._restart,
    Counters: Story._counters,
    Drained: Story._drained,
}


def by_queue(story: Story) -> dict[str, list[Life]]:
    """The messages of each queue, by the time of their publish."""
    queues: dict[str, list[Life]] = defaultdict(list)
    for life in story.told:
        queues[life.pub.q].append(life)
    return queues
