"""What a log asks of a file system, and the real one.

The interface is narrow so that tests can put another disk in its place: one that loses, tears, reorders and refuses.
Rules that are easy to forget stand here once: a write is repeated until all of it is written; a new, renamed or
removed file is only safe once its directory is synced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import shutil
import sys
from typing import TYPE_CHECKING, Protocol

from wherry_broker.log.allocate import SHORT, allocate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOCK_NAME = "lock"
KEPT = "damaged"
LOCK_BYTES = 32
IOV_MAX = 1024
JOIN_BYTES_MAX = 65_536
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What a file system says that has no links, or no more of them."""


class LogLocked(Exception):
    """Another process works on the log."""


class LogUnusable(Exception):
    """The directory of the log, or a file in it, cannot be read or written; the text names it and says why."""


class File(Protocol):
    """A file that is being appended to."""

    size: int

    def append(self, pieces: Sequence[bytes]) -> None:
        """Writes all the pieces at the end."""

    def own(self, size: int) -> int:
        """Takes space for the next `size` bytes from the file system, or for as many as there is space for.

        Returns:
            How many bytes can be appended for certain, whatever else is written to the disk.
        """

    def sync(self) -> None:
        """Returns once all that was appended is on the disk."""

    def close(self) -> None:
        """Closes it, and gives the space back that it owns and does not use; syncs nothing."""


class Files(Protocol):
    """Files of a directory, as the journal works on them."""

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes of a file from `offset` on; to its end when not given."""

    def create(self, name: str) -> File:
        """A new, empty file; of an old one of that name, only space that it owned beyond its end may be left."""

    def rename(self, old: str, new: str) -> None:
        """Gives a file another name; safe after `sync_names`."""

    def remove(self, name: str) -> None:
        """Removes a file; safe after `sync_names`."""

    def sync_names(self) -> None:
        """Returns once all that was created, renamed or removed is on the disk."""


class Store(Files, Protocol):
    """A directory of files."""

    def lock(self) -> None:
        """Makes sure that no other process works on this directory."""

    def unlock(self) -> None:
        """Lets another process work on this directory."""

    def names(self) -> list[str]:
        """The names of all files."""

    def size(self, name: str) -> int:
        """A file's length, in bytes."""

    def truncate(self, name: str, size: int) -> None:
        """Cuts a file, and returns once that is on the disk."""

    def keep(self, names: Sequence[str]) -> str:
        """Keeps files for good, whatever becomes of their names; returns where, once that is on the disk."""

    def rewrite(self, name: str, offset: int) -> None:
        """Writes what a file holds from `offset` on once more, and returns once that is on the disk."""

    def free_bytes(self) -> tuple[int, int]:
        """How many bytes nobody has yet, and how many the whole file system has."""


class DiskFile:
    """A real file, open for appending."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._descriptor).st_size:
            os.ftruncate(self._descriptor, 0)  # not O_TRUNC: an empty file may own space, which that would give back
        self.size = 0
        self._owned_end = 0

    def append(self, pieces: Sequence[bytes]) -> None:
        """Writes all the pieces at the end; raises OSError when not all could be written."""
        total = sum(map(len, pieces))
        if total <= JOIN_BYTES_MAX:
            self._write_all(b"".join(pieces))
        else:
            for start in range(0, len(pieces), IOV_MAX):
                self._write_vector(pieces[start : start + IOV_MAX])
        self.size += total

    def _write_vector(self, pieces: Sequence[bytes]) -> None:
        written = os.writev(self._descriptor, pieces)
        for piece in pieces:
            if written < len(piece):
                self._write_all(memoryview(piece)[max(written, 0) :])
            written -= len(piece)

    def _write_all(self, data: bytes | memoryview) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def own(self, size: int) -> int:
        """Allocates blocks beyond the end, as many as there are; where that cannot be, it counts what is free."""
        start, end = max(self._owned_end, self.size), min(self.size + size, _length_max())
        if start >= end:
            return start - self.size
        stats = os.fstatvfs(self._descriptor)
        free = stats.f_bavail * stats.f_frsize
        # What a process before this one has allocated counts as taken, and is there to be owned.
        wanted = min(end - start, free + max(0, 512 * os.fstat(self._descriptor).st_blocks - start))
        while wanted > 0:
            try:
                if not allocate(self._descriptor, start, wanted):
                    return min(size, free)
            except OSError as error:
                if error.errno not in SHORT:
                    raise
                wanted //= 2  # somebody else was faster, or the file system needs some of it for itself
            else:
                self._owned_end = start + wanted
                break
        return max(0, self._owned_end - self.size)

    def sync(self) -> None:
        """fdatasync: it also writes the file's length."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Closes it; cutting a file where it ends frees the blocks beyond that."""
        if self._owned_end > self.size:
            os.ftruncate(self._descriptor, self.size)
        os.close(self._descriptor)


