"""`wherry consume`: take messages out of a queue, onto standard output.

A message is acknowledged once all of it is written, and taken out of the pipe if that is what it was written to; one
that is not goes back to the queue as it was, and does so at once when the broker shuts down. Leases are as long as they
can be: what the command holds is its own for as long as it lives, however slowly it is read, and nobody's as soon as
its connection ends. Writing never blocks the event loop, so that heartbeats are answered, and signals heard, while
nobody reads.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import click

import wherry
from wherry_broker.cli import output, remote
from wherry_broker.cli.params import DURATION, QUEUE
from wherry_broker.cli.progress import Progress
from wherry_broker.cli.root import Exit, Globals, fail
from wherry_broker.cli.streams import Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CREDIT, CREDIT_MAX = 4_000, 100_000
BATCH_MESSAGES = 1_000
ACKS_IN_FLIGHT = 8
LOOK_MESSAGES = 10_000
LEASE_S = 604_800.0
"""The longest lease that the broker gives."""
TIMEOUT_S = 30.0
PATIENCE_S = 1.0
"""After how long a reader that takes nothing of a pipe gets all at once, when this command has an end."""


@click.command("consume", short_help="Take messages out of a queue.")
@click.argument("queue", type=QUEUE)
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after N messages.")
@click.option("--wait", type=DURATION, metavar="TIME", help="Stop when nothing came for this time, such as 0, 5, 2m.")
@click.option("--no-ack", is_flag=True, help=f"Hand all back at the end; at most {LOOK_MESSAGES} without --count.")
@click.option(
    "--credit",
    type=click.IntRange(1, CREDIT_MAX),
    default=CREDIT,
    metavar="N",
    help=f"Hold at most N at a time: few leave more to other consumers, many are faster.  [{CREDIT}]",
)
@click.option("--null", is_flag=True, help="Write a NUL after each message instead of a newline.")
@click.pass_obj
def command(
    given: Globals, /, queue: str, *, count: int | None, wait: float | None, no_ack: bool, credit: int, null: bool
) -> int:
    """Take messages out of QUEUE, and write each to standard output, followed by a newline.

    A message is acknowledged once it is written, and once a reader has taken it out of the pipe: what `| head` does not
    take goes back to the queue. Without --count and --wait it goes on for ever, and Ctrl-C ends it. With --json each
    message is a line of JSON with its id and headers.

    Exits with 4 when fewer than --count messages came within --wait.

    \b
    Examples:
      wherry consume emails --count 1
      wherry consume logs --wait 5 > access.log
      wherry consume jobs --credit 1 | while read -r job; do ./work "$job"; done
    """  # noqa: D301 (click's mark is the character itself)
    if no_ack and count is None:
        count = LOOK_MESSAGES

    async def work(broker: wherry.Broker) -> int:
        stop = remote.stop_on_signal()
        end = b"\0" if null else b"\n"
        taking = Taking(broker, broker.queue(queue), stop, credit, end, as_json=given.json, keep=no_ack)
        return await taking.run(count, wait)

    return remote.run(given, work, TIMEOUT_S)


class Taking:
    """One run of the command.

    Args:
        broker: the connection.
        queue: what is consumed.
        stop: ends it.
        credit: how many messages it may hold at a time.
        end: what follows every message.
        as_json: whether to write JSON instead of bare bodies.
        keep: whether to hand everything back at the end, instead of acknowledging it.
    """

    def __init__(
        self,
        broker: wherry.Broker,
        queue: wherry.Queue,
        stop: remote.Stop,
        credit: int,
        end: bytes,
        *,
        as_json: bool,
        keep: bool,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._stop = stop
        self._credit = credit
        self._end = end
        self._as_json = as_json
        self._keep = keep
        self._kept: list[wherry.Message] = []
        self._acks: deque[wherry.Settlement] = deque()
        self._problem: OSError | None = None
        self._writing: list[wherry.Message] = []
        self._gone: wherry.WherryError | None = None
        self._progress = Progress("consumed")

    async def run(self, count: int | None, wait: float | None) -> int:
        """Takes and writes; returns the exit code."""
        out = Output(
            sys.stdout.fileno(), self._stop, self._end_early, None if count is None and wait is None else PATIENCE_S
        )
        out.watch()
        credit = count if self._keep and count else min(self._credit, count or self._credit)
        try:
            async with self._queue.consume(credit, lease=LEASE_S) as consumer, asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch(consumer, out))
                missing = await self._take(consumer.batches(min(BATCH_MESSAGES, credit)), out, count, wait)
                watching.cancel()
        finally:
            out.close()
            await self._finish()
        if missing:
            fail(f"{missing} of {count} messages did not come in time", Exit.TIMED_OUT)
        return Exit.DONE

    async def _watch(self, consumer: wherry.Consumer, out: Output) -> None:
        """Once no more will come, hands back what is not begun to be written: its reader may take nothing for long."""
        try:
            await consumer.wait_ended()
        except wherry.WherryError as error:
            self._gone = error
            if self._writing:
                begun = out.cut()
                self._hand_back(self._writing[begun:])
                del self._writing[begun:]

    async def _take(
        self, batches: AsyncIterator[list[wherry.Message]], out: Output, count: int | None, wait: float | None
    ) -> int:
        """Returns how many of `count` did not come in time."""
        left = count
        while batch := await self._next(batches, wait):
            self._end_before(batch)
            if left is not None and len(batch) > left:
                release(batch[left:])
                del batch[left:]
            await self._write(batch, out)
            if left is not None:
                left -= len(batch)
            if self._gone is not None and left != 0:
                raise self._gone
            if left == 0 or self._stop.done():
                return 0
        return 0 if self._stop.done() or self._keep else left or 0

    def _end_before(self, batch: list[wherry.Message]) -> None:
        """Raises why no more will come, if that was told while this batch was on its way here, and hands it back."""
        if self._gone is not None:
            self._hand_back(batch)
            raise self._gone

    async def _next(self, batches: AsyncIterator[list[wherry.Message]], wait: float | None) -> list[wherry.Message]:
        """The next messages; none when the time was over, or when told to stop."""
        coming = asyncio.ensure_future(_anext(batches))
        try:
            either: set[asyncio.Future[Any]] = {coming, self._stop}
            await asyncio.wait(either, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done() and not self._stop.done():
                await self._settle_down()
            return coming.result() if coming.done() else []
        finally:
            if not coming.done():
                coming.cancel()
                await asyncio.wait({coming})

    async def _settle_down(self) -> None:
        """Returns when all that the broker has for us now is here.

        It leases at the end of the turn in which it takes what we say: what comes of our last acknowledgements and
        credit may follow the answer of a first ping, and comes before that of a second one.
        """
        for _ in range(2):
            await self._broker.ping()
        await asyncio.sleep(0)

    def _hand_back(self, messages: Sequence[wherry.Message]) -> None:
        """Hands messages back, if there is anybody to hand them to."""
        if self._broker.status == "connected":
            release(messages)

    async def _write(self, batch: list[wherry.Message], out: Output) -> None:
        """Writes messages, and settles those that were written."""
        self._writing = batch
        written = await out.write([self._text(message) + self._end for message in batch])
        self._writing = []
        release(batch[written:])
        await self._settle(batch[:written])

    async def _settle(self, batch: list[wherry.Message]) -> None:
        self._progress.add(len(batch))
        if self._keep:
            self._kept += batch
        elif batch:
            self._acks.append(self._queue.ack_many(batch))
            while len(self._acks) > ACKS_IN_FLIGHT:
                await self._acks.popleft()

    def _text(self, message: wherry.Message) -> bytes:
        if not self._as_json:
            return message.body
        return output.json_line(output.message_fields(message)).encode()

    def _end_early(self, problem: OSError | None) -> None:
        self._problem = self._problem or problem
        if not self._stop.done():
            self._stop.set_result(0)

    async def _finish(self) -> None:
        """Hands back what is held, and waits for what was acknowledged."""
        self._progress.end()
        release(self._kept)
        while self._acks:
            await self._acks.popleft()
        if self._problem is not None:
            fail(f"standard output cannot be written: {self._problem.strerror}", Exit.IO_FAILED)


async def _anext(batches: AsyncIterator[list[wherry.Message]]) -> list[wherry.Message]:
    return await anext(batches, [])


def release(messages: Sequence[wherry.Message]) -> None:
    """Hands messages back unspent."""
    for message in messages:
        message.release()
