"""A transaction as it is put together: settles and publishes that one COMMIT will ask for, all or nothing. Pure.

The shells add how one is sent, and waited for.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry import errors
from wherry.conversation.asks import check_queue_name
from wherry.conversation.composing import check_size, envelope_of
from wherry.conversation.content import UNSET, Unset, compose, compose_many
from wherry.conversation.leased import error_text, result_bytes
from wherry.conversation.pending import Envelope, Settle
from wherry.conversation.requesting import reply_of
from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry.model.fields import BATCH_MESSAGES_MAX, COMMIT_ROWS_MAX, HEADER_BYTES_MAX
from wherry.model.options import Receipt
from wherry.model.times import Duration, to_ms
from wherry.wire.messages import pack_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from wherry.conversation.leased import Leased
    from wherry.wire.messages import HeaderValue

ROW_BYTES_MAX = 45
"""What a row takes in a header at most, but for its texts, lengths and deliveries."""
DELIVERY_BYTES_MAX = 20
LENGTH_BYTES = 4
AROUND_BYTES = 32
"""What stands around all rows: the array, the number of the request, the heads of both fields."""


class Posted:
    """A message that a transaction publishes. Its receipt is there once the transaction is committed."""

    __slots__ = ("_receipt", "queue")

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self._receipt: Receipt | None = None

    def __repr__(self) -> str:
        return f"<Posted {self._receipt.id if self._receipt else self.queue}>"

    @property
    def receipt(self) -> Receipt:
        """What the broker says of it.

        Raises:
            RuntimeError: the transaction is not committed.
        """
        if self._receipt is None:
            raise RuntimeError("a message of a transaction has no receipt before that is committed")
        return self._receipt

    @property
    def id(self) -> str:
        """Its id, such as `emails/42`.

        Raises:
            RuntimeError: the transaction is not committed.
        """
        return self.receipt.id


class Gate(NamedTuple):
    """Where a message waits until others have ended.

    Attributes:
        name: what the others count for; nobody else may have a gate of this name.
        expects: how many there are.
        strict: whether the first of them that fails (it is dead, expired, cancelled, ...) makes the one that waits
            dead; otherwise that one goes on when all have ended, however they did.
    """

    name: str
    expects: int
    strict: bool = True


_GateRow = tuple[str, int, bool]


class _Publish(NamedTuple):
    """Messages of one queue, envelope and gate, next to each other."""

    queue: str
    envelope: Envelope
    gates: tuple[_GateRow, ...]
    sizes: list[int]
    posted: list[Posted]


class Draft:
    """Settles and publishes, gathered for one COMMIT.

    Messages count as settled as soon as they are in here, and no more if nothing comes of it (`undo`).

    Args:
        block_bytes_max: how many bytes of messages fit into one frame.
    """

    def __init__(self, block_bytes_max: int) -> None:
        self._block_bytes_max = block_bytes_max
        self._messages: list[Leased[Any]] = []
        self._settles: dict[tuple[Any, ...], Settle] = {}
        self._publishes: list[_Publish] = []
        self._pieces: list[bytes] = []
        self._block_bytes = self._header_bytes = self._published = 0
        self._has_results = False
        self._is_over = False

    # What users say.

    def ack(self, message: Leased[Any], result: bytes | str | None = None) -> None:
        """Says that the work on a message is done, once this is committed.

        Args:
            message: the message.
            result: what came of it, as for `Message.ack`.

        Raises:
            AlreadySettled: the message was settled before, here or elsewhere.
            TooLarge: the transaction would be larger than a frame may be, or the result is over its limit.
        """
        if result is not None:
            self._settle(message, Verb.ACK, result=result_bytes(result))
            return
        self._settle(message, Verb.ACK)

    def nack(self, message: Leased[Any], error: object = None, delay: Duration | None = None) -> None:
        """Says that the attempt failed; as `Message.nack`, once this is committed."""
        self._settle(message, Verb.NACK, None if delay is None else to_ms(delay), error_text(error))

    def reject(self, message: Leased[Any], reason: object = None) -> None:
        """Says that no attempt can succeed; as `Message.reject`, once this is committed."""
        self._settle(message, Verb.REJECT, None, error_text(reason))

    def release(self, message: Leased[Any], delay: Duration | None = None, reason: object = None) -> None:
        """Hands a message back unworked; as `Message.release`, once this is committed."""
        self._settle(message, Verb.RELEASE, None if delay is None else to_ms(delay), error_text(reason))

    def publish(
        self,
        queue: Any,
        body: bytes | str | Unset = UNSET,
        *,
        json: Any = UNSET,
        pack: Any = UNSET,
        headers: Mapping[str, HeaderValue] | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        ttl: Duration | None = None,
        priority: int = 0,
        key: str = "",
        dedupe: str = "",
        track: bool = False,
        parent: str = "",
        waits_at: Gate | None = None,
        counts_for: str | Sequence[str] = (),
    ) -> Posted:
        """Publishes a message, once this is committed.

        Args:
            queue: a queue of the same broker, or its name.
            body: the message; the rest is as for `Queue.publish`.
            json: a value to send as JSON, in place of a body.
            pack: a value to send as msgpack, in place of a body.
            headers: names to values.
            delay: how long it waits before it is ready, in seconds.
            at: the moment at which it is ready, with a time zone.
            ttl: after how many seconds it expires when nobody has taken it.
            priority: 0 to 9; 9 goes first.
            key: what it belongs to, such as a customer.
            dedupe: a second message with this key is not stored while the queue remembers it.
            track: whether how it ends is remembered, and its result.
            parent: the id of the message that sends this one; as for `Queue.publish`.
            waits_at: the gate at which it waits until others have ended.
            counts_for: the gate that it counts for when it ends, which is there or made in here; or several.

        Returns:
            What will have the receipt.

        Raises:
            TooLarge: the transaction would be larger than a frame may be.
            Invalid: a value is out of its range.
        """
        envelope = envelope_of(priority, key, dedupe, delay, at, ttl, track, parent)
        gates = _gate_rows(counts_for)
        if waits_at is not None:
            gates += ((waits_at.name, waits_at.expects, waits_at.strict),)
        packed, body = compose(body, headers, json, pack)
        return self._publish(_name_of(queue), envelope, packed, [body], gates)[0]

    def publish_many(
        self,
        queue: Any,
        bodies: Iterable[bytes | str],
        *,
        headers: Mapping[str, HeaderValue] | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        ttl: Duration | None = None,
        priority: int = 0,
        key: str = "",
        track: bool = False,
        parent: str = "",
        counts_for: str | Sequence[str] = (),
    ) -> list[Posted]:
        """Publishes messages that share all but their bodies, once this is committed; see `publish`.

        Returns:
            What will have their receipts, in their order.

        Raises:
            TooLarge: the transaction would be larger than a frame may be; none of the messages is in it.
            Invalid: a value is out of its range.
        """
        name, gates = _name_of(queue), _gate_rows(counts_for)
        envelope = envelope_of(priority, key, "", delay, at, ttl, track, parent)
        packed, each = compose_many(bodies, headers, UNSET, UNSET)
        return self._publish(name, envelope, packed, list(each), gates)

    def reply(
        self,
        message: Leased[Any],
        body: bytes | str | Unset = UNSET,
        *,
        json: Any = UNSET,
        pack: Any = UNSET,
        headers: Mapping[str, HeaderValue] | None = None,
    ) -> Posted:
        """Publishes the reply to a message, which is a request, once this is committed; as `Message.reply`.

        Raises:
            Invalid: the message asks for no reply.
            TooLarge: the transaction would be larger than a frame may be.
        """
        queue, headers = reply_of(message, headers)
        return self.publish(queue, body, json=json, pack=pack, headers=headers)

    def forward(self, message: Leased[Any], queue: Any, *, priority: int | None = None) -> Posted:
        """Acknowledges a message and publishes it as it is, with its key and priority, once this is committed.

        Args:
            message: the message.
            queue: where to: a queue of the same broker, or its name.
            priority: another priority.

        Returns:
            What will have the receipt.

        Raises:
            AlreadySettled: the message was settled before, here or elsewhere.
            TooLarge: the transaction would be larger than a frame may be; the message is not in it.
        """
        envelope = envelope_of(message.priority if priority is None else priority, message.key, "", None, None, None)
        self._settle(message, Verb.ACK)
        try:
            return self._publish(_name_of(queue), envelope, message.raw, [b""], ())[0]
        except errors.WherryError:
            self._unsettle_last()
            raise

    # What shells do with it.

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self._messages and not self._publishes

    def close(self) -> None:
        """Takes nothing more."""
        self._is_over = True

    def make(self, request: int) -> commands.Commit:
        """The command that asks for all of it."""
        settles = tuple(
            (each.queue, int(each.verb), each.epoch, tuple(map(_delivered, each.rows)), each.duration_ms, each.text)
            for each in self._settles.values()
            if each.rows
        )
        publishes = tuple((each.queue, pack_sizes(each.sizes), *each.envelope.fields) for each in self._publishes)
        tracked = bytes(each.envelope.track for each in self._publishes)
        parents = tuple(each.envelope.parent for each in self._publishes)
        results = self._results()
        gates = tuple((place, *gate) for place, each in enumerate(self._publishes) for gate in each.gates)
        return commands.Commit(
            request,
            settles,
            publishes,
            gates=gates,
            tracked=tracked if any(tracked) else b"",
            results=pack_sizes([len(each) for each in results]),
            parents=parents if any(parents) else (),
            block=b"".join([*self._pieces, *results]),
        )

    def committed(self, reply: replies.Committed) -> None:
        """All of it was done: the receipts are there, and the credit of what was settled is back."""
        for publish, (first, duplicate, durability, *_) in zip(self._publishes, reply.publishes, strict=True):
            # A commit that was sent twice makes no duplicates to the user, who has published once.
            is_other = duplicate and bool(publish.envelope.dedupe)
            for offset, posted in enumerate(publish.posted, first):
                posted._receipt = Receipt(posted.queue, offset, durability, is_other)  # noqa: SLF001 (of this module)
        for message in self._messages:
            message._intake.finished(message)  # noqa: SLF001 (it is the client's own part of a message)

    def undo(self) -> None:
        """Nothing of it was done, as far as is known: the messages are to be settled still."""
        for message in self._messages:
            message.settled = ""

    # Inside.

    def _results(self) -> list[bytes]:
        """The results of all settles, one for each message, when any has one."""
        if not self._has_results:
            return []
        return [
            each
            for settle in self._settles.values()
            if settle.rows
            for each in settle.results or [b""] * sum(count for _, count, _ in settle.rows)
        ]

    def _check_open(self) -> None:
        if self._is_over:
            raise RuntimeError("this transaction is over")

    def _publish(
        self, queue: str, envelope: Envelope, packed: bytes, bodies: list[bytes], gates: tuple[_GateRow, ...]
    ) -> list[Posted]:
        self._check_open()
        sizes = [len(packed) + len(body) for body in bodies]
        check_size(self._block_bytes + sum(sizes), self._block_bytes_max)
        if self._published + len(bodies) > BATCH_MESSAGES_MAX:
            raise _too_many("messages to publish", BATCH_MESSAGES_MAX)
        if not bodies:
            return []
        row = self._publish_row(queue, envelope, gates, len(bodies))
        self._published += len(bodies)
        self._block_bytes += sum(sizes)
        self._pieces += chain.from_iterable(zip(repeat(packed), bodies))
        posted = [Posted(queue) for _ in bodies]
        row.sizes.extend(sizes)
        row.posted.extend(posted)
        return posted

    def _settle(
        self,
        message: Leased[Any],
        verb: Verb,
        duration_ms: int | None = None,
        text: str = "",
        result: bytes | None = None,
    ) -> None:
        self._check_open()
        if message.settled:
            raise errors.AlreadySettled(f"{message.id} was settled before: {message.settled}")
        if len(self._messages) == BATCH_MESSAGES_MAX:
            raise _too_many("messages to settle", BATCH_MESSAGES_MAX)
        delivery = message.delivery
        key = (delivery.queue, verb, delivery.epoch, duration_ms, text, result is not None)
        self._take_result(result)
        settle = self._settles.get(key)
        if settle is None or not settle.rows:
            texts_bytes = len(delivery.queue) + len(text.encode())
            self._take_row(len(self._settles), "settles", texts_bytes + DELIVERY_BYTES_MAX)
            settle = self._settles[key] = Settle(delivery.queue, verb, delivery.epoch, duration_ms, text, 0.0)
        elif settle.end != message.offset or settle.rows[-1][2] != delivery.attempt:
            self._take_header(DELIVERY_BYTES_MAX)
        settle.add(message.offset, 1, delivery.attempt)
        if result is not None:
            settle.results.append(result)
        message.settled = verb.name.lower()
        self._messages.append(message)

    def _take_result(self, result: bytes | None) -> None:
        """Takes room for a result; once one message has one, each has a length."""
        if result is not None:
            check_size(self._block_bytes + len(result), self._block_bytes_max)
            if not self._has_results:
                self._take_header(LENGTH_BYTES * len(self._messages))
            self._has_results = True
            self._block_bytes += len(result)
        if self._has_results:
            self._take_header(LENGTH_BYTES)

    def _unsettle_last(self) -> None:
        """Takes the settle out again that was made last; what it took of the header stays taken."""
        message = self._messages.pop()
        delivery = message.delivery
        settle = self._settles[delivery.queue, Verb.ACK, delivery.epoch, None, "", False]
        settle.rows[-1][1] -= 1
        if not settle.rows[-1][1]:
            settle.rows.pop()
        message.settled = ""

    def _publish_row(self, queue: str, envelope: Envelope, gates: tuple[_GateRow, ...], count: int) -> _Publish:
        last = self._publishes[-1] if self._publishes else None
        # A dedupe key stands for all of its row, so each message that has one has a row of its own.
        alike = last is not None and (last.queue, last.envelope, last.gates) == (queue, envelope, gates)
        if last is not None and alike and not envelope.dedupe:
            self._take_header(LENGTH_BYTES * count)
            return last
        texts_bytes = len(queue) + len(envelope.key.encode()) + len(envelope.dedupe.encode()) + len(envelope.parent)
        texts_bytes += sum(ROW_BYTES_MAX + len(name.encode()) for name, _, _ in gates)
        self._take_row(len(self._publishes), "publishes", texts_bytes + LENGTH_BYTES * count)
        self._publishes.append(_Publish(queue, envelope, gates, [], []))
        return self._publishes[-1]

    def _take_row(self, rows: int, what: str, size: int) -> None:
        if rows == COMMIT_ROWS_MAX:
            raise _too_many(f"different {what}", COMMIT_ROWS_MAX)
        self._take_header(ROW_BYTES_MAX + size)

    def _take_header(self, size: int) -> None:
        if self._header_bytes + size > HEADER_BYTES_MAX - AROUND_BYTES:
            text = f"what a transaction says of its messages is over the limit of {HEADER_BYTES_MAX} bytes"
            raise errors.TooLarge(text)
        self._header_bytes += size


def _gate_rows(counts_for: str | Sequence[str]) -> tuple[_GateRow, ...]:
    names = (counts_for,) if isinstance(counts_for, str) else counts_for
    return tuple((name, 0, False) for name in names if name)


def _name_of(queue: Any) -> str:
    name: str = queue if isinstance(queue, str) else queue.name
    return check_queue_name(name)


def _delivered(row: list[int]) -> tuple[int, int, int]:
    first, count, attempt = row
    return first, count, attempt


def _too_many(what: str, limit: int) -> errors.TooLarge:
    return errors.TooLarge(f"a transaction has at most {limit} {what}")