def _length_max() -> int:
    """How long this process may make a file."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


class DiskStore:
    """A real directory; made when it is not there."""

    def __init__(self, path: Path) -> None:
        _make_directory(path)
        self.path = path
        self._lock = -1

    def lock(self) -> None:
        """Makes sure that no other process works on this directory; holds until the process ends.

        Raises:
            LogLocked: another one does.
            OSError: the directory cannot be written.
        """
        self._lock = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._take(fcntl.LOCK_EX)
        # Always as long, so that a full disk, which has no block for it, has the one of the last time.
        os.pwrite(self._lock, f"{os.getpid():<{LOCK_BYTES - 1}}\n".encode(), 0)

    def lock_to_read(self) -> None:
        """Makes sure that no process changes anything in this directory meanwhile; writes nothing itself.

        Raises:
            LogLocked: one may do so.
        """
        try:
            self._lock = os.open(self.path / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # no broker was ever here, or this is a backup
        self._take(fcntl.LOCK_SH)

    def unlock(self) -> None:
        """Lets another process work on this directory."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take(self, how: int) -> None:
        try:
            fcntl.flock(self._lock, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._lock, LOCK_BYTES, 0).decode("ascii", "replace").strip()
            self.unlock()
            raise LogLocked(f"{self.path} is in use by process {owner or 'unknown'}") from error

    def names(self) -> list[str]:
        """The names of all files."""
        return sorted(entry.name for entry in os.scandir(self.path) if entry.is_file(follow_symlinks=False))

    def size(self, name: str) -> int:
        """A file's length, in bytes."""
        return (self.path / name).stat().st_size

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes of a file from `offset` on; to its end when not given."""
        with (self.path / name).open("rb", buffering=0) as file:
            wanted = os.fstat(file.fileno()).st_size - offset if size is None else size
            chunks = []
            while wanted > 0 and (chunk := os.pread(file.fileno(), wanted, offset)):
                chunks.append(chunk)
                offset += len(chunk)
                wanted -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def create(self, name: str) -> File:
        """A new, empty file; of an old one of that name, only space that it owned beyond its end may be left."""
        return DiskFile(self.path / name)

    def truncate(self, name: str, size: int) -> None:
        """Cuts a file, and returns once that is on the disk."""
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rewrite(self, name: str, offset: int) -> None:
        """Writes what a file holds from `offset` on once more, and returns once that is on the disk.

        A sync alone would not do: after one that failed, the system takes for written what is in its memory only.
        """
        left = memoryview(self.read(name, offset))
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            while left:
                written = os.pwrite(descriptor, left, offset)
                left, offset = left[written:], offset + written
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        """Gives a file another name; safe after `sync_names`."""
        (self.path / old).rename(self.path / new)

    def remove(self, name: str) -> None:
        """Removes a file; safe after `sync_names`."""
        (self.path / name).unlink()

    def keep(self, names: Sequence[str]) -> str:
        """Links files into a new directory, `damaged-1` or the next number that is free; returns its name."""
        number = 1
        while (self.path / f"{KEPT}-{number}").exists():
            number += 1
        folder = self.path / f"{KEPT}-{number}"
        folder.mkdir(mode=0o700)
        for name in names:
            try:
                (folder / name).hardlink_to(self.path / name)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                shutil.copyfile(self.path / name, folder / name)
            _sync_file(folder / name)
        _sync_directory(folder)
        self.sync_names()
        return folder.name

    def sync_names(self) -> None:
        """Syncs the directory: without it, a rename or an unlink may be undone by a power cut."""
        _sync_directory(self.path)

    def free_bytes(self) -> tuple[int, int]:
        """How many bytes nobody has yet, and how many the whole file system has.

        A limit on the length of files makes it seem as small as that segments stay well below the limit.
        """
        stats = os.statvfs(self.path)
        return stats.f_bavail * stats.f_frsize, min(stats.f_blocks * stats.f_frsize, 2 * _length_max())


def _make_directory(path: Path) -> None:
    """Makes a directory, and those above it, so that a power cut takes none of them with all that it holds."""
    if not path.is_dir():
        if not path.parent.exists():
            _make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    elif any(path.iterdir()):
        return
    # One that is empty may have been made just now, by a process that had no time for this.
    with contextlib.suppress(PermissionError):  # who may not even look above it has not made it
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
