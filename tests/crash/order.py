"""K4 and K7: first in first out, and one holder at a time."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from crash.history import NACK, OK, RELEASE, Deliver, Pub, PubEnd
from crash.verdict import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crash.story import Life, Story

NOTICE_S = 5.0
"""How much later than the broker a client may notice that its connection is gone, or read what it was sent."""


def first_in_first_out(story: Story) -> Iterator[Violation]:
    """K4: offsets follow the publishes, first deliveries the offsets, and what returns takes its place."""
    for queue in {life.pub.q for life in story.told}:
        yield from _stored_in_order(story, queue)
    yield from _pipelined_in_order(story)
    streams: dict[tuple[str, str, int], list[tuple[Life, Deliver]]] = defaultdict(list)
    for event in story.deliveries:
        life = story.lives.get(event.id)
        if life is not None:
            streams[event.who, event.q, life.pub.priority].append((life, event))
    for stream in streams.values():
        yield from _first_deliveries_in_order(stream)
        yield from _returned_to_their_place(stream)


def _stored_in_order(story: Story, queue: str) -> Iterator[Violation]:
    """A publish that begins after another one was confirmed is stored behind it, unless a fault may have taken that."""
    newest: dict[int, PubEnd] = {}
    before: dict[str, PubEnd | None] = {}
    for event in story.events:
        if isinstance(event, Pub) and event.q == queue and len(story.lives[event.id].tries) == 1:
            before[event.id] = newest.get(story.generation(queue, event.who))
        elif isinstance(event, PubEnd) and event.outcome == OK and event.id in before:
            other = before.pop(event.id)
            if other is not None and event.offset <= other.offset:
                text = f"{event.id} is at {queue}/{event.offset}, and {other.id} at {other.offset}"
                yield Violation("K4", event.t, f"{text} was confirmed at {other.t:.6f}, before it was published")
            generation = story.generation(queue, event.who)
            if generation not in newest or event.offset > newest[generation].offset:
                newest[generation] = event


def _pipelined_in_order(story: Story) -> Iterator[Violation]:
    """Publishes of one connection to one queue are stored in the order in which they were made."""
    streams: dict[tuple[str, str], list[PubEnd]] = defaultdict(list)
    for life in story.told:
        if len(life.tries) == 1 and life.confirmed is not None:
            streams[life.pub.who, life.pub.q].append(life.confirmed)
    for (who, queue), ends in streams.items():
        for one, two in pairwise(sorted(ends, key=lambda end: story.lives[end.id].pub.t)):
            if two.offset <= one.offset:
                text = f"{two.id}, which {who} published after {one.id}, is not behind it: {queue}/{two.offset}"
                yield Violation("K4", two.t, f"{text} and {one.offset}")


def _first_deliveries_in_order(stream: list[tuple[Life, Deliver]]) -> Iterator[Violation]:
    first = [event for life, event in stream if event.attempt == 1 and not life.pub.delay_ms]
    for one, two in pairwise(first):
        if two.offset < one.offset:
            text = f"{two.q}/{two.offset} ({two.id}) came to {two.who} at {two.t:.6f}, after {one.offset} ({one.id})"
            yield Violation("K4", two.t, text)


def _returned_to_their_place(stream: list[tuple[Life, Deliver]]) -> Iterator[Violation]:
    """What was ready again before another message was even published goes before that one."""
    newest: Deliver | None = None
    published = float("-inf")
    for life, event in stream:
        returned = _returned_at(life, event)
        if newest is not None and returned is not None and returned < published:
            text = f"{event.q}/{event.offset} ({event.id}), ready again since {returned:.6f}, came to {event.who}"
            text += f" after {newest.offset} ({newest.id}), which was published at {published:.6f}"
            yield Violation("K4", event.t, text)
        if life.pub.t > published:
            newest, published = event, life.pub.t


def _returned_at(life: Life, event: Deliver) -> float | None:
    """When the delivery before this one had certainly ended, and left the message ready."""
    settled = life.settles.get((event.offset, event.epoch, event.attempt - 1))
    if settled is None or settled.end is None or settled.end.outcome != OK:
        return None
    ready = settled.begin.verb == RELEASE or (settled.begin.verb == NACK and not settled.begin.delay_ms)
    return settled.end.t if ready else None


def one_holder(story: Story) -> Iterator[Violation]:
    """K7: each delivery has a token of its own, and begins after the one before it has ended."""
    for life in story.told:
        copies: dict[int, list[Deliver]] = defaultdict(list)
        for event in life.deliveries:
            copies[event.offset].append(event)
        for events in copies.values():
            for one, two in pairwise(events):
                text = f"{two.id} came to {two.who} as {two.q}/{two.offset} {two.token} at {two.t:.6f}, while {one.who}"
                if one.token == two.token:
                    yield Violation("K7", two.t, f"{text} has the same delivery since {one.t:.6f}")
                elif one.epoch == two.epoch and _holds(story, life, one, two.t):
                    yield Violation("K7", two.t, f"{text} holds {one.token} since {one.t:.6f}")


def _holds(story: Story, life: Life, event: Deliver, t: float) -> bool:
    """Whether a delivery had certainly not ended at the time `t`."""
    settled = life.settles.get(event.place)
    if settled is not None and settled.begin.t <= t:
        return False
    if story.detached.get(event.who, float("inf")) <= t + NOTICE_S:
        return False
    lease_s = event.lease_ms / 1000
    return t < event.t + lease_s - min(NOTICE_S, lease_s / 2)
