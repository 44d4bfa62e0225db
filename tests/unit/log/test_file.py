"""The log in files, its threads taken away, on a disk that keeps no more than it promises."""

from __future__ import annotations

import queue
import random
import threading
from functools import partial

import pytest
from crc32c import crc32c

from log_files import EMAILS, MemoryStore, preamble, published
from patience import PATIENCE_S
from simulation.disk import SimulatedDisk
from wherry_broker.core.ledger import Commit
from wherry_broker.core.records import Published, Standing
from wherry_broker.log.file import FileLog
from wherry_broker.log.journal import segment_name
from wherry_broker.log.store import DiskStore, LogLocked


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


# With its threads.

CALLER = threading.get_ident()


class Loop:
    """The caller's thread: what is called from others waits until it is looked for."""

    def __init__(self):
        self._calls = queue.SimpleQueue()
        self.callers = set()

    def call(self, function):
        self.callers.add(threading.current_thread().name)
        self._calls.put(function)

    def turn(self):
        """Waits for one call, and makes it."""
        self._calls.get(timeout=PATIENCE_S)()

    def turn_all(self):
        while not self._calls.empty():
            self._calls.get()()


@pytest.fixture(name="loop")
def _loop():
    return Loop()


def threaded(store, loop, failed=pytest.fail, **options):
    log = FileLog(store, loop.call, failed, **options)
    found = [record for record, _ in log.replay(lambda: True)]
    log.start(preamble())
    return log, found


def test_an_answer_comes_by_call_in_the_caller_s_thread(loop):
    log, _ = threaded(MemoryStore(), loop)
    answers = []
    new = published(1, b"one")
    log.commit(Commit(1, [EMAILS, new]), lambda places: answers.append((threading.get_ident(), places)))
    assert answers == []
    loop.turn()
    ((thread, ((block, (segment, _)),)),) = answers
    assert (thread, block, segment) == (CALLER, new.block, 1)
    assert loop.callers == {"wherry-log-writer"}
    log.close()


def test_commits_are_answered_in_order_and_are_all_there_after_a_close(loop):
    store, answers = MemoryStore(), []
    log, _ = threaded(store, loop)
    log.commit(Commit(0, [EMAILS]), lambda _: answers.append(0))
    for mark in range(1, 100):
        done = partial(lambda mark, _: answers.append(mark), mark)
        log.commit(Commit(mark, [published(mark, b"%d" % mark)], sync=mark % 3 == 0), done)
    log.close()
    loop.turn_all()
    assert answers == list(range(100))
    _, found = threaded(store, Loop())
    assert [record.first for record in found if isinstance(record, Published)] == list(range(1, 100))


def test_blocks_are_read_back_by_another_thread(loop):
    log, _ = threaded(MemoryStore(), loop)
    blocks = [published(1, b"one").block, published(2, b"two", b"three").block]
    placed, got = [], []
    log.commit(Commit(1, [EMAILS, *(published(1, b"x")._replace(block=block) for block in blocks)]), placed.extend)
    loop.turn()
    for block, place in placed:
        block.place, block.checksum = place, crc32c(block.data)
    log.fetch(blocks, got.extend)
    loop.turn()
    assert got == [b"one", b"twothree"]
    assert loop.callers == {"wherry-log-writer", "wherry-log-reader"}
    log.close()


def test_a_block_of_a_segment_that_is_forgotten_is_told_as_gone(loop):
    log, _ = threaded(MemoryStore(), loop)
    block, got = published(1, b"one").block, []
    log.commit(Commit(1, [EMAILS, published(1, b"x")._replace(block=block)]), lambda _: None)
    loop.turn()
    block.place, block.checksum = (1, 300), 1
    log.commit(Commit(2, [], preamble=preamble()), lambda _: None)
    log.commit(Commit(3, [], oldest=2), lambda _: None)
    log.commit(Commit(4, []), lambda _: None)  # answered once the one before has forgotten what it can
    for _ in range(3):
        loop.turn()
    log.fetch([block], got.extend)
    loop.turn()
    assert got == [None]
    log.close()


@pytest.mark.parametrize("broken", ["append", "sync"])
def test_a_failure_comes_by_call_and_nothing_is_answered_after_it(loop, broken):
    store, failures, answers = MemoryStore(), [], []
    log, _ = threaded(store, loop, failures.append)
    error = OSError(5, "Input/output error")

    def fail(*_):
        raise error

    setattr(log._journal._file, broken, fail)
    log.commit(Commit(1, [EMAILS]), answers.append)
    log.commit(Commit(2, [EMAILS]), answers.append)
    assert failures == []
    loop.turn()
    assert failures == [error]
    log._threads[0].join(PATIENCE_S)
    assert not log._threads[0].is_alive()
    loop.turn_all()
    assert answers == []
    assert failures == [error]
    log.close()


def test_what_may_wait_is_synced_in_time_without_another_commit(loop):
    log, _ = threaded(MemoryStore(), loop, sync_interval_ms=1)
    synced = threading.Event()
    file = log._journal._file
    real = file.sync

    def sync():
        real()
        synced.set()

    file.sync = sync
    log.commit(Commit(1, [EMAILS], sync=False), lambda _: None)
    loop.turn()
    assert synced.wait(PATIENCE_S)
    log.close()


def test_a_pin_comes_after_all_that_was_committed_before(loop):
    store, pinned, pieces = MemoryStore(), [], []
    log, _ = threaded(store, loop)
    log.commit(Commit(1, [EMAILS], sync=False), lambda _: None)
    log.commit(Commit(2, [published(1, b"x")], sync=False, preamble=preamble()), lambda _: None)
    log.pin(pinned.extend)
    log.commit(Commit(3, [published(2, b"y")], oldest=2), lambda _: None)
    for _ in range(4):
        loop.turn()
    (first, size), (second, opening) = pinned
    assert (first, second) == (1, 2)
    assert size == store.size(segment_name(1))
    assert opening < store.size(segment_name(2))
    log.read(1, 8, 4, pieces.append)
    loop.turn()
    assert pieces == [(1).to_bytes(4, "big")]
    log.unpin()
    log.close()
    assert segment_name(1) not in store.names()


def test_a_second_log_on_the_same_directory_is_refused(tmp_path, loop):
    log, _ = threaded(DiskStore(tmp_path), loop)
    with pytest.raises(LogLocked):
        FileLog(DiskStore(tmp_path), loop.call, pytest.fail)
    log.close()
    threaded(DiskStore(tmp_path), loop)[0].close()
