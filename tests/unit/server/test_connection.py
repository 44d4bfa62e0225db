"""One connection, with the time, the socket and the pump in the hands of the test."""

from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry.wire import codec
from wherry.wire.messages import pack_sizes
from wherry_broker.server.connection import CLOSE_S

HELLO = commands.Hello("wherry", 1, 1, "", "tester", 60_000)
BAD_FRAME = bytes(12)
MS = 0.001


def publish(request: int, size: int = 1) -> commands.Publish:
    return commands.Publish(request, "q", pack_sizes([size]), block=bytes(size))


def assert_gone(line, code: str) -> None:
    """It has said why, the pump knows, and no timer is left."""
    line.loop.turn()
    said = [each for each in line.heard() if type(each) is commands.Goodbye]
    assert [each.code for each in said] == ([code] if code else [])
    assert line.transport.closing
    assert line.pump.attached == {}
    assert line.gone == [line.connection]
    assert line.loop.timers == []


def test_who_comes_back_finds_a_socket_that_is_closing_already(opened):
    """The pump closes the old connection, so that its leases are there for the new one; the loss is told later."""
    made = opened()
    made.transport.closing = True
    made.connection.close("unavailable", "this client has connected anew")
    assert made.pump.attached == {}
    assert made.pump.calls[-1] == ("detach", True)
    made.connection.connection_lost(None)
    assert made.pump.calls.count(("detach", True)) == 1


# Coming in.


def test_hello_attaches_before_what_follows_it_is_given(line):
    made = line()
    made.say(HELLO, publish(1))
    assert made.pump.calls == [("attach",), ("submit", publish(1))]
    assert [type(each) for each in made.heard()] == [replies.Welcome]


def test_what_is_refused_hears_why_and_is_never_attached(line):
    made = line(refused="there are 3 connections, which is the limit")
    made.say(HELLO)
    assert made.pump.calls == []
    assert_gone(made, "unavailable")


def test_hello_has_a_deadline(line):
    made = line(login_ms=5000)
    made.loop.advance(5 - MS)
    assert not made.transport.closing
    made.loop.advance(MS)
    assert_gone(made, "unauthenticated")


def test_bytes_that_drip_do_not_move_the_deadline(line):
    made = line(login_ms=5000)
    for byte in codec.encode(HELLO._replace(name="x" * 200))[:49]:
        made.feed(bytes([byte]))
        made.loop.advance(0.1)
    assert not made.transport.closing
    made.feed(b"x")
    made.loop.advance(0.1)
    assert_gone(made, "unauthenticated")


def test_hello_in_time_ends_the_deadline(line):
    made = line(login_ms=5000, heartbeat_ms=0)
    made.loop.advance(5 - MS)
    made.say(HELLO)
    assert made.loop.timers == []
    made.loop.advance(3600)
    assert not made.transport.closing


@pytest.mark.parametrize("first", [commands.Ping(), publish(1), HELLO._replace(token="guess"), replies.Done(1)])
def test_who_does_not_come_in_is_never_attached(line, first):
    made = line()
    made.say(first)
    assert made.pump.calls == []
    assert_gone(made, "unauthenticated" if type(first) is commands.Hello else "bad_frame")


# Going.


def test_what_was_said_before_a_goodbye_in_the_same_bytes_counts(line):
    made = line()
    made.say(HELLO, publish(1), commands.Goodbye(), publish(2))
    assert made.pump.calls == [("attach",), ("submit", publish(1)), ("detach", False)]
    assert_gone(made, "")


def test_what_was_said_before_a_bad_frame_counts(opened):
    made = opened()
    made.feed(codec.encode(publish(1)) + BAD_FRAME + codec.encode(publish(2)))
    assert made.pump.calls[1:] == [("submit", publish(1)), ("detach", False)]
    assert_gone(made, "bad_frame")


