"""A conversation over several connections: what is said again, and what becomes of the rest."""

from __future__ import annotations

import pytest

from wherry import errors
from wherry.conversation import (
    PLAIN,
    Answered,
    Confirmed,
    ConsumerStopped,
    ConsumerSuspended,
    Conversation,
    Delivered,
    Ended,
    Envelope,
    Failed,
    Interrupted,
    LeasesLost,
    Settled,
    Welcomed,
    asking,
    asks,
)
from wherry.conversation.pending import Sequence
from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry.model.options import TopicReceipt
from wherry.wire import codec
from wherry.wire.framing import FrameReader
from wherry.wire.messages import pack_sizes

GONE = errors.Disconnected("gone")
NEVER = 1e9


class Talk:
    """A conversation, and the broker's end of it."""

    def __init__(self, producer="p", producer_ms=600_000):
        self.conversation = Conversation(producer=producer)
        self.epoch = 7
        self.producer_ms = producer_ms
        self.reader = FrameReader(1 << 30)
        self.held = []
        assert [type(each) for each in self.said()] == [commands.Hello]
        self.welcome()

    def said(self):
        return [codec.decode(frame) for frame in self.reader.feed(b"".join(self.conversation.data_to_send()))]

    def hear(self, *messages):
        data = b"".join(codec.encode(each) for each in messages)
        return self.conversation.receive(self.conversation.reader.feed(data))

    def welcome(self):
        return self.hear(replies.Welcome(1, self.epoch, 0, 1 << 20, "test", self.producer_ms, 1_000))

    def lose(self):
        return self.conversation.lose(GONE)

    def come_back(self):
        """Connects anew; returns what is said then."""
        self.conversation.reopen()
        assert [type(each) for each in self.said()] == [commands.Hello]
        self.events = self.welcome()
        return self.said()

    def publish(self, waiter, envelope=PLAIN, queue="q"):
        self.conversation.publish(queue, envelope, (b"\x80", b"x"), waiter, NEVER)

    def consume(self, window=10, waiter="consume"):
        number = self.conversation.consume("q", window, 0, waiter, NEVER, lambda: self.held)
        request = self.said()[-1].request
        assert self.hear(replies.Done(request)) == [Answered(waiter, replies.Done(request))]
        return number

    def deliver(self, consumer, first, count):
        row = (first, count, 1, 0, 0, 0, "")
        (event,) = self.hear(replies.Deliver(consumer, 1_000, (row,), pack_sizes([1] * count), b"\x80" * count))
        assert isinstance(event, Delivered)
        (delivery,) = event.deliveries
        self.held.append((delivery, first, first + count))
        return delivery


def test_publishes_are_numbered_and_tell_what_is_answered():
    talk = Talk()
    talk.publish("a")
    talk.publish("b", Envelope(key="k"))
    first, second = talk.said()
    assert [(each.sequence, each.answered) for each in (first, second)] == [(1, 0), (2, 0)]
    talk.hear(replies.Confirm("memory", ((second.request, 2, False),)))
    talk.publish("c")
    (third,) = talk.said()
    assert (third.sequence, third.answered) == (3, 0)
    talk.hear(replies.Error(first.request, "busy", "full", retryable=True))
    talk.publish("d")
    (fourth,) = talk.said()
    assert (fourth.sequence, fourth.answered) == (4, 2)


def test_publishes_without_an_answer_are_sent_again_as_they_were():
    talk = Talk()
    talk.publish("a")
    talk.publish("b", queue="other")
    talk.publish("c", Envelope(key="k"))
    before = talk.said()
    talk.hear(replies.Confirm("memory", ((before[1].request, 1, False),)))
    (interrupted,) = talk.lose()
    assert isinstance(interrupted, Interrupted)
    talk.publish("d")
    assert talk.said() == []
    again = talk.come_back()
    assert again[:2] == [before[0], before[2]]
    assert [each.sequence for each in again] == [1, 3, 4]
    events = talk.hear(replies.Confirm("memory", tuple((each.request, 5, True) for each in again)))
    assert [(each.waiters, each.duplicate) for each in events] == [(["a"], False), (["c"], False), (["d"], False)]


