"""K1, K2, K3 and K5: what is stored is what was confirmed, until it is settled, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from crash.history import OK, PubEnd
from crash.story import by_queue
from crash.verdict import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crash.history import Deliver
    from crash.story import Fault, Life, Story


def nothing_lost(story: Story) -> Iterator[Violation]:
    """K1: what somebody knew to be stored was delivered until somebody finished it, once the queues are drained."""
    if story.drained is None:
        return
    for life in story.told:
        known = next((each for each in life.evidence if not story.may_be_gone(life.pub.q, each)), None)
        if known is None or life.finished:
            continue
        how = "confirmed" if isinstance(known, PubEnd) else "delivered"
        times = f"{len(life.deliveries)} times" if life.deliveries else "never"
        text = f"{life.id} of {life.pub.q} was {how} at {known.t:.6f}, delivered {times}, and finished by nobody"
        yield Violation("K1", known.t, text)
    for queue, lives in by_queue(story).items():
        yield from _holes(story, queue, lives)


def _holes(story: Story, queue: str, lives: list[Life]) -> Iterator[Violation]:
    """What a power cut takes of a queue is its end: nothing that was stored before what survived."""
    survivors: dict[Fault, tuple[int, str]] = {}
    confirmed = [(life, life.confirmed) for life in lives]
    for life, end in confirmed:
        if end is None:
            continue
        for fault in story.faults_that_take(queue, end):
            if any(story.began[each.who] >= fault.over and each.offset == end.offset for each in life.deliveries):
                survivors[fault] = max(survivors.get(fault, (0, "")), (end.offset, life.id))
    for life, end in confirmed:
        if end is None or life.finished:
            continue
        # Two cuts may come so soon after each other that both could have taken it: one that did is enough.
        after = [survivors.get(fault, (0, "")) for fault in story.faults_that_take(queue, end)]
        if after and all(end.offset < offset for offset, _ in after):
            offset, survivor = after[0]
            lost = f"{life.id} of {queue}, confirmed at offset {end.offset} at {end.t:.6f}, is lost"
            yield Violation("K1", end.t, f"{lost}, and {survivor}, stored after it at {offset}, is not")


def nothing_invented(story: Story) -> Iterator[Violation]:
    """K2: every delivery is of a message that was published before, to that queue, once, and is undamaged."""
    for event in story.strangers:
        yield Violation("K2", event.t, f"{_delivery(event)}: nobody has published it")
    for life in story.told:
        for event in life.deliveries:
            if not event.intact:
                yield Violation("K2", event.t, f"{_delivery(event)}: its bytes are not those that were published")
            if event.q != life.pub.q:
                yield Violation("K2", event.t, f"{_delivery(event)}: it was published to {life.pub.q}")
        yield from _copies(story, life)
    yield from _namesakes(story)


def _copies(story: Story, life: Life) -> Iterator[Violation]:
    places = sorted({event.offset for event in life.evidence})
    allowed = 1 if life.pub.dedupe else len(life.tries)
    if len(places) > allowed and not any(story.may_be_gone(life.pub.q, event) for event in life.evidence):
        last = max(life.evidence, key=lambda event: event.t)
        stored = ", ".join(map(str, places))
        yield Violation("K2", last.t, f"{life.id} was published {len(life.tries)} times, and is stored at {stored}")


def _namesakes(story: Story) -> Iterator[Violation]:
    """An offset names one message for ever, unless the first one was taken by a fault."""
    names: dict[tuple[str, int], list[Deliver]] = defaultdict(list)
    for event in story.deliveries:
        names[event.q, event.offset].append(event)
    for events in names.values():
        for one, two in pairwise(events):
            if one.id != two.id and not story.may_be_gone(one.q, one):
                yield Violation("K2", two.t, f"{_delivery(two)}: it is {one.id} that was there at {one.t:.6f}")


def settled_stays_settled(story: Story) -> Iterator[Violation]:
    """K3: no delivery begins after a confirmed ack or reject of the message."""
    for life in story.told:
        for (offset, *token), settled in life.settles.items():
            if settled.end is None or settled.end.outcome != OK or not settled.may_finish:
                continue
            if story.may_be_gone(life.pub.q, settled.end):
                continue
            begin, end = settled
            for event in life.deliveries:
                if event.offset == offset and event.token > tuple(token):
                    text = f"{_delivery(event)}: its {begin.verb} under {tuple(token)} was confirmed at {end.t:.6f}"
                    yield Violation("K3", event.t, text)


def refused_is_not_stored(story: Story) -> Iterator[Violation]:
    """K5: what the broker refused is never delivered."""
    for life in story.told:
        if life.refused and life.deliveries:
            refused = max(each.end.t for each in life.tries if each.end is not None)
            first = life.deliveries[0]
            yield Violation("K5", first.t, f"{_delivery(first)}: its publish was refused at {refused:.6f}")


def _delivery(event: Deliver) -> str:
    return f"{event.id or 'a message'} came to {event.who} as {event.q}/{event.offset} {event.token} at {event.t:.6f}"
