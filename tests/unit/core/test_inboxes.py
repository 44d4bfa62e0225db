from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry.model.commands import Verb
from wherry_broker.core import inboxes
from wherry_broker.core.effects import Delivery
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.policies import Policies, Policy

INBOX = "_inbox.a"


@pytest.fixture
def driver(make_shard):
    """A shard whose first session has a temporary queue, and a second session."""
    driver = make_shard(resume_ms=1_000)
    driver.session = driver.shard.attach(1 << 30, "producer")
    driver.other = driver.shard.attach(1 << 30)
    assert driver.submit(commands.Consume, 1, INBOX, 10, temporary=True) == [replies.Done(driver.request)]
    return driver


def code_of(said):
    (error,) = said
    assert isinstance(error, replies.Error), error
    return error.code


def test_what_others_publish_is_delivered_to_its_session(driver):
    first, second = driver.publish(b"reply", queue=INBOX, session=driver.other), driver.commit()
    assert [type(each) for each in (*first, *second)] == [replies.Confirm, Delivery]
    assert first[0] == replies.Confirm("memory", ((driver.request, 1, False),))
    assert driver.settle(Verb.ACK, (1, 1, 1), queue=INBOX) == [replies.Settled(((driver.request, ()),))]


def test_no_log_and_no_list_has_it(driver):
    driver.publish(b"reply", queue=INBOX, session=driver.other)
    driver.submit(commands.Pause, INBOX, paused=True)
    driver.submit(commands.Declare, "q", {})
    assert [(type(record).__name__, record.queue) for record in driver.log] == [("Declared", 1)]
    (queues,) = driver.submit(commands.ListQueues)
    assert [row[0] for row in queues.queues] == ["q"]
    assert [each.name for each in driver.shard.ledger.open(1, 1, driver.now).queues] == ["q"]
    assert driver.shard.state.next_number == 2


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (commands.Consume, (1, INBOX, 10)),
        (commands.Info, (INBOX,)),
        (commands.Peek, (INBOX,)),
        (commands.Purge, (INBOX,)),
        (commands.Cancel, (INBOX, ((1, 1),))),
        (commands.Redrive, (INBOX, ((1, 1),))),
        (commands.Pause, (INBOX, True)),
        (commands.Alter, (INBOX, {"max_messages": 5})),
        (commands.Delete, (INBOX,)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_others_may_only_publish(driver, kind, fields):
    assert code_of(driver.submit(kind, *fields, session=driver.other)) == "forbidden"
    if kind is not commands.Consume:
        assert not isinstance(driver.submit(kind, *fields)[-1], replies.Error)


def test_nobody_else_can_have_its_name(driver):
    taken = driver.submit(commands.Consume, 1, INBOX, 10, temporary=True, session=driver.other)
    assert code_of(taken) == "forbidden"
    driver.submit(commands.Delete, INBOX)
    driver.submit(commands.Consume, 1, INBOX, 10, temporary=True, session=driver.other)
    assert code_of(driver.submit(commands.Info, INBOX)) == "forbidden"


@pytest.mark.parametrize("name", ["q", "inbox.a", "_inbox"])
def test_its_name_is_one_of_a_temporary_queue(driver, name):
    assert code_of(driver.submit(commands.Consume, 2, name, 10, temporary=True)) == "invalid"


def test_other_queues_have_no_such_name(driver):
    assert code_of(driver.submit(commands.Declare, "_inbox.b", {})) == "invalid"
    assert code_of(driver.submit(commands.Consume, 2, "_inbox.b", 10)) == "not_found"
    assert code_of(driver.publish(b"reply", queue="_inbox.b")) == "not_found"
    assert code_of(driver.submit(commands.Put, "_inbox.b", "key", block=b"1")) == "not_found"


def test_it_ends_with_its_session(driver):
    driver.publish(b"reply", queue=INBOX, session=driver.other)
    before = driver.shard.state.memory.held_bytes
    driver.shard.detach(driver.session, driver.now)
    assert INBOX not in driver.shard.state.names
    assert driver.shard.state.next_first == 1
    assert driver.shard.state.memory.held_bytes < before
    assert code_of(driver.publish(b"late", queue=INBOX, session=driver.other)) == "not_found"


def test_a_session_that_comes_back_in_time_has_it_still(driver):
    driver.shard.detach(driver.session, driver.now, resumes=True)
    driver.publish(b"reply", queue=INBOX, session=driver.other)
    driver.wait(999)
    driver.session = driver.shard.attach(1 << 30, "producer")
    assert driver.consume(1, INBOX, 10, temporary=True) == [(1, 1, 1)]


def test_it_ends_with_a_session_that_does_not_come_back(driver):
    driver.shard.detach(driver.session, driver.now, resumes=True)
    driver.wait(999)
    assert INBOX in driver.shard.state.names
    driver.wait(1)
    assert INBOX not in driver.shard.state.names


def test_leases_of_it_end_before_it_does(driver):
    driver.publish(b"reply", queue=INBOX, session=driver.other)
    driver.commit()
    assert driver.shard.leased == 1
    driver.shard.detach(driver.session, driver.now, resumes=True)
    driver.wait(1_000)
    assert (driver.shard.leased, INBOX in driver.shard.state.names) == (0, False)


def test_a_broker_that_drains_keeps_nothing_for_sessions_that_are_away(driver):
    driver.shard.detach(driver.session, driver.now, resumes=True)
    driver.shard.drain("the end", driver.now)
    assert INBOX not in driver.shard.state.names


def test_no_policy_is_for_it(driver):
    before = driver.info(INBOX)["options"]
    new = Policies(QueueOptions(), (Policy("_inbox.*", {"max_messages": 1}),))
    assert driver.shard.reconfigure(new, driver.now).changed == []
    assert driver.info(INBOX)["options"] == before


def test_it_is_bounded(driver, monkeypatch):
    options = driver.info(INBOX)["options"]
    assert {name: options[name] for name in inboxes.OPTIONS} == inboxes.OPTIONS
    monkeypatch.setattr(inboxes, "INBOXES_MAX", 1)
    assert code_of(driver.submit(commands.Consume, 2, "_inbox.b", 10, temporary=True)) == "unavailable"


def test_a_reply_and_the_end_of_its_request_happen_together(driver):
    driver.publish(b"request")
    driver.submit(commands.Consume, 1, "q", 10, session=driver.other)
    settles, row = (("q", Verb.ACK, 1, ((1, 1, 1),), None, ""),), (INBOX, (1).to_bytes(4, "big"), 0, "", 0, 0, 0, "")
    said = driver.submit(commands.Commit, settles, (row,), block=b"!", session=driver.other)
    assert [type(each) for each in said] == [replies.Committed, Delivery]
    assert [type(record).__name__ for record in driver.log] == ["Declared", "Published", "Removed"]
