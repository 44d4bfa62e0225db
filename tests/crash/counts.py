"""K6: what the broker counts of a queue is what happened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crash.history import ACK, ERROR, OK, REJECT
from crash.verdict import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crash.history import Counters
    from crash.story import Life, Settled, Story

SHOWN_MAX = 10


def exactly_counted(story: Story) -> Iterator[Violation]:
    """K6: held + removed = published; both agree with the clients; and at the end all that was stored was delivered."""
    for event in story.counters:
        lives = [life for life in story.told if life.pub.q == event.q]
        held = event.ready + event.delayed + event.leased + event.dead
        removed = sum(event.removed.values())
        if held + removed != event.published:
            text = f"{event.q} holds {held}, {removed} have left it, and {event.published} were published"
            yield Violation("K6", event.t, text)
        others = {cause: count for cause, count in event.removed.items() if count and cause != "settled"}
        if others:
            yield Violation("K6", event.t, f"{event.q} has lost messages that nobody wanted to lose: {others}")
        yield from _published(story, event, lives)
        yield from _settled(story, event, lives)
        if story.drained is not None and event.asked >= story.drained:
            yield from _drained(story, event, lives)


def _between(event: Counters, what: str, count: int, low: int, high: int) -> Iterator[Violation]:
    if not low <= count <= high:
        text = f"{event.q} counts {count} {what}; by what its clients did it is {low} to {high}"
        yield Violation("K6", event.t, text)


def _published(story: Story, event: Counters, lives: list[Life]) -> Iterator[Violation]:
    tries = [each for life in lives for each in life.tries]
    refused = sum(each.outcome == ERROR for each in tries if each.pub.t < event.t)
    begun = sum(each.pub.t < event.t for each in tries)
    confirmed = sum(each.end.t < event.asked for each in tries if each.end is not None and each.end.outcome == OK)
    duplicates = sum(len(life.tries) - 1 for life in lives if life.pub.dedupe)
    low = 0 if _counts_anew(story, event) else confirmed - duplicates
    yield from _between(event, "published", event.published, low, begun - refused)


def _settled(story: Story, event: Counters, lives: list[Life]) -> Iterator[Violation]:
    acks = [each for life in lives for each in life.settles.values() if each.begin.verb == ACK]
    begun = len(
        {(life.id, each.begin.offset) for life in lives for each in life.settles.values() if _may_count(each, event)}
    )
    done = sum(each.end.t < event.asked for each in acks if each.end is not None and each.end.outcome == OK)
    low = 0 if _counts_anew(story, event) else done
    yield from _between(event, "settled", event.removed.get("settled", 0), low, begun)


def _may_count(settled: Settled, event: Counters) -> bool:
    return settled.begin.verb == ACK and settled.may_finish and settled.begin.t < event.t


def _counts_anew(story: Story, event: Counters) -> bool:
    """Whether the broker was started again: it counts as far back as its log goes, and that forgets."""
    return any(fault.t < event.t for fault in story.faults)


def _drained(story: Story, event: Counters, lives: list[Life]) -> Iterator[Violation]:
    left = {name: getattr(event, name) for name in ("ready", "delayed", "leased") if getattr(event, name)}
    if left:
        yield Violation("K6", event.t, f"{event.q} is drained, and counts {left}")
    rejects = [(each, life) for life in lives for each in life.settles.values() if each.begin.verb == REJECT]
    sure = [
        each
        for each, life in rejects
        if each.end is not None and each.end.outcome == OK and not story.may_be_gone(life.pub.q, each.end)
    ]
    yield from _between(event, "dead", event.dead, len(sure), sum(each.may_finish for each, _ in rejects))
    if story.level(event.q) != "memory" or not story.faults:
        seen = {delivery.offset for delivery in story.deliveries if delivery.q == event.q}
        unseen = [offset for offset in range(1, event.next_offset) if offset not in seen]
        if unseen:
            some = ", ".join(map(str, unseen[:SHOWN_MAX]))
            text = f"{event.q} has stored {event.next_offset - 1}, and nobody was given {len(unseen)} of them: {some}"
            yield Violation("K6", event.t, text)
