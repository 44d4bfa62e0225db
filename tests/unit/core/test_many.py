"""How many queues and consumers there may be."""

from __future__ import annotations

from wherry.model import commands, replies
from wherry_broker.core import attendance, catalogue


def test_there_are_not_more_queues_than_are_allowed(make_shard, monkeypatch):
    monkeypatch.setattr(catalogue, "QUEUES_MAX", 2)
    shard = make_shard()
    shard.submit(commands.Declare, "one", {})
    shard.publish(b"x", queue="two")
    for kind, fields in (
        (commands.Declare, ("three", {})),
        (commands.Publish, ("three", b"\0\0\0\1", 0, "", 0, 0, 0, "", False, 0, 0, b"x")),
        (commands.Consume, (1, "three", 5)),
    ):
        (refused,) = shard.submit(kind, *fields)
        assert (refused.code, refused.retryable, "2 is the limit" in refused.text) == ("unavailable", True, True)
    shard.submit(commands.Declare, "one", {})
    shard.publish(b"x", queue="two")
    shard.submit(commands.Delete, "one")
    shard.submit(commands.Declare, "three", {})
    assert set(shard.shard.state.names) == {"two", "three"}


def test_a_session_has_not_more_consumers_than_are_allowed(make_shard, monkeypatch):
    monkeypatch.setattr(attendance, "CONSUMERS_MAX", 2)
    shard = make_shard()
    for number in (1, 2):
        shard.consume(number)
    (refused,) = shard.submit(commands.Consume, 3, "q", 5)
    assert (refused.code, refused.retryable) == ("unavailable", True)
    other = shard.shard.attach(1 << 20)
    assert [type(each) for each in shard.submit(commands.Consume, 3, "q", 5, session=other)] == [replies.Done]
    shard.submit(commands.Stop, 1)
    assert [type(each) for each in shard.submit(commands.Consume, 3, "q", 5)] == [replies.Done]
