"""The pump, with the time, the log and the clients in the hands of the test."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.model import commands, replies
from wherry.wire.messages import pack_sizes
from wherry_broker.core.effects import Delivery
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard
from wherry_broker.log.memory import MemoryLog
from wherry_broker.server.pump import COMMANDS_A_TURN, TURN_MS, Pump


class HeldLog(MemoryLog):
    """A log that has written a commit when the test says so."""

    level = "synced"

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[Any] = []

    def commit(self, commit, done) -> None:
        assert not self.commits, "one commit at a time"
        self.commits.append((commit, done))

    def finish(self) -> int:
        """Ends the commit in flight; returns how many records it had."""
        commit, done = self.commits.pop()
        done(())
        return len(commit.records)


class Time:
    """A clock that moves when it is told to, and perhaps with every look at it."""

    def __init__(self) -> None:
        self.ms = 1_000_000
        self.step_ms = 0

    def now_ms(self) -> int:
        self.ms += self.step_ms
        return self.ms


class Customer:
    """A client that remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.turns: list[int] = []
        self.room = 1 << 20
        self.held = False

    def say(self, says) -> None:
        self.heard += says
        self.turns.append(len(says))

    def room_bytes(self) -> int:
        return self.room

    def hold_reading(self, *, hold: bool) -> None:
        self.held = hold

    def close(self, code: str, text: str) -> None:
        self.closed(code, text)

    def confirmed(self) -> list[int]:
        return [row[0] for each in self.heard if type(each) is replies.Confirm for row in each.confirms]


class Yard:
    """A pump, and what is around it."""

    def __init__(self, loop, level: str = "synced", uncommitted_bytes_max: int = 1 << 20) -> None:
        self.loop, self.log, self.clock = loop, HeldLog(), Time()
        self.shard = Shard(1, lambda: 0.5, QueueOptions(durability=level), resume_ms=1_000)
        self.pump = Pump(self.shard, self.log, self.clock, loop, uncommitted_bytes_max)

    def come(self) -> tuple[int, Customer]:
        customer = Customer()
        return self.pump.attach(customer), customer

    def one_turn(self) -> None:
        """Runs what waits for the next turn of the event loop, and nothing that this leads to."""
        soon, self.loop._soon = self.loop._soon, []
        for call in soon:
            call()


@pytest.fixture
def yard(loop):
    return lambda *arguments, **more: Yard(loop, *arguments, **more)


def publish(request: int, size: int = 1, queue: str = "q") -> commands.Publish:
    return commands.Publish(request, queue, pack_sizes([size]), block=bytes(size))


# Commits.


def test_what_comes_while_a_commit_is_in_flight_is_the_next_one(yard):
    made = yard()
    number, customer = made.come()
    made.pump.submit(number, [publish(1)])
    made.loop.turn()
    for request in (2, 3, 4):
        made.pump.submit(number, [publish(request)])
        made.loop.turn()
    assert customer.confirmed() == []
    assert made.log.finish() == 2  # the queue, and its first batch
    made.loop.turn()
    assert customer.confirmed() == [1]
    assert made.log.finish() == 3
    made.loop.turn()
    assert customer.confirmed() == [1, 2, 3, 4]
    assert made.log.commits == []


def test_a_queue_in_memory_waits_for_no_log(yard):
    made = yard("memory")
    number, customer = made.come()
    made.pump.submit(number, [commands.Declare(1, "q", {})])
    made.loop.turn()
    made.log.finish()  # that there is such a queue is a fact of the log
    made.pump.submit(number, [publish(2)])
    made.loop.turn()
    assert customer.confirmed() == [2]
    assert made.log.commits == []


def test_too_much_that_waits_for_the_log_stops_all_reading(yard):
    made = yard(uncommitted_bytes_max=1000)
    (number, first), (_, second) = made.come(), made.come()
    made.pump.submit(number, [publish(1, 900)])
    made.loop.turn()
    made.pump.submit(number, [publish(2, 900)])
    assert not first.held
    made.pump.submit(number, [publish(3, 900)])
    assert first.held
    assert second.held
    assert made.come()[1].held
    made.log.finish()
    assert not first.held
    assert not second.held


