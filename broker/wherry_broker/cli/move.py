"""`wherry move`: messages go from one queue to another, each settled here and published there in one commit.

Whatever ends the command, no message is lost on the way, and none is in both queues.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import click

import wherry
from wherry.model.fields import PRIORITY_MAX
from wherry_broker.cli import output, remote
from wherry_broker.cli.params import DURATION, QUEUE
from wherry_broker.cli.progress import Progress
from wherry_broker.cli.root import Exit, Globals, fail

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH_MESSAGES = 1_000
BATCH_BYTES = 1_048_576
LEASE_S = 604_800.0
"""The longest lease that the broker gives: nobody else is to have what waits for room in the other queue."""
TIMEOUT_S = 30.0


@click.command("move", short_help="Move messages from one queue to another.")
@click.argument("source", type=QUEUE, metavar="FROM")
@click.argument("target", type=QUEUE, metavar="TO")
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after N messages.")
@click.option("--wait", type=DURATION, metavar="TIME", help="Stop when nothing came for this time, such as 5, 2m.  [0]")
@click.pass_obj
def command(given: Globals, /, source: str, target: str, *, count: int | None, wait: float | None) -> int:
    """Move the ready messages of FROM to the end of TO, with their headers, keys and priorities.

    Each is acknowledged in FROM and stored in TO in one commit, so none is lost and none is doubled, whatever happens
    meanwhile. While TO is full, it waits. It stops when FROM has nothing ready any more; Ctrl-C stops it before. A time
    to live begins anew, and is that of TO. Dead messages are moved by `wherry dead redrive --to`.

    Exits with 4 when there were fewer than --count messages.

    \b
    Examples:
      wherry move emails emails-eu
      wherry move jobs parked --count 100
      wherry move inbox archive --wait 1d
    """  # noqa: D301 (click's mark is the character itself)
    if source == target:
        fail(f"{source} is the same queue")

    async def work(broker: wherry.Broker) -> int:
        moving = Moving(broker, source, target)
        stop = remote.stop_on_signal()
        moved = asyncio.ensure_future(moving.run(count, wait or 0.0))
        try:
            either: set[asyncio.Future[Any]] = {moved, stop}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            stopped = not moved.done()
        finally:
            await _end(moved)
        return _tell(given, moving, None if stopped else count)

    return remote.run(given, work, TIMEOUT_S)


async def _end(moved: asyncio.Future[None]) -> None:
    """Stops the moving, and raises what it failed of."""
    moved.cancel()
    await asyncio.wait({moved})
    if not moved.cancelled():
        moved.result()


def _tell(given: Globals, moving: Moving, count: int | None) -> int:
    total = moving.total
    if given.json:
        output.as_json({"from": moving.source.name, "to": moving.target.name, "moved": total})
    else:
        click.echo(f"{output.counted(total, 'message')} moved from {moving.source.name} to {moving.target.name}")
    if count is not None and total < count:
        fail(f"{count - total} of {count} messages were not there", Exit.TIMED_OUT)
    return Exit.DONE


class Moving:
    """One run of the command.

    Args:
        broker: the connection.
        source: the name of the queue that messages are taken from.
        target: the name of the queue that they are put into.

    Attributes:
        source: the queue that messages are taken from.
        target: the queue that they are put into.
        total: how many were moved.
    """

    def __init__(self, broker: wherry.Broker, source: str, target: str) -> None:
        self._broker = broker
        self.source = broker.queue(source)
        self.target = broker.queue(target)
        self.total = 0
        self._size = BATCH_MESSAGES
        self._progress = Progress("moved")

    async def run(self, count: int | None, wait: float) -> None:
        """Moves so many messages, or all, until none came for the time `wait`, in seconds."""
        await self.source.info()  # a queue that is not there is not to be made
        try:
            while limit := BATCH_MESSAGES if count is None else min(BATCH_MESSAGES, count - self.total):
                taken = await self.source.get(limit, wait, lease=LEASE_S)
                if not taken:
                    return
                await self._move(taken)
        finally:
            self._progress.end()

    async def _move(self, messages: Sequence[wherry.Message]) -> None:
        priority_max = await self._priority_max()
        try:
            rest = messages
            while rest:
                count = await self._commit(rest[: self._size], priority_max)
                self.total += count
                self._progress.add(count)
                rest = rest[count:]
        finally:
            if self._broker.status == "connected":
                for message in messages:
                    if not message.settled:
                        message.release()

    async def _commit(self, messages: Sequence[wherry.Message], priority_max: int) -> int:
        """Moves the first of some messages in one commit; returns how many, which may be none.

        A queue that is too full for many may have room for fewer, so half of them are next. A single one waits.
        """
        count = 0
        try:
            async with self._broker.transaction(timeout=math.inf if len(messages) == 1 else 0) as tx:
                count = _fill(tx, messages, self.target, priority_max)
        except (wherry.Busy, wherry.TooLarge) as error:
            if count <= 1 and isinstance(error, wherry.TooLarge):
                raise
            self._size = max(1, count // 2)
            return 0
        self._size = min(2 * self._size, BATCH_MESSAGES)
        return count

    async def _priority_max(self) -> int:
        """The highest priority of the target, which may have fewer than the source."""
        try:
            info = await self.target.info()
        except wherry.NotFound:  # the first commit makes it, or is told why not
            return PRIORITY_MAX
        return int(info.options["priorities"]) - 1


def _fill(tx: wherry.Transaction, messages: Sequence[wherry.Message], target: wherry.Queue, priority_max: int) -> int:
    """Forwards as many messages as one transaction should have; returns how many."""
    size = 0
    for count, message in enumerate(messages):
        size += len(message.body)
        if count and size > BATCH_BYTES:
            return count
        try:
            tx.forward(message, target, priority=min(message.priority, priority_max))
        except wherry.TooLarge:
            if not count:
                raise
            return count
    return len(messages)
