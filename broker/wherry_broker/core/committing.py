"""Commits: settles and publishes of any queues that happen together, or not at all.

Everything is decided before anything is applied, so a refusal leaves nothing behind. What is applied is gathered for
one entry of the log, so no crash leaves a part of it either; and no queue of a commit says anything of it before that
entry is durable.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry.model.fields import BATCH_MESSAGES_MAX, VALUE_BYTES_MAX
from wherry_broker.core import bounds, decide, gates, records
from wherry_broker.core.records import Gated, Joined
from wherry_broker.core.refusal import Refusal
from wherry_broker.core.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from wherry.model.fields import CommittedRow
    from wherry_broker.core.answers import Answers
    from wherry_broker.core.catalogue import Catalogue
    from wherry_broker.core.consumers import Session
    from wherry_broker.core.ledger import Ledger
    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Change, Fact
    from wherry_broker.core.settling import Settling
    from wherry_broker.core.state import State

DEDUPE = 7
"""The place of the dedupe key in the row of a publish."""
ENDINGS = frozenset({Verb.ACK, Verb.NACK, Verb.REJECT, Verb.RELEASE})
"""What a commit may do to a delivery: an EXTEND ends none, and needs nothing to happen with it."""


class Part:
    """What a commit asks of one queue.

    Attributes:
        ended: what its settles do.
        stored: what its publishes store, by their place in the command.
        rows: what is said of each of these.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.ended: list[Fact] = []
        self.stored: dict[int, records.Published] = {}
        self.rows: dict[int, CommittedRow] = {}
        self._first = queue.next_offset
        self._keys: dict[str, int] = {}

    def settle(self, state: State, settles: Sequence[commands.Settle], now_ms: int, draw: Callable[[], float]) -> None:
        """Decides on settles.

        Raises:
            Refusal: invalid, they name a message twice; stale_delivery, one is not leased as it says.
        """
        queue = self.queue
        decide.check_ranges(queue.name, [row for settle in settles for row in settle.deliveries])
        for settle in settles:
            held, stale = decide.match(state, queue, settle)
            if stale:
                raise _stale(settle.queue, stale[0][0])
            self.ended += decide.settle(queue, settle, held, now_ms, draw)

    def publish(self, state: State, position: int, command: commands.Publish, publisher: str, now_ms: int) -> None:
        """Decides on a publish of a client that calls itself `publisher`, but for whether there is room.

        Raises:
            Refusal: invalid, the envelope is not one for this queue; stale_delivery, its parent has ended.
        """
        queue, key = self.queue, command.dedupe
        first = self._known(key, now_ms) if key else None
        if first is None:
            envelope, ready_at_ms = decide.envelope_of(queue, command, now_ms)
            if command.track:
                envelope = decide.tracked(envelope, publisher)
            if command.parent:
                envelope = decide.sent_by(state, envelope, command.parent)
            block = decide.block_of(command)
            if key:
                bounds.check_dedupe(queue, now_ms, len(self._keys))
            stored = records.Published(queue.number, self._first, envelope, ready_at_ms, key, block)
            self.stored[position] = stored
            if key and queue.options.dedupe_window_ms:
                self._keys[key] = self._first
            self.rows[position] = (self._first, False, queue.options.durability)
            self._first += block.count
        else:
            self.rows[position] = (first, True, queue.options.durability)

    def gate(self, position: int, name: str, count: int, *, strict: bool) -> Gated | None:
        """Has the message of a publish wait at a gate; None when it was stored before.

        Raises:
            Refusal: invalid, it is not one message, or has a delay of its own.
        """
        record = self.stored.get(position)
        if record is None:
            return None
        if record.block.count != 1 or record.ready_at_ms:
            what = "a delay of its own" if record.ready_at_ms else f"{record.block.count} messages"
            text = f"one message without a delay waits at gate {name!r}, and publish {position} has {what}"
            raise Refusal("invalid", text, queue=self.queue.name)
        self.stored[position] = record._replace(ready_at_ms=gates.NEVER_MS)
        return Gated(self.queue.number, name, record.first, count, strict)

    def joined(self, position: int, name: str, gate_queue: int) -> Joined | None:
        """Has the messages of a publish count for a gate; None when they were stored before."""
        record = self.stored.get(position)
        if record is None:
            return None
        return Joined(gate_queue, name, self.queue.number, record.first, record.block.count)

    def _known(self, key: str, now_ms: int) -> int | None:
        """The first offset of what was stored under a dedupe key, before or by this very commit."""
        return self._keys.get(key, self.queue.dedupe.known(key, now_ms))

    def dropped(self, now_ms: int) -> list[Fact]:
        """What has to go so that all that is published fits beside what the settles leave.

        Raises:
            Refusal: busy or too_large, it does not fit.
        """
        if not self.stored:
            return []
        queue = self.queue
        freed_messages, freed_bytes = _freed(queue, self.ended)
        count = sum(record.block.count for record in self.stored.values())
        size = sum(record.block.size for record in self.stored.values())
        dropped = bounds.drop_oldest(queue, count - freed_messages, size - freed_bytes, now_ms)
        if not dropped:
            bounds.check_all_fit(queue, count, size, now_ms, freed_messages, freed_bytes)
        return dropped


