"""Spans of OpenTelemetry: one for each publish, and one for each message that is worked on in a `with` block.

They are there when the application has set OpenTelemetry up (a tracer provider) before it connects; else nothing of
this is used, and nothing of OpenTelemetry imported. A publish puts where it comes from into the headers, as W3C Trace
Context has it (`traceparent`). The span of the work is linked to that of the publish, and is its child unless it is
that of something else already. Names and attributes are those of the semantic conventions for messaging.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span, Tracer

    from wherry.delivery import BaseMessage
    from wherry.wire.messages import HeaderValue


def is_set_up() -> bool:
    """Whether spans go anywhere: whoever has set that up has imported OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def carried(headers: Mapping[str, HeaderValue] | None) -> dict[str, HeaderValue]:
    """The headers, with where they come from, unless they say that themselves."""
    from opentelemetry import propagate  # noqa: PLC0415 (only where it is set up)

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {**carrier, **(headers or {})}


class Sending:
    """A publish that is under way.

    Attributes:
        headers: what to publish with.
    """

    __slots__ = ("_span", "headers")

    def __init__(self, span: Span, headers: dict[str, HeaderValue]) -> None:
        self._span = span
        self.headers = headers

    def confirmed(self, message_id: str) -> None:
        """The broker has given the message an id."""
        self._span.set_attribute("messaging.message.id", message_id)

    def counted(self, count: int) -> None:
        """So many messages were published together."""
        self._span.set_attribute("messaging.batch.message_count", count)


@contextmanager
def sending(destination: str, headers: Mapping[str, HeaderValue] | None) -> Iterator[Sending]:
    """The span of a publish to a queue, or to a topic's subject; it is current inside the block."""
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    name, attributes = f"send {destination}", _attributes("send", destination)
    with _tracer().start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=attributes) as span:
        yield Sending(span, carried(headers))


def processing(message: BaseMessage) -> AbstractContextManager[Span]:
    """The span of the work on a message; it is current inside the block."""
    from opentelemetry import propagate, trace  # noqa: PLC0415
    from opentelemetry.context import Context  # noqa: PLC0415

    origin = propagate.extract(_texts(message), Context())
    published = trace.get_current_span(origin).get_span_context()
    is_part = trace.get_current_span().get_span_context().is_valid
    return _tracer().start_as_current_span(
        f"process {message.queue}",
        context=None if is_part else origin,
        kind=trace.SpanKind.CONSUMER,
        links=[trace.Link(published)] if published.is_valid else [],
        attributes={
            **_attributes("process", message.queue),
            "messaging.message.id": message.id,
            "messaging.message.body.size": len(message.body),
            "messaging.wherry.attempt": message.attempt,
        },
    )


def _texts(message: BaseMessage) -> dict[str, str]:
    """The headers that can say where a message comes from; none when it has none that can be read."""
    try:
        headers = message.headers
    except ValueError:
        return {}
    return {name: value for name, value in headers.items() if isinstance(value, str)}


def _attributes(operation: str, destination: str) -> dict[str, Any]:
    return {
        "messaging.system": "wherry",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": destination,
    }


def _tracer() -> Tracer:
    from opentelemetry import trace  # noqa: PLC0415

    return trace.get_tracer("wherry")
