"""`wherry top`, in a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import termios
import time
from fcntl import ioctl

import pytest

import wherry.sync
from serving import DEADLINE_S, Served

USAGE, UNREACHABLE = 2, 3


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("broker")) as broker:
        broker.out("publish", "mail", "x", "y")
        with wherry.sync.connect(broker.url, name="reader") as reader:
            assert len(reader.queue("pages").get(1)) == 0
            with reader.queue("mail").consume(credit=1) as consumer:
                assert next(iter(consumer)).body == b"x"
                yield broker


def test_in_a_pipe_it_looks_once(served):
    lines = [line.split() for line in served.out("top").splitlines()]
    assert lines[0][:4] == ["wherry", "at", f"127.0.0.1:{served.port}", "2"]
    assert [line[:5] for line in lines if line[:1] == ["mail"]] == [["mail", "1", "0", "1", "0"]]
    assert lines[-1] == ["reader", "1", "0", "mail"]
    assert served.out("top", "pages").splitlines()[3].split()[0] == "pages"


def test_json_is_a_line_each_time(served):
    with served.start("--json", "top", "--every", "0.1") as process:
        views = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
    assert {view["clients"] for view in views} == {2}
    assert json.loads(served.out("top", "--once", "--json"))["consumers"] == views[-1]["consumers"]
    assert views[-1]["consumers"] == [{"name": "reader", "leased": 1, "credit": 0, "queues": ["mail"]}]


def test_what_cannot_be(served):
    done = served.run("top", "--every", "0.01")
    assert (done.returncode, done.stderr) == (USAGE, "wherry: --every is at least 0.1 s, not 0.01\n")
    assert served.run("top", "--url", "wherry://127.0.0.1:1").returncode == UNREACHABLE


class Screen:
    """A terminal with a program on it.

    Args:
        process: starts the program, given what its standard files are.
    """

    def __init__(self, start):
        self._screen, end = pty.openpty()
        ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 80, 0, 0))
        self.modes = termios.tcgetattr(end)
        self.end = end
        self.process = start(stdin=end, stdout=end, stderr=end)
        self.shown = ""

    def wait_for(self, text):
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self.look()

    def look(self):
        if select.select([self._screen], [], [], 0.05)[0]:
            self.shown += os.read(self._screen, 65_536).decode(errors="replace")

    def press(self, keys):
        os.write(self._screen, keys)

    def close(self):
        """Waits for the program, reading what it shows; returns its exit code."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self.look()
        self.look()
        changed = termios.tcgetattr(self.end) != self.modes
        os.close(self.end)
        os.close(self._screen)
        assert not changed, "the terminal is not as it was"
        return self.process.returncode


@pytest.mark.parametrize("end", [lambda screen: screen.press(b"xq"), lambda screen: screen.process.send_signal(2)])
def test_on_a_terminal_it_is_drawn_again_until_the_user_has_enough(served, end):
    screen = Screen(lambda **files: served.start("top", "--every", "0.1", environ={"TERM": "xterm"}, **files))
    screen.wait_for("reader")
    served.out("publish", "arrived", "z")
    screen.wait_for("arrived")
    end(screen)
    assert screen.close() == 0
    assert screen.shown.startswith("\x1b[?1049h")
    assert screen.shown.endswith("\x1b[?1049l")
    served.out("queue", "delete", "arrived")


def test_it_ends_with_the_broker(tmp_path):
    with Served(tmp_path) as broker:
        screen = Screen(lambda **files: broker.start("top", "--every", "0.1", environ={"TERM": "xterm"}, **files))
        screen.wait_for("0 queues")
        broker.stop()
        assert screen.close() == UNREACHABLE
    assert "\x1b[?1049l" in screen.shown
    assert screen.shown.rpartition("\x1b[?1049l")[2].startswith("wherry: ")
