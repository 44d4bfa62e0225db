"""K8 and K9: nothing comes too early, and what can come does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crash.history import (
    NACK,
    OK,
    Attach,
    Crash,
    Deliver,
    Detach,
    PubEnd,
    Restart,
    SettleEnd,
)
from crash.verdict import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crash.history import Event
    from crash.story import Life, Story

EARLY_S = 0.010
LATE_S = 0.250
STILL_S = 5.0


def delays_are_kept(story: Story, *, idle: bool) -> Iterator[Violation]:
    """K8: no message comes before its delay is over, nor much later when the broker was idle.

    Args:
        story: the history.
        idle: whether broker and consumers had nothing else to do, so that lateness counts too.
    """
    for life in story.told:
        yield from _publish_delay(story, life, idle=idle)
        yield from _nack_delays(story, life)


def _publish_delay(story: Story, life: Life, *, idle: bool) -> Iterator[Violation]:
    if not life.pub.delay_ms or not life.deliveries:
        return
    first, delay_s = min(life.deliveries, key=lambda event: event.t), life.pub.delay_ms / 1000
    came = f"{life.id}, published with a delay of {delay_s:g} s, came to {first.who} at {first.t:.6f}"
    if first.t < life.pub.t + delay_s - EARLY_S:
        yield Violation("K8", first.t, f"{came}, {first.t - life.pub.t:.6f} s after it was published")
    end = life.confirmed
    if idle and end is not None and first.t > end.t + delay_s + LATE_S and not story.fault_between(end.t, first.t):
        yield Violation("K8", first.t, f"{came}, {first.t - end.t:.6f} s after it was confirmed")


def _nack_delays(story: Story, life: Life) -> Iterator[Violation]:
    for begin, end in life.settles.values():
        if begin.verb != NACK or end is None or end.outcome != OK or story.may_be_gone(life.pub.q, end):
            continue
        due = begin.t + begin.delay_ms / 1000 - EARLY_S
        for event in life.deliveries:
            later = event.offset == begin.offset and event.token > (begin.epoch, begin.attempt)
            if later and begin.t < event.t < due:
                text = f"{life.id}, handed back for {begin.delay_ms} ms at {begin.t:.6f}, came to {event.who}"
                yield Violation("K8", event.t, f"{text} at {event.t:.6f}")


def what_is_ready_is_delivered(story: Story) -> Iterator[Violation]:
    """K9: a queue with a ready message and a consumer that has credit delivers something within five seconds."""
    for queue in {life.pub.q for life in story.told}:
        watch = _Watch(story, queue)
        for event in story.events:
            yield from watch.take(event)


class _Watch:
    """Looks at one queue, and knows since when it should deliver something.

    Only what is certain counts: messages that were confirmed, without a delay, and came to nobody yet; and consumers
    with at most half of their credit in hand, since clients give credit back in portions.
    """

    def __init__(self, story: Story, queue: str) -> None:
        self._story = story
        self._queue = queue
        self._waiting: set[str] = set()
        self._seen: set[str] = set()
        self._credit: dict[str, int] = {}
        self._in_hand: dict[str, int] = {}
        self._since: float | None = None

    def take(self, event: Event) -> Iterator[Violation]:
        """The next event of the history."""
        if self._since is not None and event.t - self._since > STILL_S:
            some = ", ".join(sorted(self._waiting)[:3])
            text = f"{self._queue} has delivered nothing since {self._since:.6f}, though {some} could come"
            yield Violation("K9", event.t, text)
            self._since = event.t
        self._change(event)
        if not self._waiting or not any(self._is_ready(who) for who in self._credit):
            self._since = None
        elif self._since is None:
            self._since = event.t

    def _is_ready(self, who: str) -> bool:
        return self._in_hand[who] <= self._credit[who] // 2

    def _change(self, event: Event) -> None:
        if isinstance(event, PubEnd):
            life = self._story.lives[event.id]
            if life.pub.q == self._queue and event.outcome == OK and not life.pub.delay_ms:
                self._waiting |= {event.id} - self._seen
        elif isinstance(event, Attach) and event.q == self._queue:
            self._credit[event.who], self._in_hand[event.who] = event.credit, 0
        elif isinstance(event, Deliver) and event.q == self._queue:
            self._since = None
            self._seen.add(event.id)
            self._waiting.discard(event.id)
            if event.who in self._in_hand:
                self._in_hand[event.who] += 1
        elif isinstance(event, SettleEnd) and event.who in self._in_hand and self._is_mine(event):
            self._in_hand[event.who] -= 1
        elif isinstance(event, Detach):
            self._credit.pop(event.who, None)
        elif isinstance(event, Crash | Restart):
            self._crash()

    def _is_mine(self, event: SettleEnd) -> bool:
        life = self._story.lives.get(event.id)
        return life is not None and life.pub.q == self._queue

    def _crash(self) -> None:
        self._credit.clear()
        self._waiting -= {name for name in self._waiting if self._is_taken(self._story.lives[name])}

    def _is_taken(self, life: Life) -> bool:
        return life.confirmed is not None and self._story.may_be_gone(self._queue, life.confirmed)