def test_of_a_dedupe_key_a_duplicate_is_one():
    talk = Talk()
    talk.publish("a", Envelope(dedupe="k"))
    talk.said()
    talk.lose()
    (again,) = talk.come_back()
    (confirmed,) = talk.hear(replies.Confirm("memory", ((again.request, 5, True),)))
    assert confirmed == Confirmed(["a"], "q", 5, "memory", duplicate=True)


def test_what_was_given_up_is_not_sent_again():
    talk = Talk()
    talk.conversation.publish("q", PLAIN, (b"\x80", b"x"), "a", 10.0)
    talk.said()
    talk.lose()
    (failed,) = talk.conversation.expire(10.0)
    assert isinstance(failed.error(), errors.RequestTimeout)
    talk.publish("b")
    (publish,) = talk.come_back()
    assert (publish.sequence, publish.answered) == (2, 1)


def test_what_is_asked_without_a_connection_has_its_deadline():
    talk = Talk()
    talk.lose()
    talk.conversation.publish("q", PLAIN, (b"\x80", b"x"), "a", 10.0)
    talk.conversation.gather()
    assert talk.conversation.next_deadline() == 10.0
    assert len(talk.conversation.expire(10.0)) == 1
    assert talk.come_back() == []


def test_settles_are_sent_again_before_consumers():
    talk = Talk()
    number = talk.consume()
    delivery = talk.deliver(number, 1, 3)
    talk.conversation.settle(delivery, Verb.ACK, 1, 1, "ack", NEVER)
    (settle,) = talk.said()
    talk.held = [(delivery, 2, 4)]
    talk.lose()
    again, consume = talk.come_back()
    assert again == settle._replace(again=True)
    assert consume == commands.Consume(consume.request, number, "q", 8, 0, 7, ((2, 2, 1),))
    assert talk.hear(replies.Settled(((settle.request, ()),))) == [Settled([("ack", None)])]


def test_a_settle_that_is_gathering_when_the_broker_welcomes_goes_before_consumers():
    """After CONSUME, which no longer names the message as held, it was stale."""
    talk = Talk()
    consumer = talk.consume()
    delivery = talk.deliver(consumer, 1, 3)
    talk.lose()
    talk.conversation.reopen()
    talk.said()
    talk.conversation.settle(delivery, Verb.ACK, 1, 1, "ack", NEVER)
    talk.held = [(delivery, 2, 4)]
    talk.welcome()
    settle, consume = talk.said()
    assert (settle.deliveries, consume.held) == (((1, 1, 1),), ((2, 2, 1),))


def test_credit_goes_on_from_what_is_held():
    talk = Talk()
    number = talk.consume(window=4)
    talk.deliver(number, 1, 4)
    talk.lose()
    (consume,) = talk.come_back()
    assert consume.credit == 0
    talk.hear(replies.Done(consume.request))
    talk.conversation.finish(number, 4)
    assert talk.said() == [commands.Credit(number, 4)]


def test_what_is_held_no_longer_is_told():
    talk = Talk()
    number = talk.consume()
    delivery = talk.deliver(number, 1, 5)
    talk.lose()
    (consume,) = talk.come_back()
    assert talk.hear(replies.Done(consume.request, 0, ((2, 2), (9, 1)))) == [LeasesLost(number, [(delivery, 2, 4)])]


def test_nothing_is_held_over_a_restart_of_the_broker():
    talk = Talk()
    number = talk.consume()
    delivery = talk.deliver(number, 1, 2)
    talk.lose()
    talk.epoch = 8
    (consume,) = talk.come_back()
    assert (consume.epoch, consume.held) == (8, ())
    assert talk.events[1:] == [LeasesLost(number, [(delivery, 1, 3)])]


