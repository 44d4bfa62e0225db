"""Gates, through both shells."""

from __future__ import annotations

import pytest

import wherry


def fan_in(client, *, strict):
    """A message in `done` that waits for three in `work`, which are here."""
    with client.transaction() as tx:
        then = tx.publish("done", b"then", waits_at=wherry.Gate("all", 3, strict=strict))
        work = [tx.publish("work", b"%d" % each, counts_for="all") for each in range(3)]
    messages = client.queue("work").get(3, wait=5)
    return then, work, messages


def test_a_message_waits_until_the_others_have_ended(client):
    then, work, messages = fan_in(client, strict=False)
    messages[0].ack()
    messages[1].reject("bad")
    assert client.queue("done").get() == []
    assert client.gate("all") == wherry.GateInfo(then.id, 1, 1, strict=False, members=[each.id for each in work])
    messages[2].ack()
    (message,) = client.queue("done").get(wait=5)
    assert message.body == b"then"
    assert (client.gate("all")).remaining == 0
    message.ack()
    with pytest.raises(wherry.NotFound, match="no gate 'all'"):
        client.gate("all")


def test_a_strict_gate_fails_with_the_first(client):
    then, work, messages = fan_in(client, strict=True)
    messages[1].reject("bad")
    found = client.queue("done").find(then.id)
    assert (found.state, found.reason) == ("dead", "gate")
    assert found.error == f"{work[1].id}, which it waited for, is dead: bad"


def test_the_results_of_many_come_at_once(client):
    with client.transaction() as tx:
        many = tx.publish_many("work", [b"0", "1", b"2"], track=True)
        alone = tx.publish("other", b"3", track=True)
    for message in [*client.queue("work").get(2, wait=5), *client.queue("other").get(wait=5)]:
        message.ack(b"did " + message.body) if message.body != b"1" else message.reject("bad")
    ids = [posted.id for posted in (alone, *many)]
    done, first, failed, waiting = client.results(ids)
    assert (done, first) == (b"did 3", b"did 0")
    assert isinstance(failed, wherry.JobFailed)
    assert failed.error == "bad"
    assert isinstance(waiting, wherry.RequestTimeout)


def test_a_cancel_reaches_what_a_message_has_sent(client):
    root = client.queue("root").publish(b"root", track=True)
    child = client.queue("work").publish(b"child", parent=root.id, delay=60)
    client.queue("work").publish_many([b"more", b"and more"], parent=child.id)
    with client.transaction() as tx:
        tx.publish("done", b"then", parent=root.id)
        tx.publish_many("done", [b"a", b"b"], parent=child.id)
        tx.publish("done", b"of nobody")
    assert client.queue("root").cancel(root.id) == 7
    assert [message.body for message in client.queue("done").peek()] == [b"of nobody"]
    with pytest.raises(wherry.StaleDelivery, match="has ended"):
        client.queue("work").publish(b"late", parent=root.id)
    with pytest.raises(wherry.StaleDelivery, match="has ended"), client.transaction() as tx:
        tx.publish("work", b"late", parent=child.id)
    with pytest.raises(ValueError, match="no id of a message"):
        client.queue("work").publish(b"x", parent="root")
    assert client.queue("work").peek() == []
