"""`wherry backup`: copy the log of a broker that runs, over its port.

Files are written under temporary names, synced, and get their names at the end, the last one first: whatever ends this
in between leaves a directory that no broker takes for a log.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry_broker.cli import output, remote
from wherry_broker.cli.progress import Copying
from wherry_broker.cli.root import Exit, fail
from wherry_broker.log.journal import segment_name
from wherry_broker.log.recovery import CorruptLog
from wherry_broker.log.store import DiskStore
from wherry_broker.log.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    import wherry
    from wherry_broker.cli.root import Globals

PIECE_BYTES = 1_048_576
PIECES_IN_FLIGHT = 4
TIMEOUT_S = 60.0


@click.command("backup", short_help="Copy the log of a broker that runs.")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.pass_obj
def command(given: Globals, /, directory: Path) -> int:
    """Copy the log of a broker that runs into DIR, which is empty or not there yet, and check the copy.

    All that was confirmed before is in it, as of one moment; the broker goes on meanwhile. `wherry serve --data DIR`
    starts from it. Messages of queues with the durability `memory` are in no log, and so in no backup.
    """
    with _directory(directory):

        async def work(broker: wherry.Broker) -> None:
            await Copy(broker, directory).run()

        remote.run(given, work, TIMEOUT_S)
    return _check(given, directory)


@contextmanager
def _directory(path: Path) -> Iterator[None]:
    """Makes the directory; if what is done in it fails, nothing of it stays."""
    made = not path.exists()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.iterdir()):
            fail(f"{path} is not empty: a backup needs a directory of its own")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror or error}")
    with ExitStack() as undo:
        undo.callback(_clean, path, made=made)
        yield
        undo.pop_all()


def _clean(path: Path, *, made: bool) -> None:
    for file in path.glob("*.log.tmp"):
        file.unlink()
    if made and not any(path.iterdir()):
        path.rmdir()


class Copy:
    """One copy of a log.

    Args:
        broker: the connection.
        directory: an empty directory.
    """

    def __init__(self, broker: wherry.Broker, directory: Path) -> None:
        self._broker = broker
        self._directory = directory

    async def run(self) -> None:
        """Copies the log as it is now.

        Raises:
            Failure: a file cannot be written.
        """
        snapshot = await self._broker.take_snapshot()
        progress = Copying(snapshot.total)
        numbers = range(snapshot.first, snapshot.last + 1)
        try:
            for number in numbers:
                await self._segment(number, progress)
            await asyncio.to_thread(self._name, [segment_name(number) for number in reversed(numbers)])
        except OSError as error:
            fail(f"{self._directory} cannot be written: {error.strerror or error}")
        finally:
            progress.end()

    async def _segment(self, number: int, progress: Copying) -> None:
        path = self._directory / f"{segment_name(number)}.tmp"
        with path.open("xb") as file:
            data, size = await self._broker.read_snapshot(number, 0, PIECE_BYTES)
            file.write(data)
            progress.add(len(data))
            offsets = deque(range(len(data), size, PIECE_BYTES))
            pieces: deque[asyncio.Task[tuple[bytes, int]]] = deque()
            async with asyncio.TaskGroup() as group:
                while offsets or pieces:
                    while offsets and len(pieces) < PIECES_IN_FLIGHT:
                        offset = offsets.popleft()
                        want = min(PIECE_BYTES, size - offset)
                        pieces.append(group.create_task(self._piece(number, offset, want)))
                    data, _ = await pieces.popleft()
                    file.write(data)
                    progress.add(len(data))
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())

    async def _piece(self, number: int, offset: int, size: int) -> tuple[bytes, int]:
        data, whole = await self._broker.read_snapshot(number, offset, size)
        while len(data) < size:
            more, _ = await self._broker.read_snapshot(number, offset + len(data), size - len(data))
            if not more:
                fail(f"segment {number} ends at offset {offset + len(data)}, before it should", Exit.REFUSED)
            data += more
        return data, whole

    def _name(self, names: list[str]) -> None:
        """Gives the files their names. Until all have theirs, one that the last one needs is missing."""
        store = DiskStore(self._directory)
        for position, name in enumerate(names):
            store.rename(f"{name}.tmp", name)
            if not position:
                store.sync_names()
        store.sync_names()


def _check(given: Globals, directory: Path) -> int:
    """Reads the copy, and says what is in it."""
    try:
        report = verify(DiskStore(directory))
    except CorruptLog as error:
        fail(f"the copy in {directory} is of no use: {error}", Exit.REFUSED)
    if not report.is_whole or report.torn is not None:
        fail(f"the copy in {directory} is of no use: {report.refusal or report.torn}", Exit.REFUSED)
    told = {"directory": str(directory), "segments": len(report.segments), "bytes": report.size}
    if given.json:
        output.as_json({**told, "entries": report.entries})
    else:
        segments, size = output.counted(len(report.segments), "segment"), output.counted(report.size, "byte")
        click.echo(f"{directory}: {segments}, {size}, all of it readable")
    return Exit.DONE
