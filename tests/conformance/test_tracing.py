"""Spans of OpenTelemetry, where an application has set that up."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import wherry
from patience import PATIENCE_S


@pytest.fixture
def spans(monkeypatch):
    """What the application has set up: the spans of a name that have ended, in order."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield lambda name: [span for span in exporter.get_finished_spans() if span.name == name]
    provider.shutdown()


@pytest.fixture
def traced(site, spans, broker):
    return site.client(broker)


def origin_of(context) -> str:
    """How a `traceparent` begins, but for the flags."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-"


def test_the_work_on_a_message_is_linked_to_its_publish(traced, spans):
    queue = traced.queue("q")
    receipt = queue.publish(b"hello", headers={"kind": "x"})
    (message,) = queue.get(wait=PATIENCE_S)
    with message:
        assert message.headers["kind"] == "x"
    (sent,), (worked,) = spans("send q"), spans("process q")
    assert (sent.kind, worked.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert message.headers["traceparent"].startswith(origin_of(sent.context))
    assert [link.context.span_id for link in worked.links] == [sent.context.span_id]
    assert (worked.parent.span_id, worked.context.trace_id) == (sent.context.span_id, sent.context.trace_id)
    assert dict(sent.attributes) == {
        "messaging.system": "wherry",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "q",
        "messaging.message.id": receipt.id,
    }
    assert worked.attributes["messaging.message.id"] == receipt.id
    assert (worked.attributes["messaging.wherry.attempt"], worked.attributes["messaging.message.body.size"]) == (1, 5)
    assert message.settled == "ack"


def test_work_that_fails_and_publishes_that_are_refused_are_errors(traced, spans):
    queue = traced.declare("q", max_messages=1)
    queue.publish(b"x")
    with pytest.raises(wherry.Busy):
        queue.publish(b"y", timeout=0)
    assert [span.status.status_code for span in spans("send q")] == [StatusCode.UNSET, StatusCode.ERROR]
    (message,) = queue.get(wait=PATIENCE_S)
    with pytest.raises(ZeroDivisionError), message:
        raise ZeroDivisionError
    (worked,) = spans("process q")
    assert (worked.status.status_code, worked.events[0].attributes["exception.type"]) == (
        StatusCode.ERROR,
        "ZeroDivisionError",
    )
    assert message.settled == "nack"


def test_many_messages_are_one_span(traced, spans):
    traced.declare("q", bind=["orders.*"])
    traced.queue("q").publish_many([b"a", b"b"])
    traced.topic("orders.new").publish_many(json=[1, 2, 3])
    traced.topic("orders.old").publish(b"c")
    for name, count in (("send q", 2), ("send orders.new", 3), ("send orders.old", None)):
        (span,) = spans(name)
        assert span.attributes.get("messaging.batch.message_count") == count
    parents = [message.headers["traceparent"] for message in traced.queue("q").get(6, PATIENCE_S)]
    assert len(set(parents)) == 3


def test_who_says_where_a_message_comes_from_is_left_alone(traced, spans):
    origin = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    queue = traced.queue("q")
    queue.publish(b"x", headers={"traceparent": origin, "tracestate": "a=b"})
    queue.publish(b"x", headers={"traceparent": 5})
    for message in queue.get(2, PATIENCE_S):
        with message:
            pass
    assert message.headers["traceparent"] == 5
    one, two = spans("process q")
    assert [f"{link.context.trace_id:032x}" for link in one.links] == [origin[3:35]]
    assert (two.links, two.parent) == ((), None)


def test_a_transaction_says_where_its_messages_come_from(traced, spans):
    with trace.get_tracer("test").start_as_current_span("work") as span, traced.transaction() as tx:
        tx.publish("q", b"x")
    (message,) = traced.queue("q").get(wait=PATIENCE_S)
    assert message.headers["traceparent"].startswith(origin_of(span.get_span_context()))


def test_without_it_nothing_is_added(client):
    queue = client.queue("q")
    queue.publish(b"x", headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    queue.publish(b"y")
    one, two = queue.get(2, PATIENCE_S)
    assert list(one.headers) == ["traceparent"]  # carried through
    assert two.headers == {}
