"""The command line on a terminal: tables, a progress line, and nothing of either in a pipe."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import termios
import time
from typing import TYPE_CHECKING

import pytest

from serving import DEADLINE_S, CommandLine, Served

if TYPE_CHECKING:
    import subprocess


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


class Terminal:
    """A terminal that shows what is written to it; programs are given its `end`."""

    def __init__(self) -> None:
        self._screen, self.end = pty.openpty()
        modes = termios.tcgetattr(self.end)
        modes[1] &= ~termios.OPOST  # a newline stays one
        termios.tcsetattr(self.end, termios.TCSANOW, modes)
        self.shown = b""

    def look(self, wait_s: float = 0.0) -> str:
        """All that it has shown so far."""
        while select.select([self._screen], [], [], wait_s)[0]:
            try:
                self.shown += os.read(self._screen, 65_536)
            except OSError:  # nobody has it open any more
                break
            wait_s = 0.0
        return self.shown.decode()

    def close(self) -> None:
        os.close(self.end)
        os.close(self._screen)


@pytest.fixture
def terminal():
    with contextlib.closing(Terminal()) as terminal:
        yield terminal


def on_terminal(command_line: CommandLine, terminal: Terminal, *arguments: str) -> str:
    """What a command that works shows on a terminal."""
    done = command_line.run(*arguments, stdout=terminal.end)
    assert (done.returncode, done.stderr) == (0, "")
    return terminal.look()


def test_a_table_on_a_terminal(served, terminal):
    served.out("publish", "table", "x")
    served.out("publish", "table.of.another", *"xyz")
    assert on_terminal(served, terminal, "queue", "list", "table") == (
        "QUEUE             READY  DELAYED  LEASED  DEAD  BYTES  CONSUMERS\n"
        "table                 1        0       0     0      2          0\n"
        "table.of.another      3        0       0     0      6          0\n"
    )
    assert served.out("queue", "list", "table") == "table\t1\t0\t0\t0\t2\t0\ntable.of.another\t3\t0\t0\t0\t6\t0\n"


def test_a_table_without_rows_has_its_head(served, terminal):
    assert on_terminal(served, terminal, "queue", "list", "nothing").split()[0] == "QUEUE"


def test_a_long_body_is_cut_on_a_terminal_and_steers_it_nowhere(served, terminal):
    served.out("publish", "body", "\x1b[2J" + "x" * 100)
    row = on_terminal(served, terminal, "queue", "peek", "body").splitlines()[1]
    assert row.endswith(r"  \x1b[2J" + "x" * 55 + "…")
    assert served.out("queue", "peek", "body").endswith("\t" + r"\x1b[2J" + "x" * 100 + "\n")


def test_json_is_indented_on_a_terminal_and_one_line_in_a_pipe(served, terminal):
    shown = on_terminal(served, terminal, "ping", "--json")
    assert shown.startswith('{\n  "address": ')
    assert json.loads(shown).keys() == json.loads(served.out("ping", "--json")).keys()
    assert served.out("ping", "--json").count("\n") == 1


def test_settings_on_a_terminal(served, terminal):
    lines = on_terminal(served, terminal, "config").splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "FROM"]
    assert re.fullmatch(r"host +127\.0\.0\.1 +default", lines[1])


def test_publishing_nothing_from_a_terminal_waits_for_nothing(served, terminal):
    done = served.run("publish", "nothing", stdin=terminal.end)
    assert done.returncode == 2
    assert done.stderr.startswith("wherry: nothing to publish: give a BODY, --lines, --null or --file")


def publish_until(process: subprocess.Popen[bytes], terminal: Terminal, words: str, patience_s: float) -> str:
    """Publishes lines until the terminal shows some words, or the time is over; then all that it shows."""
    until = time.monotonic() + patience_s
    while words not in terminal.look(wait_s=0.05) and time.monotonic() < until:
        process.stdin.write(b"x\n")
        process.stdin.flush()
    process.stdin.close()
    assert process.wait(DEADLINE_S) == 0
    return terminal.look()


def test_a_long_work_shows_how_far_it_is(served, terminal):
    with served.start("publish", "long", "--lines", stderr=terminal.end) as process:
        shown = publish_until(process, terminal, " messages, ", DEADLINE_S)
        assert process.stdout.read() == b""
    assert re.search(r"\r\x1b\[Kpublished [0-9,]+ messages, [0-9,]+ a second\n$", shown)


def test_a_short_work_shows_nothing(served, terminal):
    done = served.run("publish", "short", "--lines", stdin=b"x\n", stderr=terminal.end)
    assert (done.returncode, done.stdout, terminal.look()) == (0, "", "")


def test_a_long_work_into_a_pipe_shows_nothing(served, terminal):
    with served.start("publish", "piped", "--lines", stdout=terminal.end) as process:
        assert publish_until(process, terminal, "anything", 1.5) == ""
        assert process.stderr.read() == b""


def test_the_log_is_for_people_on_a_terminal(tmp_path, terminal):
    command_line = CommandLine(tmp_path)
    with command_line.start("serve", "--port", "0", stderr=terminal.end) as process:
        assert process.stdout.readline().startswith(b"wherry ready on ")
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.look())
    assert re.search(r"^\S+Z? \[info +\] broker_started +address=127\.0\.0\.1:", shown, re.MULTILINE), shown
    assert "{" not in shown


@pytest.mark.parametrize("command", [("result",), ("task", "result")])
def test_who_waits_for_a_result_sees_how_it_stands(served, terminal, command):
    job = served.out("publish", "awaited", "--track", "-v", "x").strip()
    with served.start(*command, job, "--wait", str(DEADLINE_S), stderr=terminal.end) as waiting:
        deadline = time.monotonic() + DEADLINE_S
        while f"\r\x1b[K{job}: no consumer is attached" not in terminal.look(0.05):
            assert time.monotonic() < deadline
        served.out("cancel", job)
        assert waiting.wait(DEADLINE_S) == 1
    assert f"\r\x1b[Kwherry: message {job} has no result: it is cancelled" in terminal.look()