ENDS = {
    "a bad frame": lambda made: made.feed(BAD_FRAME),
    "a goodbye": lambda made: made.say(commands.Goodbye("", "done")),
    "the end of the stream": lambda made: made.connection.eof_received(),
    "the broker": lambda made: made.connection.close("draining", "the end"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_client_that_takes_nothing_is_detached_at_once_and_cut_off_soon(opened, end):
    """Until it is gone the core would go on leasing messages to it, and each would cost an attempt."""
    made = opened()
    made.transport.reads = False
    made.say(commands.Ping(1))
    end(made)
    assert made.pump.attached == {}
    assert made.gone == []
    assert made.connection.room_bytes() == 0
    made.connection.say([replies.Done(7)])
    made.loop.advance(CLOSE_S - MS)
    assert not made.transport.aborted
    made.loop.advance(MS)
    assert made.transport.aborted
    assert made.gone == [made.connection]
    assert made.loop.timers == []
    assert replies.Done(7) not in made.heard()


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_what_was_said_before_the_end_may_still_be_taken(opened, end):
    made = opened()
    made.transport.reads = False
    made.say(commands.Ping(1))
    end(made)
    made.loop.advance(CLOSE_S / 2)
    made.transport.take(1 << 20)
    made.loop.turn()
    assert made.gone == [made.connection]
    assert made.loop.timers == []
    assert not made.transport.aborted
    assert made.heard()[0] == replies.Pong(1)


def test_a_lost_socket_detaches(opened):
    made = opened(heartbeat_ms=1000)
    made.connection.connection_lost(ConnectionResetError(104, "reset"))
    assert made.pump.calls == [("attach",), ("detach", True)]
    assert made.loop.timers == []
    assert made.logged.entries[-1]["error"] == "[Errno 104] reset"
    made.connection.say([replies.Done(1)])
    made.connection.close("draining", "the end")
    assert made.heard() == []
    assert made.connection.room_bytes() == 0


def test_nothing_is_written_to_a_socket_that_closes_by_itself(opened):
    """uvloop raises there, asyncio warns."""
    made = opened()
    made.transport.close()
    made.connection.say([replies.Done(1)])
    made.connection.close("draining", "the end")
    made.connection.hold_reading(hold=True)
    assert made.heard() == []
    assert_gone(made, "")


# Frames that do not come whole.


def begun(size: int, sent: int) -> bytes:
    return codec.encode(publish(1, size))[:sent]


def test_memory_of_unfinished_frames_is_counted_and_given_back(opened):
    made = opened()
    made.feed(begun(1 << 20, 500_000))
    assert 500_000 <= made.unfinished.held_bytes <= 1_000_000
    made.feed(codec.encode(publish(1, 1 << 20))[500_000:])
    assert made.unfinished.held_bytes == 0
    made.feed(begun(1 << 20, 500_000))
    made.connection.connection_lost(None)
    assert made.unfinished.held_bytes == 0


def test_who_goes_over_what_all_may_hold_is_closed(opened):
    made = opened(unfinished_bytes_max=1 << 20)
    made.unfinished.change(0, 600_000)  # another connection
    made.feed(begun(1 << 20, 200_000))
    assert not made.transport.closing
    made.feed(begun(1 << 20, 400_000)[200_000:])
    assert made.unfinished.held_bytes == 600_000
    assert_gone(made, "unavailable")


def test_a_short_frame_is_finished_whatever_others_hold(line):
    made = line(unfinished_bytes_max=1 << 20)
    made.unfinished.change(0, 2 << 20)
    for byte in codec.encode(HELLO):
        made.feed(bytes([byte]))
    assert [type(each) for each in made.heard()] == [replies.Welcome]


# Heartbeats.


def test_two_silent_intervals_end_it(opened):
    made = opened(heartbeat_ms=10_000)
    made.loop.advance(20 - MS)
    assert not made.transport.closing
    made.loop.advance(MS)
    assert_gone(made, "unavailable")
    assert "connection_silent" in made.events()


@pytest.mark.parametrize("data", [codec.encode(commands.Ping()), b"\0"], ids=["a frame", "part of a frame"])
def test_any_byte_is_a_sign_of_life(opened, data):
    made = opened(heartbeat_ms=10_000)
    made.loop.advance(19)
    made.feed(data)
    made.loop.advance(20 - MS)
    assert not made.transport.closing
    made.loop.advance(5)  # it looks again at the latest a quarter of that later
    assert_gone(made, "unavailable")


def test_without_heartbeats_nobody_looks(opened):
    made = opened(heartbeat_ms=0)
    assert made.loop.timers == []


def test_who_cannot_be_heard_is_not_called_silent(opened):
    made = opened(heartbeat_ms=10_000)
    made.connection.hold_reading(hold=True)
    made.loop.advance(300)
    assert not made.transport.closing
    made.connection.hold_reading(hold=False)
    made.loop.advance(20 - MS)
    assert not made.transport.closing
    made.loop.advance(5)
    assert_gone(made, "unavailable")


# Writing.


def full(made) -> None:
    """Fills the buffer of a client that reads nothing."""
    made.transport.reads = False
    made.connection.say([replies.Error(1, "busy", "x" * 1000)] * (made.limits.write_high_bytes // 1000 + 1))
    assert made.transport.paused


def test_a_full_buffer_stops_reading_and_delivering(opened):
    made = opened()
    full(made)
    assert made.transport.reading_paused
    assert made.connection.room_bytes() <= 0
    made.transport.take(made.transport.waiting - made.limits.write_low_bytes - 1)
    assert made.transport.reading_paused
    made.transport.take(1)
    assert not made.transport.reading_paused
    assert made.connection.room_bytes() > made.limits.write_high_bytes - made.limits.write_low_bytes
    assert made.pump.calls[-1] == ("make_room",)
    assert made.loop.timers == []


def test_a_buffer_that_is_just_not_full_has_room(opened):
    """Its transport will not say that it has room again, since it never was without."""
    made = opened()
    made.transport.reads = False
    made.transport.write(bytes(made.limits.write_high_bytes))
    assert not made.transport.paused
    assert made.connection.room_bytes() > 0


def test_who_takes_nothing_is_cut_off(opened):
    made = opened(write_deadline_ms=10_000)
    full(made)
    made.loop.advance(10 - MS)
    assert not made.transport.aborted
    made.loop.advance(MS)
    assert made.transport.aborted
    assert "client_reads_nothing" in made.events()
    assert_gone(made, "")


def test_who_asks_for_no_heartbeats_may_take_nothing_for_long(line):
    """Its thread is at work on what it has, and reads when it is done."""
    made = line(heartbeat_ms=10_000, write_deadline_ms=10_000)
    made.say(HELLO._replace(heartbeat_ms=0))
    assert made.heard()[0].heartbeat_ms == 0
    full(made)
    made.loop.advance(3600)
    assert not made.transport.closing


def test_who_takes_a_little_lives(opened):
    made = opened(write_deadline_ms=10_000)
    full(made)
    for _ in range(10):
        made.loop.advance(9)
        made.transport.take(1)
    assert not made.transport.aborted
    made.loop.advance(20)
    assert made.transport.aborted


def test_what_is_taken_counts_though_more_waits_than_before(opened):
    made = opened(write_deadline_ms=10_000)
    full(made)
    for _ in range(5):
        made.transport.take(1000)
        made.connection.say([replies.Error(1, "busy", "x" * 1000)] * 2)
        made.loop.advance(10)
    assert not made.transport.aborted


def test_a_buffer_that_fills_again_has_its_whole_time_again(opened):
    made = opened(write_deadline_ms=10_000)
    full(made)
    made.loop.advance(9)
    made.transport.take(1 << 30)
    full(made)
    made.loop.advance(10 - MS)
    assert not made.transport.aborted
    made.loop.advance(MS)
    assert made.transport.aborted


def test_reading_stays_stopped_while_either_reason_holds(opened):
    made = opened()
    made.connection.hold_reading(hold=True)
    full(made)
    made.connection.hold_reading(hold=False)
    assert made.transport.reading_paused
    made.connection.hold_reading(hold=True)
    made.transport.take(1 << 30)
    assert made.transport.reading_paused
    made.connection.hold_reading(hold=False)
    assert not made.transport.reading_paused


def test_silence_does_not_end_who_has_much_to_take(opened):
    made = opened(heartbeat_ms=1000, write_deadline_ms=10_000)
    full(made)
    for _ in range(9):
        made.loop.advance(9)
        made.transport.take(1)
    assert not made.transport.closing
