from __future__ import annotations

import io

import pytest

from wherry_broker.cli import progress


class Screen(io.StringIO):
    """A standard error that is a terminal, or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def screen(monkeypatch, *, terminal: bool) -> Screen:
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(progress.sys, "stderr", screen)
    return screen


def test_it_is_quiet_for_a_second_and_then_tells_five_times_a_second(monkeypatch, clock):
    shown = screen(monkeypatch, terminal=True)
    bar = progress.Progress("published")
    for moment, told in ((100.9, 0), (101.0, 1), (101.1, 1), (101.3, 2), (101.4, 2)):
        clock.now = moment
        bar.add(1000)
        assert shown.getvalue().count("\r") == told, moment
    clock.now = 102.0
    bar.end()
    assert shown.getvalue().endswith("\r\x1b[Kpublished 5,000 messages, 2,500 a second\n")


def test_short_work_is_not_told_of(monkeypatch, clock):
    shown = screen(monkeypatch, terminal=True)
    bar = progress.Progress("published")
    bar.add(1000)
    clock.now += 0.9
    bar.end()
    assert shown.getvalue() == ""


def test_what_is_no_terminal_is_told_nothing(monkeypatch, clock):
    shown = screen(monkeypatch, terminal=False)
    bar = progress.Progress("published")
    clock.now += 10
    bar.add(1000)
    bar.end()
    assert shown.getvalue() == ""
    assert bar.count == 1000


def test_how_something_stands_is_one_line_until_it_is_over(monkeypatch):
    shown = screen(monkeypatch, terminal=True)
    monkeypatch.setenv("COLUMNS", "20")
    line = progress.Standing()
    line.tell("it is\x1b[2J next")
    line.tell("x" * 100)
    assert shown.getvalue() == rb"\r\x1b[K".decode("unicode_escape").join(["", r"it is\x1b[2J next", "x" * 19])
    line.clear()
    assert shown.getvalue().endswith("x\r\x1b[K")


def test_how_something_stands_is_told_on_terminals_only(monkeypatch):
    shown = screen(monkeypatch, terminal=False)
    line = progress.Standing()
    line.tell("it is next")
    line.clear()
    assert (shown.getvalue(), line.is_seen) == ("", False)


def test_what_was_never_told_is_not_cleared(monkeypatch):
    shown = screen(monkeypatch, terminal=True)
    progress.Standing().clear()
    assert shown.getvalue() == ""
