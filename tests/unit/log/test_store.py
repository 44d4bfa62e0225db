"""The store on a real directory: all of a write, one process at a time, and names that are safe once synced."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from installing import ROOT
from wherry_broker.log import store as stores
from wherry_broker.log.store import JOIN_BYTES_MAX, DiskFile, DiskStore, LogLocked

LONG = [b"a" * JOIN_BYTES_MAX, b"", b"b" * 1_000, b"c"]


@pytest.fixture(name="store")
def _store(tmp_path) -> DiskStore:
    return DiskStore(tmp_path / "data")


class Calls:
    """The system calls of the store, noted; writes may be cut short.

    Attributes:
        names: which were called.
        size_max: how much a write takes at a time.
    """

    def __init__(self, monkeypatch) -> None:
        self.names: list[str] = []
        self.size_max = 1 << 30
        real = {name: getattr(os, name) for name in ("write", "writev", "fsync", "fdatasync", "ftruncate")}
        for name, call in real.items():
            monkeypatch.setattr(stores.os, name, self._noting(name, call))
        monkeypatch.setattr(stores.os, "write", self._noting("write", self._short(real["write"])))
        monkeypatch.setattr(stores.os, "writev", self._noting("writev", self._short_vector(real["write"])))

    def _noting(self, name, call):
        def noted(*arguments):
            self.names.append(name)
            return call(*arguments)

        return noted

    def _short(self, write):
        return lambda descriptor, data: write(descriptor, data[: self.size_max])

    def _short_vector(self, write):
        return lambda descriptor, pieces: write(descriptor, b"".join(pieces)[: self.size_max])


@pytest.fixture(name="calls")
def _calls(monkeypatch) -> Calls:
    return Calls(monkeypatch)


# Writing.


@pytest.mark.parametrize("size_max", [1, 2, 7, 1_000, JOIN_BYTES_MAX, JOIN_BYTES_MAX + 1, 1 << 30])
@pytest.mark.parametrize("pieces", [[b"one", b"", b"two"], [b""], [], LONG], ids=["few", "empty", "none", "long"])
def test_all_of_a_write_is_written_however_little_the_system_takes(store, calls, pieces, size_max):
    calls.size_max = size_max
    file = store.create("f")
    file.append([b"first"])
    file.append(pieces)
    assert file.size == store.size("f") == 5 + len(b"".join(pieces))
    file.close()
    assert store.read("f") == b"first" + b"".join(pieces)


def test_more_pieces_than_one_call_takes_are_written(store):
    pieces = [b"%06d" % number * 20 for number in range(3 * stores.IOV_MAX + 1)]
    file = store.create("f")
    file.append(pieces)
    file.close()
    assert store.read("f") == b"".join(pieces)


def test_a_write_that_fails_raises(store, monkeypatch):
    file = store.create("f")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stores.os, "write", no_space)
    with pytest.raises(OSError, match="No space"):
        file.append([b"x"])
    assert file.size == 0


def test_a_new_file_replaces_an_old_one(store):
    store.create("f").append([b"old and long"])
    file = store.create("f")
    file.append([b"new"])
    assert store.read("f") == b"new"
    assert (store.path / "f").stat().st_mode & 0o777 == 0o600


def test_a_file_is_synced_by_fdatasync(store, calls):
    file = store.create("f")
    calls.names.clear()
    file.sync()
    assert calls.names == ["fdatasync"]
    file.close()


# Reading.


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [(0, None, b"0123456789"), (3, None, b"3456789"), (3, 4, b"3456"), (8, 9, b"89"), (10, None, b""), (99, 5, b"")],
)
def test_parts_of_a_file_are_read(store, offset, size, expected):
    store.create("f").append([b"0123456789"])
    assert store.read("f", offset, size) == expected


def test_a_read_goes_on_when_the_system_gives_less(store, monkeypatch):
    store.create("f").append([b"0123456789"])
    real = os.pread
    monkeypatch.setattr(stores.os, "pread", lambda descriptor, size, at: real(descriptor, min(size, 3), at))
    assert store.read("f") == b"0123456789"
    assert store.read("f", 2, 7) == b"2345678"


def test_a_file_that_is_not_there_is_told(store):
    for call in (store.read, store.size, store.remove):
        with pytest.raises(FileNotFoundError):
            call("nothing")


# Names.


def test_only_files_have_names(store):
    store.create("b").close()
    store.create("a").close()
    (store.path / "folder").mkdir()
    (store.path / "link").symlink_to(store.path / "a")
    assert store.names() == ["a", "b"]


def test_a_renamed_file_is_the_same_and_a_removed_one_is_gone(store):
    store.create("a").append([b"x"])
    store.create("b").append([b"y"])
    store.rename("a", "b")
    assert (store.names(), store.read("b")) == (["b"], b"x")
    store.remove("b")
    assert store.names() == []


def test_names_are_synced_by_a_sync_of_the_directory(store, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(stores.os, "fsync", fsync)
    store.sync_names()
    assert synced == [store.path.stat().st_ino]


def test_a_cut_is_synced(store, calls):
    store.create("f").append([b"0123456789"])
    calls.names.clear()
    store.truncate("f", 4)
    assert calls.names == ["ftruncate", "fsync"]
    assert store.read("f") == b"0123"


def test_what_is_kept_outlives_its_names(store):
    for name in ("a", "b"):
        store.create(name).append([name.encode()])
    assert store.keep(["a", "b"]) == "damaged-1"
    assert store.keep(["a"]) == "damaged-2"
    for name in ("a", "b"):
        store.remove(name)
    assert store.names() == []
    kept = {str(path.relative_to(store.path)): path.read_bytes() for path in sorted(store.path.glob("*/*"))}
    assert kept == {"damaged-1/a": b"a", "damaged-1/b": b"b", "damaged-2/a": b"a"}


def test_where_there_are_no_links_it_is_copied(store, monkeypatch):
    store.create("a").append([b"x"])

    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    store.keep(["a"])
    store.remove("a")
    assert (store.path / "damaged-1" / "a").read_bytes() == b"x"


def test_free_space_is_that_of_the_file_system(store):
    free, total = store.free_bytes()
    assert 0 < free <= total


# One process at a time.

HOLD = """
    import sys
    from pathlib import Path
    from wherry_broker.log.store import DiskStore
    getattr(DiskStore(Path(sys.argv[1])), sys.argv[2])()
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(name="hold")
def _hold(store):
    """Has another process lock the directory; what it returns ends that process."""
    running = []

    def hold(how: str) -> subprocess.Popen[str]:
        sources = os.pathsep.join(str(ROOT / name) for name in ("client", "broker"))
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOLD), str(store.path), how],
            env={**os.environ, "PYTHONPATH": sources},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout.readline() == "locked\n"
        return process

    yield hold
    for process in running:
        process.kill()
        process.communicate()