def test_a_consumer_that_had_no_answer_yet_is_attached_once():
    talk = Talk()
    number = talk.conversation.consume("q", 5, 0, "consume", NEVER)
    talk.said()
    talk.lose()
    (consume,) = talk.come_back()
    assert (consume.consumer, consume.credit) == (number, 5)
    assert talk.hear(replies.Done(consume.request)) == [Answered("consume", replies.Done(consume.request))]


def test_a_consumer_that_stops_is_not_attached_again():
    talk = Talk()
    number = talk.consume()
    talk.conversation.stop(number, "stop", NEVER)
    talk.said()
    failed, _ = talk.lose()
    assert failed.waiters == ["stop"]
    assert talk.come_back() == []


def test_a_consumer_that_is_refused_when_it_comes_back_has_stopped():
    talk = Talk()
    number = talk.consume()
    talk.lose()
    (consume,) = talk.come_back()
    (stopped,) = talk.hear(replies.Error(consume.request, "not_found", "there is no queue 'q'"))
    assert isinstance(stopped, ConsumerStopped)
    assert stopped.consumer == number
    assert isinstance(stopped.error, errors.NotFound)


def test_requests_are_made_again_when_that_does_no_harm():
    talk = Talk()
    asked = {kind: kind.__name__ for kind in (commands.Info, commands.Delete)}
    for kind, waiter in asked.items():
        talk.conversation.request(lambda request, kind=kind: kind(request, "q"), waiter, NEVER)
    info, _ = talk.said()
    failed, _ = talk.lose()
    assert failed.waiters == ["Delete"]
    assert type(failed.error()) is errors.Disconnected
    assert talk.come_back() == [info]


def test_what_nobody_waits_for_any_more_is_under_way_only_if_it_counts_whether_it_was_done():
    talk = Talk()
    makers = (lambda request: commands.Status(request, "q", 1, 60_000), lambda request: commands.Delete(request, "q"))
    for number in [talk.conversation.request(make, "nobody", NEVER) for make in makers]:
        talk.conversation.give_up(number)
    talk.conversation.give_up(99)
    status, delete = talk.said()
    assert talk.conversation.unanswered == 1
    assert talk.hear(replies.Told(status.request, {"state": "ready"})) == []
    (answered,) = talk.hear(replies.Done(delete.request))
    assert answered.waiter == "nobody"


def test_a_request_that_was_never_sent_is_sent():
    talk = Talk()
    talk.lose()
    talk.conversation.request(lambda request: commands.Delete(request, "q"), "delete", NEVER)
    (delete,) = talk.come_back()
    assert type(delete) is commands.Delete


def test_a_broker_that_shuts_down_is_only_waited_for():
    talk = Talk()
    number = talk.consume()
    talk.publish("a")
    (publish,) = talk.said()
    assert talk.hear(replies.Stopped(number, "draining", "bye")) == [ConsumerSuspended(number)]
    assert talk.hear(replies.Error(publish.request, "draining", "bye", retryable=True)) == []
    (interrupted,) = talk.hear(commands.Goodbye("draining", "bye"))
    assert isinstance(interrupted, Interrupted)
    assert [type(each) for each in talk.come_back()] == [commands.Publish, commands.Consume]


@pytest.mark.parametrize("code", ["bad_frame", "unauthenticated"])
def test_who_is_not_wanted_does_not_come_back(code):
    talk = Talk()
    talk.publish("a")
    talk.said()
    failed, ended = talk.hear(commands.Goodbye(code, "no"))
    assert failed.waiters == ["a"]
    assert isinstance(ended, Ended)


@pytest.mark.parametrize("options", [{"producer": ""}, {"producer_ms": 0}])
def test_without_a_producer_a_lost_connection_is_the_end(options):
    talk = Talk(**options)
    talk.publish("a")
    (publish,) = talk.said()
    assert publish.sequence == 0
    failed, ended = talk.lose()
    assert isinstance(failed, Failed)
    assert isinstance(ended, Ended)
    assert talk.lose() == []


