"""A topic, as the blocking client offers it: messages go into every queue that is bound to its subject."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wherry import errors
from wherry.conversation import asks
from wherry.conversation.composing import blocks, envelope_of
from wherry.conversation.content import UNSET, Unset, compose, compose_many
from wherry.sync.insisting import insist

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from wherry.conversation.asks import Ask
    from wherry.model.options import TopicReceipt
    from wherry.model.times import Duration
    from wherry.sync.link import Link
    from wherry.wire.messages import HeaderValue


class Topic:
    """One subject. Made by `Broker.topic`; queues take it by their option `bind`.

    Attributes:
        subject: the subject.
    """

    def __init__(self, link: Link, subject: str) -> None:
        self._link = link
        self.subject = subject

    def __repr__(self) -> str:
        return f"<Topic {self.subject}>"

    def publish(
        self,
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
        allow_unroutable: bool = False,
        timeout: float | None = None,
    ) -> TopicReceipt:
        """Publishes one message into every queue that is bound to the subject, or into none.

        Args:
            body: the message; a str is sent as UTF-8.
            json: a value to send as JSON, in place of a body; `message.json()` reads it.
            pack: a value to send as msgpack, in place of a body; `message.unpack()` reads it.
            headers: at most 64 names to values: str, int, float, bool, bytes or None.
            delay: how long it waits before it is ready, in seconds.
            at: the moment at which it is ready, with a time zone.
            ttl: after how many seconds it expires when nobody has taken it; a queue's own holds where it is shorter.
            priority: 0 to 9; 9 goes first. A queue with fewer priorities takes its highest one.
            key: what it belongs to, such as a customer.
            dedupe: a second message with this key is not stored in the queues that remember it.
            allow_unroutable: whether it is fine that no queue takes it.
            timeout: how long to try, in seconds, while one of the queues is full; 0 tries once.

        Returns:
            The receipt, which says how many queues have it.

        Raises:
            Unroutable: no queue is bound to the subject.
            Busy: one of the queues is full, and still was when the time was over; nothing is stored in any of them.
            TooLarge: the message is larger than one of the queues, or a frame, may hold; or too many queues take it.
            Invalid: a value is out of its range.
            TypeError, ValueError: a value, or a header, cannot be sent.
            RequestTimeout: the broker did not answer.
            Disconnected: the connection was lost; whether the message was stored is unknown.
        """
        envelope = envelope_of(priority, key, dedupe, delay, at, ttl)
        packed, data = compose(body, headers, json, pack)
        ((lengths, block),) = self._blocks(packed, [data])
        make = asks.publish_topic(self.subject, lengths, block, envelope, allow_unroutable=allow_unroutable)
        return self._publish(make, timeout)

    def publish_many(
        self,
        bodies: Iterable[bytes | str] | Unset = UNSET,
        *,
        json: Iterable[Any] | Unset = UNSET,
        pack: Iterable[Any] | Unset = UNSET,
        headers: Mapping[str, HeaderValue] | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        ttl: Duration | None = None,
        priority: int = 0,
        key: str = "",
        allow_unroutable: bool = False,
        timeout: float | None = None,
    ) -> list[TopicReceipt]:
        """Publishes many messages in order, and returns when all are confirmed.

        They travel in batches, each of which goes into all of the queues or into none; see `Queue.publish_many`.

        Args:
            bodies: the messages.
            json: values to send as JSON, in place of bodies.
            pack: values to send as msgpack, in place of bodies.
            headers: the headers of each of them.
            delay: as for `publish`.
            at: as for `publish`.
            ttl: as for `publish`.
            priority: as for `publish`.
            key: as for `publish`.
            allow_unroutable: as for `publish`.
            timeout: as for `publish`, for each batch.

        Returns:
            A receipt for each message, in order.

        Raises:
            Unroutable: no queue is bound to the subject, or none is any more.
            Busy: one of the queues is full; `accepted` tells how many messages were stored before.
        """
        envelope = envelope_of(priority, key, "", delay, at, ttl)
        receipts: list[TopicReceipt] = []
        for lengths, block in self._blocks(*compose_many(bodies, headers, json, pack)):
            make = asks.publish_topic(self.subject, lengths, block, envelope, allow_unroutable=allow_unroutable)
            try:
                receipt = self._publish(make, timeout)
            except errors.Busy as busy:
                busy.accepted = len(receipts)
                raise
            receipts += [receipt] * (len(lengths) // 4)
        return receipts

    def _blocks(self, packed: bytes, bodies: list[bytes]) -> list[tuple[bytes, bytes]]:
        return list(blocks(packed, bodies, self._link.conversation.block_bytes_max))

    def _publish(self, ask: Ask[TopicReceipt], timeout: float | None) -> TopicReceipt:
        return insist(self._link, lambda: self._link.ask(ask), timeout)