def test_a_client_that_goes_is_not_told(yard):
    made = yard()
    number, customer = made.come()
    made.pump.submit(number, [publish(1)])
    made.loop.turn()
    made.pump.detach(number)
    made.log.finish()
    made.loop.turn()
    assert customer.heard == []


# Time.


def test_one_timer_stands_for_all_that_waits(yard):
    made = yard("memory")
    number, customer = made.come()
    made.pump.submit(
        number,
        [publish(1)._replace(delay_ms=5000), publish(2)._replace(delay_ms=2000), commands.Consume(3, 1, "q", 10)],
    )
    made.loop.turn()
    made.log.finish()
    made.loop.turn()
    for waited in (2000, 3000):
        timers = made.loop.timers
        assert [round(1000 * (each.at - made.loop.now)) for each in timers] == [waited]
        made.clock.ms += waited
        made.loop.advance(waited / 1000)
    assert [each.row[0] for each in customer.heard if type(each) is Delivery] == [2, 1]
    made.pump.close()


# Fairness.


def test_many_commands_are_taken_some_at_a_time_and_answered_in_between(yard):
    made = yard("memory")
    number, customer = made.come()
    count = 3 * COMMANDS_A_TURN + 1
    made.pump.submit(number, [commands.Info(request, "nowhere") for request in range(1, count + 1)])
    assert customer.held
    made.loop.turn()
    assert [each.request for each in customer.heard] == list(range(1, count + 1))
    assert max(customer.turns) == COMMANDS_A_TURN * 2  # those that were taken at once, and the first turn's
    assert len(customer.turns) == 3
    assert not customer.held


def test_commands_that_take_long_are_left_after_a_while(yard):
    made = yard("memory")
    number, customer = made.come()
    made.clock.step_ms = TURN_MS // 2
    made.pump.submit(number, [commands.Info(request, "nowhere") for request in range(1, 21)])
    assert customer.held
    turns = 0
    while customer.held:
        made.one_turn()
        turns += 1
        assert len(customer.heard) <= 2 * (turns + 1)
    assert turns >= 8
    made.clock.step_ms = 0
    made.loop.turn()
    assert [each.request for each in customer.heard] == list(range(1, 21))


