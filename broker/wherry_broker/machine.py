"""What the machine offers, or the container that the broker runs in."""

from __future__ import annotations

import os
from pathlib import Path

LIMITS = ("memory.max", "memory.limit_in_bytes")
"""The files that hold the limit of a control group, of its second version and of its first."""


def memory_bytes(root: Path = Path("/")) -> int:
    """How much memory this process may take: that of the machine, or less when a control group limits it.

    Args:
        root: where the file systems of the kernel are mounted, for tests.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_limits(root)])


def _limits(root: Path) -> list[int]:
    """The limits of all groups that this process is in."""
    found = []
    for folder in _folders(root):
        for name in LIMITS:
            try:
                text = (folder / name).read_text("ascii").strip()
            except OSError:  # another version, another file system, or no control groups at all
                continue
            if text.isdigit():  # else "max"
                found.append(int(text))
    return found


def _folders(root: Path) -> list[Path]:
    """Where the groups of this process may be: as the kernel names them, and as a container sees its own."""
    mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/memory"]
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return mounts
    result = list(mounts)
    for line in lines:
        path = Path(line.rpartition(":")[2].lstrip("/"))
        for mount in mounts:
            result += [mount / each for each in (path, *path.parents)]
    return result
