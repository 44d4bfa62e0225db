"""Space that a log takes before it needs it: what may be written when another program has filled the disk."""

from __future__ import annotations

import errno
import os

import pytest

from log_files import EMAILS, MemoryFile, MemoryStore, preamble, published
from wherry_broker.core.ledger import Commit
from wherry_broker.core.records import Removed
from wherry_broker.log import store as stores
from wherry_broker.log.file import FAR_BYTES, FileLog
from wherry_broker.log.journal import Journal, segment_name
from wherry_broker.log.store import DiskStore
from wherry_broker.log.writer import Writer

RESERVE = 100_000


class SmallFile(MemoryFile):
    """A file on a small disk; what it owns is taken, though it is not written."""

    def __init__(self, data, disk) -> None:
        super().__init__(data)
        self._disk = disk
        self.owned = 0

    def own(self, size: int) -> int:
        more = min(max(0, size - self.owned), self._disk.free)
        self._disk.free -= more
        self.owned += more
        return self.owned

    def append(self, pieces) -> None:
        size = sum(map(len, pieces))
        if size > self.owned + self._disk.free:
            raise OSError(errno.ENOSPC, "no space left on device")
        from_owned = min(size, self.owned)
        self.owned -= from_owned
        self._disk.free -= size - from_owned
        super().append(pieces)

    def close(self) -> None:
        self._disk.free += self.owned
        self.owned = 0


