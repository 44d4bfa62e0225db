"""A disk that keeps its promises and no others: the `Store` of a log, in memory, with power cuts and refusals.

What it models, and how hard it is:

- What is written is in the page cache: a kill of the process takes nothing, a power cut all that was not synced.
- At a power cut each sector (512 bytes) of each unsynced write is kept or not, whatever became of the others; a file
  may be as long as it would have been, with zeros where nothing was kept. What was synced stays.
- A new, a renamed and a removed file are each on the disk once the directory is synced; until then each may have
  happened or not, whatever became of the others.
- After a sync that failed, the system takes for written what was not, and no sync of that file does anything more.
- A write or a sync may fail; a failed write leaves a part of itself. Nobody may ask for anything after that (law 7).
- Every call is a moment at which the power can go, before or after what the call does.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

SECTOR = 512


class PowerCut(BaseException):
    """The power went; nothing may catch it but the simulation."""


class Broken(AssertionError):
    """The log broke a law: it asked for something after a failure, or asks for what is not there."""


class Write(NamedTuple):
    """Bytes that were written and not synced."""

    offset: int
    data: bytes


class Inode:
    """A file without its name.

    Attributes:
        data: what reading it gives.
        durable: what is certainly on the disk.
        writes: what is not, in order.
        forsaken: whether a sync has failed: the system takes all of it for written now, and no sync helps any more.
        owned: for how many more bytes it has space that no other file can have; lost with the process.
    """

    __slots__ = ("data", "durable", "forsaken", "owned", "writes")

    def __init__(self, data=b""):
        self.data = bytearray(data)
        self.durable = bytes(data)
        self.writes = []
        self.forsaken = False
        self.owned = 0

    def sync(self):
        if self.forsaken:
            return
        self.durable = bytes(self.data)
        self.writes = []


class NameChange(NamedTuple):
    """A change of the directory that is not synced: `name` leads to `inode` (None: to nothing), and `old` no more."""

    name: str
    inode: Inode | None
    old: str = ""


class SimulatedFile:
    """A file that is open for appending."""

    def __init__(self, disk, inode, name):
        self._disk = disk
        self._inode = inode
        self.name = name
        self.size = 0

    def append(self, pieces):
        data = b"".join(pieces)
        self._disk.write(self._inode, data)
        self.size += len(data)

    def own(self, size):
        return self._disk.own(self._inode, size)

    def sync(self):
        self._disk.sync(self._inode)

    def close(self):
        self._inode.owned = 0


class SimulatedDisk:
    """A directory of files.

    Args:
        rng: decides what a power cut takes.
        capacity: how many bytes there are.

    Attributes:
        fuse: in how many moments the power goes; None for never.
        fuse_in: the only call whose moments count for that; "" for all.
        risks_removals: whether the power is likely to go when the removal of several files is about to be synced.
        write_error, sync_error: in how many writes or syncs one fails; None for never.
        failed: whether one has.
        is_full: whether that was because there was no room.
    """

    def __init__(self, rng, capacity=1 << 40):
        self.rng = rng
        self.capacity = capacity
        self.fuse = None
        self.fuse_in = ""
        self.risks_removals = False
        self.write_error = self.sync_error = None
        self.failed = self.is_full = False
        self._call = ""
        self.names_now = {}
        self.names_durable = {}
        self.changes = []
        self._locked = False

    # What happens in the middle.

    def _moment(self):
        if self.fuse is not None and self.fuse_in in {"", self._call}:
            self.fuse -= 1
            if self.fuse < 0:
                raise PowerCut

    def _begin(self, call):
        self._call = call
        if self.failed:
            raise Broken("the log is used after it failed")
        self._moment()

    def write(self, inode, data):
        self._begin("write")
        if self.write_error is not None:
            self.write_error -= 1
        full = self.used_bytes() + max(0, len(data) - inode.owned) > self.capacity
        if full or (self.write_error is not None and self.write_error < 0):
            self.failed, self.is_full = True, full
            part = data[: self._below(len(data) + 1)]
            self._add(inode, part)
            raise OSError(errno.ENOSPC, "no space left on device")
        inode.owned = max(0, inode.owned - len(data))
        self._add(inode, data)
        self._moment()

    def own(self, inode, size):
        """Takes space for the next `size` bytes of a file, or for as many as there are."""
        inode.owned += min(max(0, size - inode.owned), max(0, self.capacity - self.used_bytes()))
        return inode.owned

    def _add(self, inode, data):
        if data:
            inode.writes.append(Write(len(inode.data), bytes(data)))
            inode.data += data

    def sync(self, inode):
        self._begin("sync")
        if self.sync_error is not None:
            self.sync_error -= 1
            if self.sync_error < 0:
                self.failed = inode.forsaken = True
                raise OSError(errno.EIO, "input/output error")
        inode.sync()
        self._moment()

    def _below(self, limit):
        return int(self.rng.random() * limit)

    # The Store.

    def lock(self):
        if self._locked:
            raise Broken("two logs work on one directory")
        self._locked = True

    def unlock(self):
        self._locked = False

    def names(self):
        return sorted(self.names_now)

    def size(self, name):
        return len(self._inode(name).data)

    def read(self, name, offset=0, size=None):
        data = self._inode(name).data
        return bytes(data[offset:] if size is None else data[offset : offset + size])

    def create(self, name):
        self._begin("create")
        inode = Inode()
        self._change(NameChange(name, inode))
        self._moment()
        return SimulatedFile(self, inode, name)

    def truncate(self, name, size):
        self._begin("truncate")
        inode = self._inode(name)
        before = len(inode.data)
        del inode.data[size:]
        assert size <= before, "a log only cuts"
        inode.writes = [Write(at, data[: size - at]) for at, data in inode.writes if at < size]
        self._moment()  # it is cut in the page cache; on the disk once it is synced
        inode.sync()
        self._moment()

    def rewrite(self, name, offset):
        self._begin("rewrite")
        inode = self._inode(name)
        inode.writes.append(Write(offset, bytes(inode.data[offset:])))
        self._moment()
        inode.forsaken = False
        inode.sync()
        self._moment()

    def keep(self, names):
        raise AssertionError(f"{names} are to be kept: nothing here repairs a log")

    def rename(self, old, new):
        self._begin("rename")
        self._change(NameChange(new, self._inode(old), old))
        self._moment()

    def remove(self, name):
        self._begin("remove")
        self._inode(name)
        self._change(NameChange(name, None))
        self._moment()

    def sync_names(self):
        several = len(self.changes) > 1 and all(change.inode is None for change in self.changes)
        self._begin("sync_names")
        if several and self.risks_removals and self.rng.random() < 0.8:
            raise PowerCut
        if self.sync_error is not None:
            self.sync_error -= 1
            if self.sync_error < 0:
                self.failed = True
                raise OSError(errno.EIO, "input/output error")
        self.names_durable = dict(self.names_now)
        self.changes = []
        self._moment()

    def free_bytes(self):
        return max(0, self.capacity - self.used_bytes()), self.capacity

    def used_bytes(self):
        return sum([len(inode.data) + inode.owned for inode in self.names_now.values()])

    def _inode(self, name):
        inode = self.names_now.get(name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return inode

    def _change(self, change):
        self.changes.append(change)
        apply_change(self.names_now, change)

    # What the auditor asks.

    def is_durable(self, name, size):
        """Whether the first `size` bytes of a file would outlast a power cut, name and all."""
        inode = self.names_durable.get(name)
        return inode is not None and inode is self.names_now.get(name) and len(inode.durable) >= size

    # The end of a process, or of the power.

    def killed(self):
        """The process is gone, and with it its lock; the page cache stays."""
        self._locked = self.failed = self.is_full = False
        for inode in self.names_now.values():
            inode.owned = 0
        self.fuse = self.write_error = self.sync_error = None
        self.fuse_in = ""

    def cut(self):
        """The power has gone, and come back."""
        rng = self.rng
        names = dict(self.names_durable)
        for change in self.changes:
            if rng.random() < 0.5:
                apply_change(names, change)
        manner = (0.0, 0.5, 0.9, 1.0)[self._below(4)]
        survivors = {}
        for name in sorted(names):
            survivors[name] = Inode(self._left_of(names[name], manner))
        self._restart(survivors)

    def _left_of(self, inode, kept):
        """What a power cut leaves of a file, when a sector is kept with that probability."""
        rng = self.rng
        sectors = {}
        for write in inode.writes:
            whole = rng.random()
            for sector in range(write.offset // SECTOR, (write.offset + len(write.data) - 1) // SECTOR + 1):
                if whole < kept / 2 or rng.random() < kept:
                    sectors[sector] = write.offset + len(write.data)
        return assembled(inode, sectors, rng.random() < 0.3)

    def _restart(self, names):
        self.names_now, self.names_durable, self.changes = names, dict(names), []
        self.killed()


def assembled(inode, sectors, extended, fill=b"\0"):
    """A file after a power cut.

    Args:
        inode: the file.
        sectors: which sectors of it were written, each with how long the file was when it was.
        extended: whether the file has its new length whatever was kept.
        fill: what stands where nothing was written.
    """
    result = bytearray(inode.durable)
    last = max(sectors, default=-1)
    size = len(inode.data) if extended else max(len(result), min(sectors.get(last, 0), (last + 1) * SECTOR))
    start = len(result)
    result += fill * (size - start) if len(fill) == 1 else fill[: size - start]
    for sector, length in sectors.items():
        low, high = sector * SECTOR, min((sector + 1) * SECTOR, length)
        result[low:high] = inode.data[low:high]
    return result


def apply_change(names, change):
    """Makes a change of a directory."""
    if change.old:
        names.pop(change.old, None)
    if change.inode is None:
        names.pop(change.name, None)
    else:
        names[change.name] = change.inode
