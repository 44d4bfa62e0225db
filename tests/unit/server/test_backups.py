from __future__ import annotations

import pytest

from wherry.model import commands, replies
from wherry_broker.log.memory import MemoryLog
from wherry_broker.server.backups import PIECE_BYTES_MAX, PIECES_MAX, Backups

SEGMENTS = ((5, 3 * PIECE_BYTES_MAX), (6, 100))


class HeldLog:
    """A log that answers when it is told to.

    Attributes:
        pins: how many snapshots hold it.
    """

    segment = 7

    def __init__(self):
        self.pins = 0
        self.waiting = []

    def pin(self, done):
        self.pins += 1
        self.waiting.append(lambda: done(SEGMENTS))

    def unpin(self):
        self.pins -= 1

    def read(self, segment, offset, size, done):
        assert offset + size <= dict(SEGMENTS)[segment]
        self.waiting.append(lambda: done(b"%d" % segment * size))

    def answer(self):
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each()


class Setup:
    def __init__(self, log=None):
        self.log = log or HeldLog()
        self.said = []
        self.backups = Backups(self.log, lambda session, reply: self.said.append((session, reply)))

    def ask(self, session, *requests):
        """What is said once the log has answered."""
        for request in requests:
            self.backups.take(session, request)
        if isinstance(self.log, HeldLog):
            self.log.answer()
        return self.take_said()

    def take_said(self):
        said, self.said = self.said, []
        return said


@pytest.fixture
def setup() -> Setup:
    return Setup()


def refusal(said):
    ((_, error),) = said
    assert isinstance(error, replies.Error)
    return error.request, error.code, error.retryable


def test_a_snapshot_is_taken_and_read(setup):
    assert setup.ask(1, commands.Backup(10)) == [(1, replies.Snapshot(10, 5, 6, 3 * PIECE_BYTES_MAX + 100))]
    assert setup.ask(1, commands.ReadBackup(11, 6, 20, 30)) == [(1, replies.Piece(11, 100, b"6" * 30))]
    assert setup.log.pins == 1


def test_a_piece_ends_with_its_segment_and_is_never_too_long(setup):
    setup.ask(1, commands.Backup(10))
    ((_, short),) = setup.ask(1, commands.ReadBackup(11, 6, 90, 1_000))
    assert (short.size, len(short.block)) == (100, 10)
    ((_, none),) = setup.ask(1, commands.ReadBackup(12, 6, 100, 1_000))
    assert none.block == b""
    ((_, long),) = setup.ask(1, commands.ReadBackup(13, 5, 0, 0xFFFF_FFFF))
    assert len(long.block) == PIECE_BYTES_MAX


def test_without_a_snapshot_nothing_can_be_read(setup):
    assert refusal(setup.ask(1, commands.ReadBackup(11, 5, 0, 10))) == (11, "not_found", False)
    setup.ask(1, commands.Backup(10))
    assert refusal(setup.ask(2, commands.ReadBackup(12, 5, 0, 10))) == (12, "not_found", False)


@pytest.mark.parametrize("segment", [0, 4, 7, 1 << 63])
def test_other_segments_cannot_be_read(setup, segment):
    setup.ask(1, commands.Backup(10))
    assert refusal(setup.ask(1, commands.ReadBackup(11, segment, 0, 10))) == (11, "not_found", False)


def test_what_is_beyond_a_segment_cannot_be_read(setup):
    setup.ask(1, commands.Backup(10))
    assert refusal(setup.ask(1, commands.ReadBackup(11, 6, 101, 10))) == (11, "invalid", False)


def test_one_session_at_a_time_has_a_snapshot(setup):
    setup.ask(1, commands.Backup(10))
    assert refusal(setup.ask(2, commands.Backup(20))) == (20, "unavailable", True)
    setup.backups.end(1)
    assert setup.log.pins == 0
    assert isinstance(setup.ask(2, commands.Backup(21))[0][1], replies.Snapshot)


def test_a_new_snapshot_takes_the_place_of_the_old_one(setup):
    setup.ask(1, commands.Backup(10))
    setup.ask(1, commands.Backup(11))
    assert setup.log.pins == 1


def test_while_a_snapshot_is_being_taken_there_is_no_other(setup):
    setup.backups.take(1, commands.Backup(10))
    setup.backups.take(1, commands.Backup(11))
    assert refusal(setup.take_said()) == (11, "unavailable", True)


def test_a_session_that_goes_before_its_snapshot_is_taken_keeps_nothing(setup):
    setup.backups.take(1, commands.Backup(10))
    setup.backups.end(1)
    setup.backups.take(2, commands.Backup(20))
    setup.log.answer()
    assert [session for session, _ in setup.take_said()] == [2]
    assert setup.log.pins == 1
    setup.backups.end(2)
    assert setup.log.pins == 0


def test_a_session_without_a_snapshot_ends_no_other_s(setup):
    setup.ask(1, commands.Backup(10))
    setup.backups.end(2)
    assert setup.log.pins == 1


def test_only_so_many_pieces_are_under_way(setup):
    setup.ask(1, commands.Backup(10))
    for number in range(PIECES_MAX):
        setup.backups.take(1, commands.ReadBackup(20 + number, 6, 0, 10))
    setup.backups.take(1, commands.ReadBackup(30, 6, 0, 10))
    assert refusal(setup.take_said()) == (30, "unavailable", True)
    setup.log.answer()
    assert len(setup.take_said()) == PIECES_MAX
    assert len(setup.ask(1, commands.ReadBackup(31, 6, 0, 10))) == 1


def test_a_broker_without_a_log_says_so():
    setup = Setup(MemoryLog())
    ((_, error),) = setup.ask(1, commands.Backup(10))
    assert (error.request, error.code) == (10, "invalid")
    assert "--data DIR" in error.text
