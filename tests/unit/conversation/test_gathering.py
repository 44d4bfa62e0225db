from __future__ import annotations

import pytest

import wherry
from wherry.conversation.gathering import Gathering
from wherry.model import commands, replies
from wherry.model.fields import BATCH_MESSAGES_MAX, ROWS_MAX
from wherry.wire.messages import pack_sizes


def asked(gathering):
    """(queue, ranges) of what it asks next."""
    command = gathering.next().make(7)
    assert isinstance(command, commands.ReadResults)
    return command.queue, command.ranges


def answer(*results, unresulted=()):
    return replies.Results(7, len(results), pack_sizes([*map(len, results)]), unresulted, b"".join(results))


def test_neighbours_are_asked_for_together_and_queues_apart():
    gathering = Gathering(["a/5", "a/6", "a/9", "b/1", "a/7"])
    assert asked(gathering) == ("a", ((5, 2), (9, 1)))
    gathering.take(answer(b"5", b"6"))
    assert asked(gathering) == ("a", ((9, 1),))
    gathering.take(answer(b"9"))
    assert asked(gathering) == ("b", ((1, 1),))
    gathering.take(answer(b""))
    assert asked(gathering) == ("a", ((7, 1),))
    gathering.take(answer(b"7"))
    assert gathering.next() is None
    assert gathering.found == [b"5", b"6", b"9", b"", b"7"]


def test_a_message_may_be_asked_for_twice():
    gathering = Gathering(["a/5", "a/5"])
    for _ in range(2):
        assert asked(gathering) == ("a", ((5, 1),))
        gathering.take(answer(b"x"))
    assert gathering.found == [b"x", b"x"]


def test_a_request_is_within_its_limits():
    assert asked(Gathering([f"a/{n}" for n in range(2 * BATCH_MESSAGES_MAX)]))[1] == ((0, BATCH_MESSAGES_MAX),)
    assert len(asked(Gathering([f"a/{2 * n}" for n in range(2 * ROWS_MAX)]))[1]) == ROWS_MAX


def test_what_has_no_result_has_its_error_instead():
    gathering = Gathering(["a/1", "a/2", "a/3", "a/4"])
    rows = ((0, "dead", "rejected", "boom"), (1, "leased", "", ""), (2, "", "", ""))
    gathering.take(answer(b"", b"", b"", b"ok", unresulted=rows))
    failed, running, unknown, result = gathering.found
    assert isinstance(failed, wherry.JobFailed)
    assert (failed.state, failed.reason, failed.error) == ("dead", "rejected", "boom")
    assert str(failed) == "message a/1 has no result: it is dead: rejected: boom"
    assert isinstance(running, wherry.RequestTimeout)
    assert isinstance(unknown, wherry.NotFound)
    assert result == b"ok"


def test_an_answer_that_tells_nothing_is_an_error_and_not_asked_for_ever():
    with pytest.raises(wherry.ProtocolError):
        Gathering(["a/1"]).take(answer())