def test_a_second_process_is_told_who_has_the_lock(store, hold):
    owner = hold("lock")
    with pytest.raises(LogLocked, match=f"{store.path} is in use by process {owner.pid}"):
        store.lock()
    with pytest.raises(LogLocked, match=f"in use by process {owner.pid}"):
        store.lock_to_read()


def test_the_lock_is_free_once_its_process_is_killed(store, hold):
    owner = hold("lock")
    owner.kill()
    owner.wait()
    store.lock()
    assert (store.path / "lock").read_text("ascii").split() == [str(os.getpid())]
    store.unlock()


def test_two_may_read_and_nobody_writes_meanwhile(store, hold):
    store.lock()
    store.unlock()
    hold("lock_to_read")
    store.lock_to_read()
    store.unlock()
    with pytest.raises(LogLocked):
        store.lock()


def test_reading_writes_nothing(store):
    store.lock_to_read()
    assert list(store.path.iterdir()) == []
    store.unlock()


def test_unlocking_twice_is_harmless(store):
    store.lock()
    store.unlock()
    store.unlock()
    store.lock()
    store.unlock()


def test_the_directory_is_its_owner_s_alone(tmp_path):
    store = DiskStore(tmp_path / "a" / "b")
    assert store.path.stat().st_mode & 0o777 == 0o700


def test_a_file_takes_no_descriptor_to_a_child(store):
    file = DiskFile(store.path / "f")
    assert not os.get_inheritable(file._descriptor)
    file.close()