def test_a_connection_that_is_lost_before_its_welcome_changes_nothing():
    talk = Talk()
    talk.publish("a")
    talk.said()
    talk.lose()
    talk.conversation.reopen()
    assert talk.lose() == []
    assert [each.sequence for each in talk.come_back()] == [1]
    assert isinstance(talk.events[0], Welcomed)


def test_publishes_wait_before_a_broker_would_refuse_them(monkeypatch):
    monkeypatch.setattr(asking, "PUBLISHES_MAX", 2)
    talk = Talk()
    talk.publish("a")
    talk.publish("b", Envelope(key="k"))
    talk.said()
    assert talk.conversation.is_full
    talk.hear(replies.Confirm("memory", ((1, 1, False),)))
    assert not talk.conversation.is_full


def test_numbers_are_answered_in_any_order():
    sequence = Sequence()
    numbers = [sequence.next() for _ in range(5)]
    assert (numbers, len(sequence)) == ([1, 2, 3, 4, 5], 5)
    answered = []
    for number in (2, 1, 5, 4, 3):
        sequence.done(number)
        answered.append(sequence.answered)
    assert answered == [0, 2, 2, 2, 5]
    assert len(sequence) == 0


def test_of_a_settle_that_may_have_been_done_the_outcome_is_unknown():
    talk = Talk()
    number = talk.consume()
    delivery = talk.deliver(number, 1, 3)
    talk.conversation.settle(delivery, Verb.ACK, 1, 1, "before", NEVER)
    talk.said()
    talk.lose()
    talk.conversation.settle(delivery, Verb.ACK, 2, 1, "meanwhile", NEVER)
    talk.epoch = 8
    before, meanwhile, _ = talk.come_back()
    assert (before.again, meanwhile.again) == (True, False)
    rows = ((before.request, ((1, 1),)), (meanwhile.request, ((2, 1),)))
    events = talk.hear(replies.Settled(rows, ((before.request, 1),)))
    ((_, unknown),), ((_, stale),) = (each.outcomes for each in events)
    assert type(unknown) is errors.Disconnected
    assert type(stale) is errors.StaleDelivery


def topic(talk, waiter):
    ask = asks.publish_topic("orders.eu", pack_sizes([1]), b"\x80", PLAIN, allow_unroutable=False)
    talk.conversation.request(ask.make, waiter, NEVER)
    return ask


def test_a_publish_to_a_topic_shares_the_numbers_of_publishes_and_is_sent_again():
    talk = Talk()
    talk.publish("a")
    ask = topic(talk, "b")
    first, second = talk.said()
    assert [(type(each), each.sequence, each.answered) for each in (first, second)] == [
        (commands.Publish, 1, 0),
        (commands.PublishTopic, 2, 0),
    ]
    (interrupted,) = talk.lose()
    assert isinstance(interrupted, Interrupted)
    assert talk.come_back() == [first, second]
    talk.hear(replies.Confirm("memory", ((first.request, 1, True),)))
    (answered,) = talk.hear(replies.Routed(second.request, 2, "memory", True))
    assert answered.waiter == "b"
    assert ask.read(answered.reply) == TopicReceipt("orders.eu", 2, "memory", False)
    topic(talk, "c")
    (third,) = talk.said()
    assert (third.sequence, third.answered) == (3, 2)


def test_a_topic_that_a_broker_refuses_which_shuts_down_waits_for_the_next_one():
    talk = Talk()
    topic(talk, "a")
    (publish,) = talk.said()
    assert talk.hear(replies.Error(publish.request, "draining", "going", retryable=True)) == []
    talk.lose()
    assert talk.come_back() == [publish]
    (failed,) = talk.hear(replies.Error(publish.request, "unroutable", "nobody"))
    assert isinstance(failed.error(), errors.Unroutable)
    topic(talk, "b")
    assert talk.said()[0].answered == 1


