"""`wherry move`, as a user has it."""

from __future__ import annotations

import json
import signal
import time

import pytest

from serving import DEADLINE_S, Served

REFUSED, USAGE, TIMED_OUT = 1, 2, 4


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def bodies(served, queue):
    return served.out("consume", queue, "--wait", "0").splitlines()


def until(is_so):
    """Returns once something is so."""
    end = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end


def test_messages_move_with_all_that_they_have(served):
    served.out("publish", "from", "one", "--key", "user", "--header", "kind=new", "--priority", "7")
    served.out("publish", "from", "two")
    assert served.out("move", "from", "to") == "2 messages moved from from to to\n"
    assert bodies(served, "from") == []
    one, two = map(json.loads, served.out("consume", "to", "--wait", "0", "--json").splitlines())
    assert (one["body"], one["key"], one["headers"], one["priority"]) == ("one", "user", {"kind": "new"}, 7)
    assert (two["body"], two["key"], two["headers"], two["priority"]) == ("two", "", {}, 0)


def test_many_move_in_order(served):
    lines = "".join(f"line {number} {'x' * 500}\n" for number in range(5_000))
    served.out("publish", "many", "--lines", stdin=lines.encode())
    assert json.loads(served.out("move", "many", "more", "--json")) == {"from": "many", "to": "more", "moved": 5_000}
    assert served.out("consume", "more", "--wait", "0") == lines


def test_it_stops_after_a_count(served):
    served.out("publish", "counted", "a", "b", "c")
    assert served.out("move", "counted", "rest", "--count", "2").startswith("2 messages")
    assert bodies(served, "rest") == ["a", "b"]
    done = served.run("move", "counted", "rest", "--count", "2")
    assert (done.returncode, done.stdout) == (TIMED_OUT, "1 message moved from counted to rest\n")
    assert done.stderr == "wherry: 1 of 2 messages were not there\n"


def test_priorities_that_the_other_queue_has_not_are_its_highest(served):
    served.out("queue", "declare", "flat", "--priorities", "2")
    served.out("publish", "steep", "a", "--priority", "9")
    served.out("move", "steep", "flat")
    assert json.loads(served.out("consume", "flat", "--count", "1", "--json"))["priority"] == 1


def test_it_waits_for_room_and_leaves_what_finds_none(served):
    served.out("queue", "declare", "small", "--max-messages", "1")
    served.out("publish", "source", "a", "b")
    served.out("publish", "small", "blocker")
    with served.start("move", "source", "small", "--wait", "1d") as moving:
        until(lambda: served.out("queue", "list", "source").split("\t")[3] == "2")  # it holds them
        moving.send_signal(signal.SIGINT)
        out, err = moving.communicate()
    assert (moving.returncode, out, err) == (0, b"0 messages moved from source to small\n", b"")
    assert bodies(served, "source") == ["a", "b"]
    assert bodies(served, "small") == ["blocker"]


def test_a_queue_that_holds_fewer_at_a_time_gets_fewer_at_a_time(served):
    served.out("queue", "declare", "narrow", "--max-messages", "10")
    served.out("publish", "wide", *map(str, range(25)))
    with served.start("move", "wide", "narrow") as moving:
        assert served.out("consume", "narrow", "--count", "25").split() == [str(number) for number in range(25)]
        out, err = moving.communicate()
    assert (moving.returncode, out, err) == (0, b"25 messages moved from wide to narrow\n", b"")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["nowhere", "to"], REFUSED, "'nowhere'"), (["same", "same"], USAGE, "same is the same queue")],
)
def test_what_cannot_be_is_told(served, arguments, code, words):
    done = served.run("move", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
