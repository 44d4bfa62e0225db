"""Small disks to fill: an ext4 in a file, and a tmpfs. Both need root; where that is not, tests of them are skipped."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from faults.tracing import need_program
from installing import skip_loudly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
CHUNK = b"x" * 65_536


@contextmanager
def ext4(folder: Path, size: int, *options: str) -> Iterator[Path]:
    """An ext4 of `size` bytes; `options` are of mkfs."""
    need_program("mkfs.ext4", "e2fsprogs")
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", *options, image], check=True)
    with _mounted(folder / "disk", "-o", "loop", str(image)) as path:
        yield path


@contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs of `size` bytes."""
    with _mounted(folder / "disk", "-t", "tmpfs", "-o", f"size={size}", "tmpfs") as path:
        yield path


@contextmanager
def _mounted(path: Path, *arguments: str) -> Iterator[Path]:
    path.mkdir()
    if os.geteuid() != 0:
        skip_loudly("only root can mount a small disk")
    done = subprocess.run(["mount", *arguments, path], check=False, capture_output=True, text=True)
    if done.returncode:
        skip_loudly(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def fill(path: Path) -> int:
    """Writes a file until the disk is full, as another program might; returns how long it became."""
    size = len(CHUNK)
    with path.open("ab", buffering=0) as file:
        while size:
            try:
                file.write(CHUNK[:size])
            except OSError:
                size //= 2
        return file.tell()


def use_all_inodes(folder: Path) -> int:
    """Makes empty files until there is no inode left; returns how many."""
    folder.mkdir(exist_ok=True)
    count = 0
    with suppress(OSError):
        while True:
            (folder / str(count)).touch()
            count += 1
    return count


def free_bytes(path: Path) -> int:
    """How much of a disk nobody has."""
    stats = os.statvfs(path)
    return stats.f_bavail * stats.f_frsize
