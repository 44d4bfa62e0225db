"""The parts of the blocking client that make spans; see `wherry.tracing`. They are used where that is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from wherry import tracing
from wherry.conversation.content import UNSET
from wherry.sync.message import Message
from wherry.sync.queue import Queue
from wherry.sync.topic import Topic
from wherry.sync.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from wherry.conversation.transaction import Posted
    from wherry.model.options import Receipt, TopicReceipt
    from wherry.wire.messages import HeaderValue


class TracedMessage(Message):
    """A message whose `with` block is a span."""

    __slots__ = ("_span",)

    _span: AbstractContextManager[object]

    def __enter__(self) -> Self:
        self._span = tracing.processing(self)
        self._span.__enter__()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._span.__exit__(kind, error, trace)


class TracedQueue(Queue):
    """A queue whose publishes are spans."""

    _message_type = TracedMessage

    def publish(
        self, body: Any = UNSET, *, headers: Mapping[str, HeaderValue] | None = None, **options: Any
    ) -> Receipt:
        """As `Queue.publish`."""
        with tracing.sending(self.name, headers) as sending:
            receipt = super().publish(body, headers=sending.headers, **options)
            sending.confirmed(receipt.id)
        return receipt

    def publish_many(
        self, bodies: Any = UNSET, *, headers: Mapping[str, HeaderValue] | None = None, **options: Any
    ) -> Sequence[Receipt]:
        """As `Queue.publish_many`."""
        with tracing.sending(self.name, headers) as sending:
            receipts = super().publish_many(bodies, headers=sending.headers, **options)
            sending.counted(len(receipts))
        return receipts


class TracedTopic(Topic):
    """A topic whose publishes are spans."""

    def publish(
        self, body: Any = UNSET, *, headers: Mapping[str, HeaderValue] | None = None, **options: Any
    ) -> TopicReceipt:
        """As `Topic.publish`."""
        with tracing.sending(self.subject, headers) as sending:
            return super().publish(body, headers=sending.headers, **options)

    def publish_many(
        self, bodies: Any = UNSET, *, headers: Mapping[str, HeaderValue] | None = None, **options: Any
    ) -> list[TopicReceipt]:
        """As `Topic.publish_many`."""
        with tracing.sending(self.subject, headers) as sending:
            receipts = super().publish_many(bodies, headers=sending.headers, **options)
            sending.counted(len(receipts))
        return receipts


class TracedTransaction(Transaction):
    """A transaction whose messages say where they come from."""

    def publish(
        self, queue: Any, body: Any = UNSET, *, headers: Mapping[str, HeaderValue] | None = None, **options: Any
    ) -> Posted:
        """As `Transaction.publish`."""
        return super().publish(queue, body, headers=tracing.carried(headers), **options)

    def publish_many(
        self, queue: Any, bodies: Any, *, headers: Mapping[str, HeaderValue] | None = None, **options: Any
    ) -> list[Posted]:
        """As `Transaction.publish_many`."""
        return super().publish_many(queue, bodies, headers=tracing.carried(headers), **options)
