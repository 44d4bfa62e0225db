"""Options by queue-name pattern: what follows the configuration, and what is a queue's own."""

from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.policies import Policies, Policy

DEFAULTS = QueueOptions(durability="synced")
POLICIES = Policies(
    DEFAULTS,
    [
        Policy("emails.>", {"max_messages": 100, "lease_ms": 500}),
        Policy("emails.vip", {"max_messages": 7}),
        Policy("*.vip", {"max_attempts": 3}),
    ],
)


@pytest.fixture
def driver(make_shard):
    driver = make_shard()
    driver.shard.reconfigure(POLICIES, driver.now)
    return driver


def declare(driver, name, **options):
    (said,) = driver.submit(commands.Declare, name, options)
    return said


def option(driver, name, queue="emails.vip"):
    return driver.info(queue)["options"][name]


def reconfigure(driver, *policies, defaults=DEFAULTS):
    done = driver.shard.reconfigure(Policies(defaults, [Policy(*each) for each in policies]), driver.now)
    driver.commit()
    return done


def restarted(driver, make_shard):
    fresh = make_shard()
    for record in driver.log:
        fresh.shard.restore(record)
    fresh.shard.restored(driver.now)
    return fresh


def test_all_policies_that_match_hold_and_later_ones_win():
    assert POLICIES.options("emails.vip") == DEFAULTS.changed({"max_messages": 7, "lease_ms": 500, "max_attempts": 3})
    assert POLICIES.options("emails.a.b") == DEFAULTS.changed({"max_messages": 100, "lease_ms": 500})
    assert POLICIES.options("emails") == DEFAULTS
    assert POLICIES.patterns("emails.vip") == ("emails.>", "emails.vip", "*.vip")


def test_what_a_declare_says_goes_before_policies(driver):
    info = declare(driver, "emails.vip", max_messages=1).info
    assert (info["options"]["max_messages"], info["options"]["lease_ms"]) == (1, 500)
    assert (info["asked"], info["policies"]) == (("max_messages",), ("emails.>", "emails.vip", "*.vip"))


def test_a_queue_that_was_never_declared_has_them_too(driver):
    driver.publish(b"x", queue="emails.vip")
    assert option(driver, "max_messages") == 7


def test_declaring_again_without_options_is_fine_and_with_others_says_what_differs(driver):
    assert declare(driver, "emails.vip").created
    log = len(driver.log)
    assert not declare(driver, "emails.vip").created
    assert len(driver.log) == log
    said = declare(driver, "emails.vip", max_messages=9, lease_ms=500)
    assert said.code == "exists_differently"
    assert said.text.endswith("exists with other options: max_messages is 7, not 9")


def test_queues_follow_the_configuration_but_for_what_was_asked(driver, make_shard):
    declare(driver, "emails.vip", lease_ms=500)
    declare(driver, "other")
    policies = ("emails.*", {"max_messages": 20, "lease_ms": 900})
    done = reconfigure(driver, policies, defaults=DEFAULTS.changed({"max_attempts": 2}))
    assert done == (["emails.vip", "other"], [])
    for each in (driver, restarted(driver, make_shard)):
        assert [option(each, name) for name in ("max_messages", "lease_ms", "max_attempts")] == [20, 500, 2]
        assert option(each, "max_attempts", "other") == 2
    assert reconfigure(driver, policies, defaults=DEFAULTS.changed({"max_attempts": 2})) == ([], [])


def test_what_is_asked_for_later_is_the_queue_s_own_too(driver, make_shard):
    declare(driver, "emails.vip")
    assert not declare(driver, "emails.vip", max_messages=7).created
    driver.submit(commands.Alter, "emails.vip", {"lease_ms": 500, "max_attempts": 4})
    driver.submit(commands.Pause, "emails.vip", True)
    assert driver.info("emails.vip")["asked"] == ("lease_ms", "max_attempts", "max_messages", "paused")
    driver = restarted(driver, make_shard)
    assert reconfigure(driver, (">", {"priorities": 2})) == (["emails.vip"], [])
    found = [option(driver, name) for name in ("max_messages", "lease_ms", "max_attempts", "paused", "priorities")]
    assert found == [7, 500, 4, True, 2]


def test_a_policy_that_is_gone_leaves_the_defaults(driver):
    declare(driver, "emails.vip")
    assert reconfigure(driver) == (["emails.vip"], [])
    assert driver.info("emails.vip")["options"] == DEFAULTS.as_map()
    assert driver.info("emails.vip")["policies"] == ()


def test_durability_is_kept_and_told(driver):
    declare(driver, "emails.vip")
    declare(driver, "asked", durability="synced")
    done = reconfigure(driver, (">", {"durability": "written", "max_messages": 9}))
    assert done == (["emails.vip", "asked"], ["emails.vip"])
    assert [option(driver, name) for name in ("durability", "max_messages")] == ["synced", 9]


def test_dead_messages_over_a_new_bound_are_dropped(driver):
    driver.publish(b"a", b"b", b"c", queue="emails.vip")
    driver.consume(queue="emails.vip")
    driver.settle(commands.Verb.REJECT, (1, 3, 1), queue="emails.vip")
    reconfigure(driver, ("emails.vip", {"dead_max_messages": 1}))
    assert driver.counts("emails.vip") == (0, 0, 0, 1)


def test_a_queue_that_a_policy_lets_go_on_is_delivered_from(driver, rows):
    reconfigure(driver, (">", {"paused": True}))
    driver.publish(b"x")
    assert driver.consume() == []
    driver.shard.reconfigure(Policies(DEFAULTS), driver.now)
    driver.shard.dispatch(driver.now)
    assert rows(driver.commit()) == [(1, 1, 1)]


def test_a_queue_of_an_old_log_keeps_what_it_has(make_shard):
    driver = make_shard()
    declare(driver, "emails.vip")
    log = [record._replace(asked=None) for record in driver.log]
    fresh = make_shard()
    for record in log:
        fresh.shard.restore(record)
    fresh.shard.restored(fresh.now)
    assert fresh.shard.reconfigure(POLICIES, fresh.now) == ([], [])
    assert fresh.info("emails.vip")["asked"] == tuple(sorted(DEFAULTS.as_map()))


def test_a_store_is_bound_to_nothing(driver):
    reconfigure(driver, (">", {"bind": ("orders.>",), "max_messages": 5}))
    said = declare(driver, "values", kind="store")
    assert isinstance(said, replies.QueueInfo)
    assert (said.info["options"]["bind"], said.info["options"]["max_messages"]) == ((), 5)
    assert reconfigure(driver, (">", {"bind": ("users.>",), "max_messages": 6})) == (["values"], [])