class Committing:
    """Carries out commits.

    Args:
        ledger: the durable state.
        answers: where answers go.
        catalogue: declares queues that are named and not there.
        settling: keeps the dead within their bound.
        draw: returns a number evenly drawn from [0, 1), for jitter.
    """

    def __init__(
        self, ledger: Ledger, answers: Answers, catalogue: Catalogue, settling: Settling, draw: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._answers = answers
        self._catalogue = catalogue
        self._settling = settling
        self._draw = draw
        self._sequences = Sequences(ledger.state)

    def commit(self, session: Session, command: commands.Commit, now_ms: int) -> None:
        """Does all that a COMMIT asks for, or refuses it."""
        settles, publishes = settles_of(command), publishes_of(command)
        parts: dict[str, Part] = {}  # by queue, in the order in which the command names them
        self._settle(parts, settles, now_ms)
        for position, publish in enumerate(publishes):
            if publish.queue not in parts:
                parts[publish.queue] = Part(self._catalogue.opened(publish.queue))
            parts[publish.queue].publish(self._ledger.state, position, publish, session.name, now_ms)
        dropped = [fact for part in parts.values() for fact in part.dropped(now_ms)]
        results = _results(command, settles, {name: part.queue for name, part in parts.items()})
        self._check_disk(parts, sum(map(len, results.values())))
        self._check_memory(parts, settles=bool(settles))
        ended = [fact for part in parts.values() for fact in part.ended]
        gated = self._gated(command, parts, publishes)
        stored = [fact for part in parts.values() for fact in part.stored.values()]
        new: list[Change] = [*ended, *dropped, *stored, *gated]
        if command.sequence and parts:
            new.append(self._sequences.fact(session, command.answered, now_ms, _rows(command, parts, publishes)))
        self._ledger.apply(new, results)
        row_of = {position: row for part in parts.values() for position, row in part.rows.items()}
        reply = replies.Committed(command.request, tuple(row_of[position] for position in range(len(publishes))))
        self._answers.say(session, reply, self._bind(parts.values(), now_ms))

    def answer_again(self, session: Session, command: commands.Commit) -> bool:
        """Answers a commit whose sequence is known as it was answered before; False when it is new.

        Raises:
            Refusal: invalid or unavailable, nothing can be done under this sequence.
        """
        rows = self._sequences.known(session, command.sequence)
        if not rows:
            return False
        queues = [self._ledger.state.queues.get(row.queue) for row in rows]
        result = []
        for asked, row, queue in zip(command.publishes, rows, queues, strict=False):
            level = queue.options.durability if queue is not None else "memory"  # it was deleted since
            # Of one with a dedupe key a duplicate means that another was stored under it, and the first answer said so.
            result.append((row.first, not row.stored or not asked[DEDUPE], level))
        mark = max(self._ledger.newest_mark if queue is None else queue.mark for queue in queues)
        self._answers.say(session, replies.Committed(command.request, tuple(result)), mark)
        return True

    def _gated(
        self, command: commands.Commit, parts: dict[str, Part], publishes: Sequence[commands.Publish]
    ) -> list[Gated | Joined]:
        """Has publishes wait at gates, or count for them.

        Raises:
            Refusal: invalid, there is such a gate already, or a publish cannot wait at it; not_found, there is none.
        """
        known, made = self._ledger.state.gates, dict[str, int]()
        new: list[Gated | Joined | None] = []
        for position, name, count, strict, *_ in sorted(command.gates, key=lambda row: not row[2]):
            if position >= len(publishes):
                raise Refusal("invalid", f"gate {name!r} is for publish {position}, and there are {len(publishes)}")
            part = parts[publishes[position].queue]
            if not count:
                gate_queue = known[name].queue if name in known else made.get(name)
                if gate_queue is None:
                    raise Refusal("not_found", f"there is no gate {name!r}, or no longer")
                new.append(part.joined(position, name, gate_queue))
            elif name in known or name in made:
                raise Refusal("invalid", f"a message waits at gate {name!r} already")
            else:
                new.append(part.gate(position, name, count, strict=strict))
                made[name] = part.queue.number
        return [fact for fact in new if fact is not None]

    def _settle(self, parts: dict[str, Part], settles: Sequence[commands.Settle], now_ms: int) -> None:
        state = self._ledger.state
        by_queue: dict[str, list[commands.Settle]] = {}
        for settle in settles:
            by_queue.setdefault(settle.queue, []).append(settle)
        for name, of_queue in by_queue.items():
            queue = state.names.get(name)
            if queue is None:
                raise _stale(name, next((first for each in of_queue for first, *_ in each.deliveries), 0))
            parts[name] = Part(queue)
            parts[name].settle(state, of_queue, now_ms, self._draw)

    def _check_disk(self, parts: dict[str, Part], result_bytes: int) -> None:
        logged = [part for part in parts.values() if part.queue.is_logged and (part.stored or result_bytes)]
        stored = [record for part in logged for record in part.stored.values()]
        cost = sum(bounds.log_cost(each.block, tracked=each.envelope.tracked) for each in stored) + result_bytes
        if cost and logged:
            bounds.check_room(self._ledger.state, logged[0].queue.name, cost)

    def _check_memory(self, parts: dict[str, Part], *, settles: bool) -> None:
        stored = [record for part in parts.values() for record in part.stored.values()]
        cost = sum(map(bounds.memory_cost, stored))
        if stored:
            bounds.check_memory(self._ledger.state, next(iter(parts)), cost, settles=settles)

    def _bind(self, parts: Collection[Part], now_ms: int) -> int:
        """Has all that is said of its queues from now on, and what it stores, wait for all of the commit; its mark."""
        for part in parts:
            self._settling.limit_dead(part.queue, now_ms)
            self._ledger.dirty[part.queue] = None
        mark = max((part.queue.mark for part in parts), default=0)
        for part in parts:
            if part.queue.mark != mark:  # what it stores has its queue's mark already
                part.queue.mark = mark
                for stored in part.stored.values():
                    for batch in self._ledger.batches(stored):
                        batch.mark = mark
        return mark


def _rows(
    command: commands.Commit, parts: dict[str, Part], publishes: Sequence[commands.Publish]
) -> Iterator[records.Row]:
    """What is remembered of a commit: a row for each publish, in order, then one for each queue that it settles in."""
    for position, publish in enumerate(publishes):
        part = parts[publish.queue]
        first, duplicate, _ = part.rows[position]
        yield records.Row(command.sequence, part.queue.number, first, 0 if duplicate else len(publish.lengths) // 4)
    for part in parts.values():
        if part.ended:
            yield records.Row(command.sequence, part.queue.number, 0, 0)


def settles_of(command: commands.Commit) -> list[commands.Settle]:
    """The settles of a commit.

    Raises:
        Refusal: invalid, one has no verb of a commit, or they are too many messages.
    """
    settles = [commands.Settle(command.request, *row[:6]) for row in command.settles]
    for settle in settles:
        if settle.verb not in ENDINGS:
            text = f"verb {settle.verb} cannot be committed, only ACK, NACK, REJECT and RELEASE can"
            raise Refusal("invalid", text, queue=settle.queue)
    _check_total(sum(row[1] for settle in settles for row in settle.deliveries))
    return settles


def publishes_of(command: commands.Commit) -> list[commands.Publish]:
    """The publishes of a commit, each with its part of the block.

    Raises:
        Refusal: invalid, the lengths do not add up to the block, or they are too many messages.
    """
    for what, given in (("tracked or not", command.tracked), ("sent by others or not", command.parents)):
        if len(given) not in (0, len(command.publishes)):
            raise Refusal("invalid", f"{len(given)} publishes are said to be {what}, which is not all")
    _check_total(sum(len(row[1]) // 4 for row in command.publishes))
    result, end = [], 0
    for position, row in enumerate(command.publishes):
        start, end = end, end + sum(_sizes(row[1]))
        track = bool(command.tracked and command.tracked[position])
        parent = command.parents[position] if command.parents else ""
        block = command.block[start:end]
        result.append(commands.Publish(command.request, *row[:8], track=track, parent=parent, block=block))
    end += sum(_sizes(command.results))
    if end != len(command.block):
        text = f"the lengths of all messages, {end} bytes, do not add up to a block of {len(command.block)}"
        raise Refusal("invalid", text)
    return result


def _sizes(lengths: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(lengths) // 4}I", lengths[: len(lengths) // 4 * 4])


def _results(
    command: commands.Commit, settles: Sequence[commands.Settle], queues: Mapping[str, Queue]
) -> dict[tuple[int, int], bytes]:
    """What the messages return that a commit settles: of all of them, in their order, or of none.

    Raises:
        Refusal: invalid, the results are not one for each message, or another verb than ACK has some; too_large, one of
            them is over the limit.
    """
    if not command.results:
        return {}
    named = [
        (settle, offset)
        for settle in settles
        for first, count, _ in settle.deliveries
        for offset in range(first, first + count)
    ]
    sizes = _sizes(command.results)
    if len(sizes) != len(named) or len(command.results) % 4:
        raise Refusal("invalid", f"{len(sizes)} results are not one for each of {len(named)} messages")
    result, end = {}, len(command.block) - sum(sizes)
    for (settle, offset), size in zip(named, sizes, strict=True):
        start, end = end, end + size
        if size > VALUE_BYTES_MAX:
            text = f"a result of {size} bytes is over the limit of {VALUE_BYTES_MAX} bytes"
            raise Refusal("too_large", text, queue=settle.queue)
        if size and settle.verb != Verb.ACK:
            raise Refusal("invalid", "only an ACK has results", queue=settle.queue)
        result[queues[settle.queue].number, offset] = command.block[start:end]
    return result


def _check_total(count: int) -> None:
    if count > BATCH_MESSAGES_MAX:
        raise Refusal("invalid", f"{count} messages in one command are over the limit of {BATCH_MESSAGES_MAX}")


def _stale(queue: str, offset: int) -> Refusal:
    text = f"{queue}/{offset} is not leased under this delivery, or no longer"
    return Refusal("stale_delivery", text, queue=queue, first=offset)


def _freed(queue: Queue, ended: Sequence[Fact]) -> tuple[int, int]:
    """How many messages, and bytes of them, leave a queue with these records."""
    count = size = 0
    for record in ended:
        for low, high in record.ranges if isinstance(record, records.Removed) else ():
            count += high - low
            for span in queue.spans(low, high):
                size += span.batch.bytes_between(max(low, span.low), min(high, span.high))
    return count, size
