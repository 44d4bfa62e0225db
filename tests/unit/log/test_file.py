"""The log in files, its threads taken away, on a disk that keeps no more than it promises."""

from __future__ import annotations

import random

import pytest

from log_files import EMAILS, preamble, published
from simulation.disk import SimulatedDisk
from wherry_broker.core.ledger import Commit
from wherry_broker.core.records import Standing
from wherry_broker.log.file import FileLog
from wherry_broker.log.store import DiskStore


class ThreadlessLog(FileLog):
    """A log whose commits are made at once."""

    def _start_threads(self):
        """None is needed."""

    def write(self, *new, sync):
        for _ in self._writer.steps(Commit(1, new, sync), lambda _: None, 0.0):
            pass


def begin(store, opening=None, **options):
    log = ThreadlessLog(store, lambda call: call(), pytest.fail, **options)
    found = [record for record, _ in log.replay(lambda: True)]
    log.start(opening or preamble())
    return log, found


@pytest.mark.parametrize("failed_sync", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_what_a_start_has_read_is_not_missing_later(seed, failed_sync):
    """A killed broker had not synced its last entries; the next one read them, went on in a new segment, and after a
    power cut there was a hole before that."""
    disk = SimulatedDisk(random.Random(seed))
    log, _ = begin(disk)
    log.write(EMAILS, sync=True)
    log.write(published(1, b"x" * 700), sync=False)
    if failed_sync:
        disk.sync_error = 0
        with pytest.raises(OSError, match="input/output"):
            log.write(published(2, b"y"), sync=True)
    disk.killed()
    _, found = begin(disk)
    disk.cut()
    _, again = begin(disk)
    assert len(again) == len(found) + 1  # and one more preamble


def test_a_long_preamble_does_not_call_for_the_next_segment():
    """It did, and that one for the next, without end, as soon as the standing facts were longer than a segment."""
    standing = tuple(Standing(number, f"queue-{number}", {}, 1, ()) for number in range(1, 50))
    log, _ = begin(SimulatedDisk(random.Random(1)), preamble(*standing), segment_bytes=100)
    assert log.size_bytes > 100
    assert not log.is_segment_long
    assert log.slack_bytes > 2 * log.size_bytes
    while not log.is_segment_long:
        log.write(published(1, b"x" * 50), sync=False)
    assert log.size_bytes < 2 * log.slack_bytes


def test_a_real_file_is_the_same_after_it_was_written_again(tmp_path):
    store = DiskStore(tmp_path)
    file = store.create("a")
    file.append([b"0123456789"])
    file.close()
    for offset in (0, 4, 10):
        store.rewrite("a", offset)
    assert store.read("a") == b"0123456789"


def test_a_new_directory_is_on_the_disk_before_anything_is_written_to_it(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("wherry_broker.log.store._sync_directory", synced.append)
    DiskStore(tmp_path / "a" / "b")
    assert synced[-2:] == [tmp_path, tmp_path / "a"]
    synced.clear()
    DiskStore(tmp_path / "a" / "b")
    assert synced == [tmp_path / "a"], "the one who made it may have been killed before"
    (tmp_path / "a" / "b" / "lock").touch()
    synced.clear()
    DiskStore(tmp_path / "a" / "b")
    assert synced == []