class SmallStore(MemoryStore):
    """A disk of so many bytes, which another program may fill."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.free = self.total = size
        self.no_more_files = 0

    def create(self, name: str) -> SmallFile:
        if self.no_more_files:
            raise OSError(self.no_more_files, os.strerror(self.no_more_files), name)
        super().create(name)
        return SmallFile(self.files[name], self)

    def remove(self, name: str) -> None:
        self.free += len(self.files[name])
        super().remove(name)

    def free_bytes(self) -> tuple[int, int]:
        return self.free, self.total


def journal_on(store) -> Journal:
    journal = Journal(store, 1, 1, 1, reserve_bytes=RESERVE)
    journal.roll(preamble())
    journal.take_space(0, for_next=False)
    return journal


def settle(offset: int) -> Removed:
    return Removed(1, "settled", ((offset, offset + 1),), 1)


def test_the_segment_and_the_next_one_own_their_space():
    store = SmallStore(1 << 20)
    journal = journal_on(store)
    assert journal.owned_bytes == RESERVE + journal.ahead_bytes
    assert len(store.files[segment_name(2) + ".tmp"]) == 0
    assert store.free == (1 << 20) - 3 * RESERVE - journal.size


def test_settles_fit_when_another_program_has_the_rest():
    store = SmallStore(1 << 20)
    journal = journal_on(store)
    journal.append([EMAILS, published(1, *[b"x"] * 1000)])
    assert journal.take_space(128 * 1000, for_next=False)
    store.free = 0
    for offset in range(1, 1001):
        journal.append([settle(offset)])
    with pytest.raises(OSError, match="no space left"):
        journal.append([published(1001, bytes(4 * RESERVE))])


def test_a_new_segment_needs_nothing_of_a_full_disk():
    store = SmallStore(1 << 20)
    journal = journal_on(store)
    store.free = 0
    assert journal.can_roll
    journal.roll(preamble())
    journal.append([EMAILS])
    assert store.free > 0, "the old segment gives back what it owned"
    assert journal.take_space(0, for_next=False)
    assert journal.owned_bytes + len(store.files[segment_name(2)]) >= RESERVE


def test_no_segment_begins_that_could_not_take_the_settles():
    store = SmallStore(1 << 20)
    journal = journal_on(store)
    owed = 2 * RESERVE
    assert journal.take_space(owed, for_next=True)
    assert journal.can_roll, "the next segment took as much as is owed"
    store.free = 0
    journal.take_space(owed + 50_000, for_next=True)
    assert not journal.can_roll
    store.free = 200_000
    journal.take_space(owed + 50_000, for_next=True)
    assert journal.can_roll


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE, errno.EDQUOT])
def test_a_segment_grows_on_when_there_can_be_no_next_one(error):
    store = SmallStore(1 << 20)
    journal = journal_on(store)
    journal.roll(preamble())
    store.no_more_files = error
    assert journal.take_space(0, for_next=True)
    assert not journal.can_roll
    journal.append([EMAILS])
    store.no_more_files = 0
    journal.take_space(0, for_next=True)
    assert journal.can_roll


def test_a_broken_disk_is_no_shortage():
    store = SmallStore(1 << 20)
    journal = journal_on(store)
    journal.roll(preamble())
    store.no_more_files = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        journal.take_space(0, for_next=True)


def test_the_end_gives_everything_back():
    store = SmallStore(1 << 20)
    journal = journal_on(store)
    journal.close()
    assert list(store.files) == [segment_name(1)]
    assert store.free == store.total - len(store.files[segment_name(1)])


def test_a_full_disk_is_asked_again():
    store = SmallStore(1 << 20)
    writer = Writer(journal_on(store), {}, 0.1)
    store.free, free = 0, store.free
    for _ in writer.steps(Commit(1, [EMAILS], owed_bytes=300_000), lambda _: None, 0.0):
        pass
    assert writer.is_short
    store.free = free
    writer.take_space()
    assert not writer.is_short


class IdleLog(FileLog):
    """A log whose commits the test makes."""

    def _start_threads(self) -> None:
        """Nobody works."""

    def write(self, *records, owed_bytes=0):
        for _ in self._writer.steps(Commit(1, records, owed_bytes=owed_bytes), lambda _: None, 0.0):
            pass


def log_on(store) -> IdleLog:
    log = IdleLog(store, lambda call: call(), lambda error: None)
    assert list(log.replay(lambda: True)) == []
    log.start(preamble())
    return log


def test_room_is_what_is_owned_and_a_part_of_what_is_free():
    store = SmallStore(16 * RESERVE)
    log = log_on(store)
    assert log.reserve_bytes == RESERVE
    assert log.room_bytes() == 2 * RESERVE, "ahead, and a bet of as much as the reserve"
    store.free = 0
    assert log.room_bytes() == RESERVE
    log.write(published(1, bytes(150_000)))
    assert log.room_bytes() < 0
    store.free = 10 * RESERVE
    log.write(EMAILS)
    assert log.room_bytes() == 2 * RESERVE


def test_far_from_full_all_that_is_free_counts():
    store = SmallStore(1 << 34)
    log = log_on(store)
    assert log.room_bytes() > 0.9 * store.free
    store.free = FAR_BYTES - 1
    assert log.room_bytes() < FAR_BYTES


def test_a_small_disk_has_short_segments():
    log = log_on(SmallStore(16 * RESERVE))
    assert not log.is_segment_long
    log.write(published(1, bytes(RESERVE)))
    assert log.is_segment_long
    log.write(EMAILS, owed_bytes=10 * RESERVE)
    assert not log.is_segment_long, "there is no space for the next one"


def test_a_disk_that_does_not_answer_ends_the_broker():
    store, failures = SmallStore(16 * RESERVE), []
    log = IdleLog(store, lambda call: call(), failures.append)
    assert list(log.replay(lambda: True)) == []
    log.start(preamble())

    def broken():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store.free_bytes = broken
    log.room_bytes()
    assert [each.errno for each in failures] == [errno.EIO]


# The real thing.


def test_owned_space_is_beyond_the_end(tmp_path):
    store = DiskStore(tmp_path)
    file = store.create("a")
    if file.own(1 << 20) and not (tmp_path / "a").stat().st_blocks:
        pytest.skip("NOT TESTED: this file system cannot allocate beyond a file's end")
    file.append([b"x" * 1000])
    status = (tmp_path / "a").stat()
    assert status.st_size == 1000
    assert status.st_blocks * 512 >= 1 << 20
    file.close()
    assert (tmp_path / "a").stat().st_blocks * 512 < 1 << 16


def test_a_process_that_was_killed_leaves_its_space_to_the_next_one(tmp_path):
    first = DiskStore(tmp_path).create("a")
    first.own(1 << 20)
    blocks = (tmp_path / "a").stat().st_blocks
    second = DiskStore(tmp_path).create("a")
    assert (tmp_path / "a").stat().st_blocks == blocks
    assert second.own(1 << 20) == 1 << 20
    for file in (second, first):
        file.close()


def test_a_file_system_that_allocates_nothing_is_measured_instead(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "allocate", lambda *_: False)
    file = DiskStore(tmp_path).create("a")
    assert file.own(1000) == 1000
    assert file.own(1 << 60) == pytest.approx(DiskStore(tmp_path).free_bytes()[0], rel=0.1)
    file.append([b"x"])
    assert (tmp_path / "a").stat().st_size == 1
    file.close()
