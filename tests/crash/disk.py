"""A disk whose power can be cut: a file system in a file, which FS_IOC_SHUTDOWN ends without writing anything more.

What was synced before is there afterwards, and of the rest what the kernel happened to have written. The file system's
own journal is replayed by the next mount, as after a real power cut.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from typing import TYPE_CHECKING, Self

from faults.tracing import need_program
from installing import skip_loudly

if TYPE_CHECKING:
    from pathlib import Path

FS_IOC_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32) of linux/fs.h; ext4 and XFS know it."""
NO_LOG_FLUSH = 2
SIZE_BYTES = 512 * 1024 * 1024
"""As much as XFS needs; the file has holes, and takes as much of the real disk as is written to it."""
PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}
DEADLINE_S = 120


class Disk:
    """A file system of its own.

    Args:
        folder: for the file that holds it, and the directory where it is mounted.
        kind: ext4 or xfs.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.path = folder / f"{kind}.mounted"
        self._image = folder / f"{kind}.image"
        self._mounted = False

    def __enter__(self) -> Self:
        need(self.kind)
        with self._image.open("wb") as image:
            image.truncate(SIZE_BYTES)
        self.path.mkdir()
        _run(f"mkfs.{self.kind}", "-q", str(self._image))
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        if self._mounted:
            _run("umount", "--lazy", str(self.path))
        self.path.rmdir()
        self._image.unlink()

    def cut(self) -> None:
        """Cuts the power: from now on nothing reaches the disk, and all that is asked of it fails."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(directory)

    def come_back(self) -> None:
        """The machine is on again. Nothing on the disk may be open."""
        _run("umount", str(self.path))
        self._mounted = False
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.path))
        self._mounted = True


def need(kind: str) -> None:
    """Skips the test, loudly, when no such disk can be made here; installs what makes one."""
    if os.geteuid() != 0:
        skip_loudly("cutting the power of a file system needs root")
    need_program(f"mkfs.{kind}", PACKAGES[kind])
    if not os.access("/dev/loop-control", os.R_OK | os.W_OK):
        skip_loudly("there are no loop devices")


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