def test_who_waits_longest_is_next(yard):
    made = yard("memory")
    (first, one), (second, two) = made.come(), made.come()
    given = [commands.Info(request, "nowhere") for request in range(1, 2 * COMMANDS_A_TURN + 2)]
    made.pump.submit(first, list(given))
    made.pump.submit(second, list(given))
    heard = []
    while one.held or two.held:
        made.one_turn()
        heard.append((len(one.heard) // COMMANDS_A_TURN, len(two.heard) // COMMANDS_A_TURN))
    assert heard == [(2, 1), (2, 2), (2, 2), (2, 2)]


def test_what_is_read_before_reading_stops_comes_after_what_waits(yard):
    made = yard("memory")
    number, customer = made.come()
    given = [commands.Info(request, "nowhere") for request in range(1, 3 * COMMANDS_A_TURN)]
    made.pump.submit(number, given[: 2 * COMMANDS_A_TURN])
    made.pump.submit(number, given[2 * COMMANDS_A_TURN :])
    made.loop.turn()
    assert [each.request for each in customer.heard] == [each.request for each in given]


def test_who_takes_no_answers_is_not_worked_for(yard):
    """Its commands wait with it, and cost nobody a turn; they go on when it has room again."""
    made = yard("memory")
    number, customer = made.come()
    count = 4 * COMMANDS_A_TURN
    customer.room = 0
    made.pump.submit(number, [commands.Info(request, "nowhere") for request in range(1, count + 1)])
    made.loop.turn()
    assert len(customer.heard) == COMMANDS_A_TURN
    assert customer.held
    assert made.loop._soon == []
    customer.room = 1 << 20
    made.pump.make_room(number)
    made.loop.turn()
    assert len(customer.heard) == count
    assert not customer.held


def test_commands_wait_while_too_much_waits_for_the_log(yard):
    made = yard(uncommitted_bytes_max=1000)
    number, customer = made.come()
    made.pump.submit(number, [publish(1)])
    made.loop.turn()
    made.pump.submit(number, [publish(request, 10) for request in range(2, 3 * COMMANDS_A_TURN)])
    made.loop.turn()
    assert made.shard.state.names["q"].messages_held == 1 + COMMANDS_A_TURN
    while customer.held:
        made.log.finish()
        made.loop.turn()
    made.log.finish()
    made.loop.turn()
    assert customer.confirmed() == list(range(1, 3 * COMMANDS_A_TURN))


def test_what_was_said_before_the_end_is_taken(yard):
    made = yard("memory")
    number, _ = made.come()
    made.pump.submit(number, [publish(request) for request in range(1, 3 * COMMANDS_A_TURN)])
    made.pump.detach(number)
    assert made.shard.state.names["q"].messages_held == 3 * COMMANDS_A_TURN - 1
    made.loop.turn()


def test_work_for_long_ends_with_who_asked_for_it(yard):
    made = yard("memory")
    number, _ = made.come()
    made.clock.step_ms = 1
    made.pump.submit(number, [commands.Declare(request, f"q{request}", {}) for request in range(1, 10 * TURN_MS)])
    made.pump.detach(number)
    assert TURN_MS < len(made.shard.state.names) <= 2 * TURN_MS
    assert not made.pump._waiting
    made.clock.step_ms = 0
    made.loop.turn()


# Draining.


def test_drained_is_told_once_no_lease_is_left_and_all_is_durable(yard):
    made = yard()
    number, customer = made.come()
    made.pump.submit(number, [publish(1), commands.Consume(2, 1, "q", 10, 60_000)])
    made.loop.turn()
    made.log.finish()
    made.loop.turn()
    told: list[bool] = []
    made.pump.drain("the broker is shutting down", lambda: told.append(True))
    made.loop.turn()
    assert customer.heard[-1] == replies.Stopped(1, "draining", "the broker is shutting down")
    assert told == []
    made.pump.submit(number, [commands.Settle(3, "q", 0, 1, ((1, 1, 1),)), publish(4)])
    made.loop.turn()
    assert told == []
    made.log.finish()
    made.loop.turn()
    assert told == [True]
    assert [(type(each), each.request) for each in customer.heard if type(each) is replies.Error] == [
        (replies.Error, 4)
    ]


# A full disk.


def test_a_refused_publish_takes_no_room(yard):
    """What was refused counted as waiting for the log until the next commit, and none came: nothing was ever taken."""
    made = yard()
    number, customer = made.come()
    made.log.reserve_bytes = made.shard.state.homes.reserve_bytes = 10_000
    room = 100_000
    made.log.room_bytes = lambda: room
    made.pump.submit(number, [commands.Declare(1, "q", {})])
    made.loop.turn()
    room = 5_000
    made.log.finish()
    made.loop.turn()
    for request in range(2, 20):
        made.pump.submit(number, [publish(request, 6_000)])
        made.loop.turn()
    assert [each.bound for each in customer.heard if type(each) is replies.Error] == ["disk"] * 18
    assert made.log.commits == []
    room = 8_000  # nobody tells the pump
    made.pump.submit(number, [publish(20, 6_000)])
    made.loop.turn()
    assert made.log.finish() == 1


def test_the_room_is_known_before_the_first_commit(loop):
    log = HeldLog()
    log.room_bytes = lambda: 1_000
    shard = Shard(1, lambda: 0.5, QueueOptions(durability="synced"))
    Pump(shard, log, Time(), loop, 1 << 20)
    assert shard.state.homes.room_bytes == 1_000


def test_a_client_that_has_connected_anew_has_one_connection(yard):
    made = yard()
    told = []
    old = Customer()
    number = made.pump.attach(old, "4f2a", "me")

    def closed(code, text):
        told.append((code, text))
        made.pump.detach(number, resumes=True)

    old.closed = closed
    made.pump.attach(Customer(), "4f2a", "not me")
    assert told == []
    new = made.pump.attach(Customer(), "4f2a", "me")
    assert told == [("unavailable", "this client has connected anew")]
    assert made.shard.holder("4f2a", "me") == new
    assert number not in made.shard._sessions
