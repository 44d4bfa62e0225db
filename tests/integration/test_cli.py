"""The commands that talk to a broker, as a user or a script has them: in processes of their own, through pipes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

import wherry
from serving import DEADLINE_S, CommandLine, Served
from wherry_broker.cli import remote
from wherry_broker.cli.root import Failure, Globals

DONE, REFUSED, USAGE, UNREACHABLE, TIMED_OUT, IO_FAILED = 0, 1, 2, 3, 4, 74
NOWHERE = "wherry://127.0.0.1:1"
"""Port 1 (tcpmux) is one on which nothing listens."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed command says: one line that begins with its name, and nothing on standard output."""
    assert done.stdout == ""
    assert done.stderr.startswith("wherry: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def counts(served: Served, queue: str) -> list[int]:
    """(ready, delayed, leased, dead) as the command line tells them."""
    return [int(count) for count in served.out("queue", "list", queue).split("\t")[1:5]]


def until_held(process: subprocess.Popen[bytes]) -> None:
    """Returns when a consumer that nobody reads has written as much as its pipe holds."""
    assert process.stdout is not None
    assert process.stdout.read(1)


# ping, and failing.


def test_ping(served):
    address = f"127.0.0.1:{served.port}"
    said = served.out("ping").split()
    assert said[:3] == [address, "answers", "in"]
    told = json.loads(served.out("ping", "--json"))
    assert told["address"] == address
    assert 0 < told["ms"] < 1000 * DEADLINE_S


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--url", NOWHERE, "ping"], UNREACHABLE, ["127.0.0.1:1", "wherry serve"]),
        (["ping", "--url", NOWHERE], UNREACHABLE, ["127.0.0.1:1", "wherry serve"]),
        (["--url", "wherry://nowhere.invalid", "ping"], UNREACHABLE, ["nowhere.invalid"]),
        (["--url", "http://127.0.0.1", "ping"], USAGE, ["wherry://"]),
        (["--url", "wherry://secret@127.0.0.1", "ping"], USAGE, ["WHERRY_TOKEN"]),
        (["ping", "--url", "wherry://secret@127.0.0.1"], USAGE, ["WHERRY_TOKEN"]),
        (["--token-file", "/nowhere/token", "ping"], USAGE, ["/nowhere/token", "No such file"]),
        (["queue", "info", "nowhere"], REFUSED, ["'nowhere'"]),
        (["queue", "delete", "nowhere"], REFUSED, ["'nowhere'"]),
        (["queue", "declare", "q", "--max-messages", "0"], REFUSED, ["max_messages", "0"]),
        (["queue", "declare", "q", "--durability", "synced"], REFUSED, ["'synced'", "'memory'"]),
        (["queue", "declare", "q", "--overflow", "burst"], USAGE, ["'burst'"]),
        (["queue", "burst"], USAGE, ["'burst'", "wherry queue --help"]),
        (["burst"], USAGE, ["'burst'", "wherry --help"]),
        (["ping", "--burst"], USAGE, ["'--burst'", "wherry ping --help"]),
        (["publish"], USAGE, ["QUEUE"]),
        (["publish", "no name", "x"], USAGE, ["'no name'"]),
        (["publish", "q", "x", "--delay", "soon"], USAGE, ["'soon'", "duration"]),
        (["publish", "q", "x", "--ttl", "0"], USAGE, ["--ttl"]),
        (["publish", "q", "x", "--priority", "10"], USAGE, ["--priority", "10"]),
        (["publish", "q", "x", "--header", "kind"], USAGE, ["'kind'", "NAME=VALUE"]),
        (["publish", "q", "x", "--lines"], USAGE, ["--lines"]),
        (["publish", "q", "x", "y", "--dedupe", "once"], USAGE, ["--dedupe"]),
        (["publish", "q", "--file", "/nowhere/body"], USAGE, ["/nowhere/body", "No such file"]),
        (["consume", "q", "--count", "0"], USAGE, ["--count", "0"]),
        (["consume", "waiting", "--count", "1", "--wait", "0.01"], TIMED_OUT, ["1 of 1"]),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(served, arguments, code, words):
    done = served.run(*arguments)
    assert done.returncode == code
    said = one_line(done)
    assert [word for word in words if word not in said] == []
    assert "secret" not in said


def test_what_does_not_answer_has_timed_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        given = Globals(f"wherry://127.0.0.1:{silent.getsockname()[1]}", token_file="", json=False)
        with pytest.raises(Failure, match=r"no broker answered at .* within 0\.1 s") as failed:
            remote.run(given, wherry.Broker.ping, timeout_s=0.1)
    assert failed.value.code == TIMED_OUT


def test_what_is_no_broker_is_called_so(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        command_line = CommandLine(tmp_path, WHERRY_URL=f"wherry://127.0.0.1:{server.getsockname()[1]}")
        process = command_line.start("ping", stdin=subprocess.DEVNULL)
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (UNREACHABLE, b"")
    assert b"no wherry broker" in err


def test_a_full_disk_is_one_line(served):
    served.out("publish", "disk", "a", "b")
    for arguments in (["queue", "list"], ["consume", "disk", "--count", "2"]):
        with Path("/dev/full").open("wb") as full:
            done = served.run(*arguments, stdout=full)
        assert done.returncode == IO_FAILED
        assert "No space left" in one_line(done)
    assert counts(served, "disk") == [2, 0, 0, 0]


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("wherry ping <&- >&- 2>&-", IO_FAILED, ""),
        ("wherry ping >&-", IO_FAILED, "output failed: Bad file descriptor"),
        ("wherry publish closed <&-", USAGE, "standard input cannot be read: Bad file descriptor"),
        ("wherry publish closed --lines <&-", IO_FAILED, "standard input cannot be read: Bad file descriptor"),
        ("wherry publish closed x >&-", DONE, ""),
        ("wherry publish closed x 2>&-", DONE, ""),
        ("wherry consume closed --count 1 >&-", IO_FAILED, "standard output cannot be written: Bad file descriptor"),
        ("wherry ping | true", DONE, ""),
    ],
)
def test_standard_files_may_be_closed(served, script, code, words):
    """Without them, sockets would get their numbers; and nothing is published, nor lost, that was not there."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"], check=False, env=served.environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == bool(words)


# publish.


def test_every_argument_is_a_message(served):
    assert served.out("publish", "arguments", "one", "", "zwei ½", "-v") == "".join(
        f"arguments/{n}\n" for n in (1, 2, 3)
    )
    assert served.out("consume", "arguments", "--wait", "0") == "one\n\nzwei ½\n"


def test_without_arguments_standard_input_is_one_message(served):
    assert served.out("publish", "whole", stdin=b"two\nlines\n") == ""
    assert served.out("consume", "whole", "--wait", "0", "--null") == "two\nlines\n\0"


def test_lines(served):
    assert served.out("publish", "lines", "--lines", "-v", stdin=b"a\n\nb\r\nlast") == "".join(
        f"lines/{n}\n" for n in (1, 2, 3, 4)
    )
    assert served.out("consume", "lines", "--wait", "0") == "a\n\nb\r\nlast\n"


def test_null_separated(served):
    served.out("publish", "null", "--null", stdin=b"two\nlines\0\0last")
    assert served.out("consume", "null", "--wait", "0", "--null") == "two\nlines\0\0last\0"


def test_a_file_is_one_message(served, tmp_path):
    body = bytes(range(256)) * 1000
    (tmp_path / "body").write_bytes(body)
    served.out("publish", "file", "--file", str(tmp_path / "body"))
    served.out("publish", "file", "--file", "-", stdin=body)
    with served.start("consume", "file", "--count", "2", "--null") as process:
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert out == 2 * (body + b"\0")


def test_the_options_of_a_message(served):
    given = ["--priority", "3", "--key", "user-17", "--header", "kind=mail", "--header", "empty=", "--ttl", "1h"]
    receipt = json.loads(served.out("--json", "publish", "options", "first", *given))
    assert receipt == {"id": "options/1", "queue": "options", "offset": 1, "durability": "memory", "duplicate": False}
    served.out("publish", "options", "before", "--priority", "9")
    first, second = map(json.loads, served.out("consume", "options", "--count", "2", "--json").splitlines())
    assert (first["id"], first["body"], first["priority"]) == ("options/2", "before", 9)
    assert first["headers"] == {}
    del second["published_at"]
    assert second == {
        "id": "options/1",
        "body": "first",
        "headers": {"kind": "mail", "empty": ""},
        "attempt": 1,
        "priority": 3,
        "key": "user-17",
    }


def test_a_delay_and_a_time_to_live(served):
    served.out("publish", "times", "later", "--delay", "1h")
    served.out("publish", "times", "soon", "--delay", "1ms")
    served.out("publish", "times", "gone", "--ttl", "1ms")
    assert served.out("consume", "times", "--count", "1") == "soon\n"
    assert counts(served, "times") == [0, 1, 0, 0]
    assert "removed.expired\t1\n" in served.out("queue", "info", "times")


def test_a_dedupe_key_is_stored_once(served):
    ids = [served.out("publish", "once", "x", "--dedupe", "order-9", "-v") for _ in range(2)]
    assert ids == ["once/1\n", "once/1\n"]
    assert json.loads(served.out("publish", "once", "x", "--dedupe", "order-9", "--json"))["duplicate"] is True
    assert counts(served, "once") == [1, 0, 0, 0]


def test_a_full_queue_refuses_and_says_how_much_it_holds(served):
    served.out("queue", "declare", "full", "--max-messages", "10")
    done = served.run("publish", "full", "--lines", "--timeout", "0", stdin=b"x\n" * 16)
    assert done.returncode == REFUSED
    said = one_line(done)
    assert "it holds 8 messages, 8 more came, and max_messages is 10" in said
    assert "8 messages published before" in said


def test_a_stream_waits_for_room_in_a_full_queue(served):
    served.out("queue", "declare", "narrow", "--max-messages", "10")
    script = "seq 1 18 | wherry publish narrow --lines & wherry consume narrow --count 18 | sort -n; wait"
    assert served.sh(script).split() == [str(n) for n in range(1, 19)]


def test_an_interrupted_stream_says_how_much_is_published(served):
    with served.start("publish", "cut", "--lines", "-v") as process:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"cut/1\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 128 + signal.SIGINT
        assert process.stderr.read() == b"wherry: interrupted (1 message published before)\n"


# consume.


def test_it_takes_no_more_than_it_was_told(served):
    served.out("publish", "count", *"abcde")
    assert served.out("consume", "count", "--count", "2") == "a\nb\n"
    assert counts(served, "count") == [3, 0, 0, 0]


def test_it_stops_when_nothing_comes(served):
    served.out("publish", "wait", *"abc")
    assert served.out("consume", "wait", "--wait", "0.01") == "a\nb\nc\n"
    done = served.run("consume", "wait", "--wait", "0", "--count", "5")
    assert (done.returncode, one_line(done)) == (TIMED_OUT, "wherry: 5 of 5 messages did not come in time\n")


def test_without_an_end_it_follows_until_it_is_told_to_stop(served):
    with served.start("consume", "follow") as process:
        for body in ("first", "second"):
            served.out("publish", "follow", body)
            assert process.stdout.readline().decode() == f"{body}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == DONE
        assert process.stderr.read() == b""
    assert counts(served, "follow") == [0, 0, 0, 0]


def test_looking_without_acknowledging(served):
    served.out("publish", "look", *"abc")
    for _ in range(2):
        assert served.out("consume", "look", "--no-ack", "--wait", "0") == "a\nb\nc\n"
    assert served.out("consume", "look", "--no-ack", "--count", "2") == "a\nb\n"
    assert served.out("consume", "look", "--wait", "0", "--json").count('"attempt":1,') == 3


def test_a_body_that_is_no_text_is_base64_in_json(served):
    served.out("publish", "bytes", stdin=b"\xff\x00")
    assert json.loads(served.out("consume", "bytes", "--count", "1", "--json"))["body_base64"] == "/wA="


@pytest.mark.parametrize("lines", [1, 2, 300])
def test_what_head_does_not_take_stays_in_the_queue(served, lines):
    queue, total = f"head-{lines}", 1000
    served.sh(f"seq 1 {total} | wherry publish {queue} --lines")
    assert served.sh(f"wherry consume {queue} | head -n {lines} | tail -n 1") == f"{lines}\n"
    assert counts(served, queue) == [total - lines, 0, 0, 0]
    assert json.loads(served.out("consume", queue, "--count", "1", "--json"))["attempt"] == 1


def test_a_large_message_that_was_taken_in_part_stays_in_the_queue(served):
    served.out("publish", "large", stdin=b"x" * 1_000_000)
    assert served.sh("wherry consume large | head -c 5000 | wc -c").strip() == "5000"
    assert counts(served, "large") == [1, 0, 0, 0]


def test_a_message_in_the_pipe_of_a_dead_reader_stays_in_the_queue(served):
    served.out("publish", "pipe", "a", "b")
    with served.start("consume", "pipe") as process:
        assert os.read(process.stdout.fileno(), 2) == b"a\n"
        process.stdout.close()
        assert process.wait(DEADLINE_S) == DONE
    assert counts(served, "pipe") == [1, 0, 0, 0]


def test_a_reader_that_waits_for_the_end_gets_all(served):
    served.sh("seq 1 3000 | wherry publish patient --lines")
    with served.start("consume", "patient", "--count", "3000") as process:
        assert process.wait(DEADLINE_S) == DONE
        assert process.stdout.read().split() == [str(n).encode() for n in range(1, 3001)]
    assert counts(served, "patient") == [0, 0, 0, 0]


def test_a_pipe_that_others_write_to_as_well(served):
    served.out("publish", "shared", *"abc")
    script = "( head -c 9000 /dev/zero; wherry consume shared --wait 0; echo end ) | tr -d '\\0'"
    assert served.sh(script) == "a\nb\nc\nend\n"


def test_what_waits_for_a_slow_reader_is_nobody_elses(served):
    served.out("queue", "declare", "slow", "--lease", "10ms")
    served.sh("head -c 200000 /dev/zero | tr '\\0' x | wherry publish slow && wherry publish slow behind")
    with served.start("consume", "slow") as process:
        until_held(process)
        # Another one gets nothing in the time of several leases of this queue.
        assert served.run("consume", "slow", "--count", "1", "--wait", "0.1").returncode == TIMED_OUT
        rest = b"".join(process.stdout.readline() for _ in range(2))
        assert rest == b"x" * 199_999 + b"\nbehind\n"
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)
    assert counts(served, "slow") == [0, 0, 0, 0]


def test_few_credits_leave_the_rest_to_others(served):
    served.out("publish", "credit", *"abcd")
    with served.start("consume", "credit", "--credit", "1") as process:
        assert os.read(process.stdout.fileno(), 2) == b"a\n"
        assert set(served.out("consume", "credit", "--count", "2").split()) < set("bcd")
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)


def test_what_is_held_goes_back_when_it_is_told_to_stop(served):
    served.sh("head -c 200000 /dev/zero | tr '\\0' x | wherry publish held")
    with served.start("consume", "held") as process:
        until_held(process)
        assert counts(served, "held") == [0, 0, 1, 0]
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == DONE
    assert counts(served, "held") == [1, 0, 0, 0]


def test_a_broker_that_dies_is_told_in_one_line(tmp_path):
    served = Served(tmp_path)
    with contextlib.closing(served.process.stdout), served.start("consume", "q") as consumer:
        served.out("publish", "q", "x")
        assert consumer.stdout.readline() == b"x\n"
        served.process.kill()
        served.process.wait(DEADLINE_S)
        assert consumer.wait(DEADLINE_S) == UNREACHABLE
        said = consumer.stderr.read().decode()
    assert said.startswith("wherry: the connection to the broker is gone")
    assert said.count("\n") == 1


# queue.


def test_publishing_into_a_queue_that_stays_full_ends_with_the_first_signal(served):
    served.out("queue", "declare", "stuffed", "--max-messages", "1")
    with served.start("publish", "stuffed", "--lines") as process:
        process.stdin.write(b"1\n")
        process.stdin.flush()
        while counts(served, "stuffed")[0] < 1:
            assert process.poll() is None
        process.stdin.write(b"2\n")
        process.stdin.close()
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
    assert said.decode() == "wherry: interrupted (1 message published before)\n"


def test_one_message_is_shown_and_cancelled(served):
    served.out("publish", "shown", "hello", "there", "--header", "kind=welcome")
    told = dict(line.split("\t") for line in served.out("get", "shown/1").splitlines())
    assert (told["state"], told["body"], told["headers"]) == ("ready", "hello", '{"kind": "welcome"}')
    assert json.loads(served.out("get", "shown/2", "--json"))["body"] == "there"
    assert served.out("cancel", "shown/1") == "shown/1 cancelled\n"
    assert "shown/1" in one_line(served.run("get", "shown/1"))
    done = served.run("cancel", "shown/1", "shown/2")
    assert (done.returncode, done.stdout) == (REFUSED, "shown/1 is not there\nshown/2 cancelled\n")
    assert "emails/42" in one_line(served.run("cancel", "shown"))
    assert counts(served, "shown") == [0, 0, 0, 0]


async def reject_all(url: str, queue: str) -> None:
    async with wherry.connect(url) as broker:
        for message in await broker.queue(queue).get(10):
            await message.reject("no good")


def test_the_dead(served):
    served.out("publish", "mortal", "one", "two", "--key", "k")
    asyncio.run(reject_all(served.url, "mortal"))
    rows = [line.split("\t") for line in served.out("dead", "list", "mortal").splitlines()]
    assert [(row[0], *row[3:]) for row in rows] == [
        ("mortal/1", "rejected", "no good", "one"),
        ("mortal/2", "rejected", "no good", "two"),
    ]
    shown = dict(line.split("\t") for line in served.out("dead", "show", "mortal/1").splitlines())
    assert [shown[name] for name in ("reason", "error", "attempt")] == ["rejected", "no good", "1"]
    assert shown["published_at"] <= shown["failed_at"]
    assert "ended.rejected\t2\n" in served.out("queue", "info", "mortal")
    assert served.out("dead", "list", "mortal", "--older-than", "1h") == ""
    told = served.out("dead", "redrive", "mortal", "--reason", "rejected", "--key", "k", "--dry-run")
    assert told == "2 messages would be redriven from mortal to mortal\n"
    served.out("queue", "declare", "again")
    moved = json.loads(served.out("dead", "redrive", "mortal", "--to", "again", "--rate", "1000", "--json"))
    assert (moved["redriven"], counts(served, "again")) == (2, [2, 0, 0, 0])
    assert "is ready, not dead" in one_line(served.run("dead", "show", "again/1"))
    assert served.out("dead", "purge", "mortal", "--header", "kind=x") == "0 dead messages purged from mortal\n"


def test_options_of_a_queue_are_altered(served):
    served.out("queue", "declare", "altered", "--ordered")
    assert (
        served.out("queue", "alter", "altered", "--rate-per-s", "2.5", "--key-weight", "gold=4") == "altered altered\n"
    )
    told = dict(line.split("\t") for line in served.out("queue", "info", "altered").splitlines())
    assert (told["options.rate_per_s"], told["options.key_weights"], told["options.ordered"]) == (
        "2.5",
        "gold=4",
        "true",
    )
    assert "at least one" in one_line(served.run("queue", "alter", "altered"))


def test_declaring_and_looking_at_a_queue(served):
    options = {
        "max-messages": "1000",
        "max-bytes": "1MiB",
        "overflow": "drop_oldest",
        "lease": "1m",
        "max-attempts": "3",
        "retry-base": "250ms",
        "retry-factor": "1.5",
        "retry-cap": "10",
        "ttl": "1d",
        "priorities": "2",
        "durability": "memory",
        "dedupe-window": "5m",
        "dead-max-messages": "7",
        "max-leased": "5",
        "rate-per-s": "2.5",
        "key-max-leased": "2",
        "key-rate-per-s": "0.5",
        "key-weight": "gold=4",
        "result-ttl": "2d",
        "bind": "orders.>",
    }
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert served.out("queue", "declare", "declared", *flags, "--ordered", "--paused") == "declared declared\n"
    told = dict(line.split("\t") for line in served.out("queue", "info", "declared").splitlines())
    assert {name: value for name, value in told.items() if name.startswith("options.")} == {
        "options.max_messages": "1000",
        "options.max_bytes": "1048576",
        "options.overflow": "drop_oldest",
        "options.lease_ms": "60000",
        "options.max_attempts": "3",
        "options.retry_base_ms": "250",
        "options.retry_factor": "1.5",
        "options.retry_cap_ms": "10000",
        "options.ttl_ms": "86400000",
        "options.priorities": "2",
        "options.durability": "memory",
        "options.dedupe_window_ms": "300000",
        "options.dead_max_messages": "7",
        "options.max_leased": "5",
        "options.rate_per_s": "2.5",
        "options.ordered": "true",
        "options.key_max_leased": "2",
        "options.key_rate_per_s": "0.5",
        "options.key_weights": "gold=4",
        "options.result_ttl_ms": "172800000",
        "options.paused": "true",
        "options.bind": "orders.>",
        "options.kind": "queue",
    }
    info = json.loads(served.out("queue", "info", "declared", "--json"))
    assert (info["name"], info["ready"], info["options"]["max_messages"]) == ("declared", 0, 1000)
    served.out("queue", "declare", "declared", "--lease", "60")
    other = served.run("queue", "declare", "declared", "--lease", "61")
    assert other.returncode == REFUSED
    assert "60000" in one_line(other)


def test_a_topic_is_published_to(served):
    served.out("queue", "declare", "topic.all", "--bind", "cli.>")
    served.out("queue", "declare", "topic.eu", "--bind", "cli.eu.*", "--bind", "cli.*.eu")
    assert served.out("publish", "--topic", "cli.eu.eu", "-v", "hello") == "cli.eu.eu in 2 queues\n"
    assert served.out("publish", "--topic", "cli.us", "--lines", "-v", stdin=b"a\nb\n") == "cli.us in 1 queue\n" * 2
    assert (counts(served, "topic.all"), counts(served, "topic.eu")) == ([3, 0, 0, 0], [1, 0, 0, 0])
    told = json.loads(served.out("publish", "--topic", "cli.us", "--json", "x"))
    assert told == {"subject": "cli.us", "queues": 1, "durability": "memory", "duplicate": False}
    nobody = served.run("publish", "--topic", "nobody", "x")
    assert (nobody.returncode, "no queue is bound to 'nobody'" in one_line(nobody)) == (REFUSED, True)
    assert served.out("publish", "--topic", "nobody", "--allow-unroutable", "-v", "x") == "nobody in 0 queues\n"
    for wrong in (["--topic", "a.*", "x"], ["--allow-unroutable", "a", "x"], ["a/b", "x"]):
        assert served.run("publish", *wrong).returncode == USAGE
    served.out("queue", "alter", "topic.eu", "--no-bind")
    assert "options.bind\t\n" in served.out("queue", "info", "topic.eu")
    assert served.run("queue", "alter", "topic.eu", "--no-bind", "--bind", "a").returncode == USAGE


def test_listing_queues(served):
    served.out("publish", "list.b", "xyz", "--delay", "1h")
    served.out("publish", "list.a", "xy", "z")
    assert served.out("queue", "list", "list.") == "list.a\t2\t0\t0\t0\t5\t0\nlist.b\t0\t1\t0\t0\t4\t0\n"
    rows = json.loads(served.out("queue", "list", "list.a", "--json"))
    assert [(row["name"], row["ready"], row["bytes"]) for row in rows] == [("list.a", 2, 5)]
    assert served.out("queue", "list", "no-such-prefix") == ""


def test_peeking_takes_nothing(served):
    served.out("publish", "peek", "plain", "--key", "k", "--header", "kind=mail", "--priority", "2")
    served.out("publish", "peek", "two\nlines\x1b[31m", "third")
    rows = [line.split("\t") for line in served.out("queue", "peek", "peek").splitlines()]
    assert [[row[0], *row[2:]] for row in rows] == [
        ["peek/1", "0", "2", "k", '{"kind": "mail"}', "plain"],
        ["peek/2", "0", "0", "", "", r"two\nlines\x1b[31m"],
        ["peek/3", "0", "0", "", "", "third"],
    ]
    found = json.loads(served.out("queue", "peek", "peek", "--first", "2", "--limit", "1", "--json"))
    assert [message["body"] for message in found] == ["two\nlines\x1b[31m"]
    assert served.out("queue", "peek", "peek", "--state", "dead") == ""
    assert counts(served, "peek") == [3, 0, 0, 0]


def test_pausing_and_resuming(served):
    served.out("publish", "pause", "x")
    assert served.out("queue", "pause", "pause") == "pause paused\n"
    assert served.out("consume", "pause", "--wait", "0") == ""
    assert json.loads(served.out("queue", "resume", "pause", "--json")) == {"queue": "pause", "paused": False}
    assert served.out("consume", "pause", "--wait", "0") == "x\n"


def test_purging_and_deleting(served):
    served.out("publish", "gone", *"abc")
    served.out("publish", "gone", "later", "--delay", "1h")
    assert served.out("queue", "purge", "gone", "--state", "delayed") == "1 message purged from gone\n"
    assert json.loads(served.out("queue", "purge", "gone", "--json")) == {"queue": "gone", "purged": 3}
    served.out("publish", "gone", "d")
    assert served.out("queue", "delete", "gone") == "gone deleted, with 1 message\n"
    assert served.out("queue", "list", "gone") == ""


# Stores.


def test_values_of_a_store(served):
    first = int(served.out("store", "put", "values", "k", "first"))
    second = int(served.out("store", "put", "values", "k", "--ttl", "1h", stdin=b"second\n"))
    assert second > first
    assert served.out("store", "get", "values", "k") == "second\n"
    told = json.loads(served.out("store", "get", "values", "k", "--json"))
    assert (told["value"], told["version"], told["expires_at"] != "") == ("second\n", second, True)
    refused = served.run("store", "put", "values", "k", "third", "--if-version", str(first))
    assert refused.returncode == REFUSED
    assert f"has the version {second}, not {first}" in one_line(refused)
    assert served.out("store", "increment", "values", "n") == "1\n"
    assert served.out("store", "increment", "values", "n", "--", "-5") == "-4\n"
    assert served.out("store", "watch", "values", "n", "--after", str(second)) == "-4"
    late = served.run("store", "watch", "values", "n", "--after", str(second + 99), "--wait", "0.05")
    assert late.returncode == TIMED_OUT
    assert served.out("store", "delete", "values", "k", "n", "nothing") == "2\n"
    gone = served.run("store", "get", "values", "k")
    assert gone.returncode == REFUSED
    assert "has no value" in one_line(gone)


# Tracked messages.


def test_how_a_message_stands_and_what_came_of_it(served):
    name = served.out("publish", "jobs", "hello", "--track", "-v").strip()
    assert served.out("why", name) == "no consumer is attached\n"
    assert "state\tready\n" in served.out("status", name)
    late = served.run("result", name)
    assert late.returncode == TIMED_OUT
    assert "has not ended: no consumer is attached" in one_line(late)
    assert served.out("consume", "jobs", "--count", "1") == "hello\n"
    assert served.out("result", name, "--wait", "5") == ""
    told = json.loads(served.out("status", name, "--json"))
    assert (told["state"], told["result"]) == ("settled", "")
    assert [event["what"] for event in told["history"]] == ["published", "leased", "settled"]
    assert served.out("why", name).startswith("it is settled since ")
    gone = served.out("publish", "jobs", "x", "--track", "-v").strip()
    served.out("cancel", gone)
    refused = served.run("result", gone)
    assert refused.returncode == REFUSED
    assert "it is cancelled since" in one_line(refused)
    assert served.run("status", "jobs/99").returncode == REFUSED