def test_without_a_producer_a_topic_is_not_sent_again():
    talk = Talk(producer_ms=0)
    topic(talk, "a")
    assert talk.said()[0].sequence == 0
    assert [type(each) for each in talk.lose()] == [Failed, Ended]


def test_neighbours_whose_results_are_awaited_are_asked_for_together():
    talk = Talk()
    for offset in (5, 6, 8, 9):
        talk.conversation.await_result("q", offset, 1_000, offset, NEVER)
    talk.conversation.await_result("q", 10, 0, 10, NEVER)
    first, second, third = talk.said()
    assert [(each.offset, each.total, each.wait_ms) for each in (first, second, third)] == [
        (5, 2, 1_000),
        (8, 2, 1_000),
        (10, 1, 0),
    ]
    ranges = ((first.request, 2), (second.request + 1, 1))
    events = talk.hear(replies.Returned(ranges, pack_sizes([1, 0, 2]), b"abb"))
    assert events == [Answered(5, b"a"), Answered(6, b""), Answered(9, b"bb")]
    told = replies.Told(third.request, {"state": "dead"})
    assert talk.hear(told, replies.Returned(((third.request, 1),), pack_sizes([1]), b"x")) == [Answered(10, told)]


def test_what_is_awaited_still_is_asked_for_again():
    talk = Talk()
    for offset in (5, 6, 7):
        talk.conversation.await_result("q", offset, 1_000, offset, NEVER)
    (asked,) = talk.said()
    talk.hear(replies.Returned(((asked.request + 1, 1),), pack_sizes([1]), b"x"))
    talk.lose()
    again = talk.come_back()
    assert [(each.request, each.offset, each.total) for each in again] == [
        (asked.request, 5, 1),
        (asked.request + 2, 7, 1),
    ]
    (failed, _) = talk.hear(replies.Error(again[0].request, "not_found", "gone")) + talk.hear(
        replies.Returned(((again[1].request, 1),), pack_sizes([1]), b"y")
    )
    assert (failed.waiters, type(failed.error())) == ([5], errors.NotFound)


def test_what_is_awaited_fails_when_the_conversation_ends():
    talk = Talk(producer="")
    talk.conversation.await_result("q", 5, 1_000, "sent", NEVER)
    talk.said()
    talk.conversation.await_result("q", 6, 1_000, "not sent", NEVER)
    assert talk.conversation.unanswered == 2
    assert talk.conversation.has_more_to_say
    *failed, ended = talk.lose()
    assert [each.waiters for each in failed] == [["sent"], ["not sent"]]
    assert isinstance(ended, Ended)


def test_a_result_that_nobody_waits_for_is_not_missed():
    talk = Talk()
    early = talk.conversation.await_result("q", 4, 1_000, "early", NEVER)
    late = talk.conversation.await_result("q", 5, 1_000, "late", NEVER)
    talk.conversation.await_result("q", 6, 1_000, "kept", NEVER)
    talk.conversation.give_up(early)
    (asked,) = talk.said()
    assert (asked.offset, asked.total, talk.conversation.unanswered) == (4, 3, 2)
    talk.conversation.give_up(late)
    assert talk.conversation.unanswered == 1
    returned = replies.Returned(((asked.request, 3),), pack_sizes([1, 1, 1]), b"xyz")
    assert [(each.waiter, each.reply) for each in talk.hear(returned)] == [("kept", b"z")]


def test_request_numbers_of_many_do_not_wrap_among_them(monkeypatch):
    talk = Talk()
    monkeypatch.setattr(talk.conversation, "_number", 0xFFFF_FFFE)
    for offset in (5, 6):
        talk.conversation.await_result("q", offset, 1_000, offset, NEVER)
    assert [each.request for each in talk.said()] == [1]
