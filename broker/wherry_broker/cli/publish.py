"""`wherry publish`: put messages into a queue, from arguments, a file, or standard input."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

import wherry
from wherry.model.names import queue_name_problem, subject_problem
from wherry_broker.cli import output, remote
from wherry_broker.cli.params import DURATION, HEADER
from wherry_broker.cli.progress import Progress
from wherry_broker.cli.root import Failure, Globals, fail
from wherry_broker.cli.streams import BODY_BYTES_MAX, Input

if TYPE_CHECKING:
    from collections.abc import Sequence

STOP_S = 2.0
"""How long what is under way may take after a signal: a queue may be full for ever."""
BATCH_MESSAGES = 1_000
BATCHES_IN_FLIGHT = 8
TIMEOUT_S = 30.0
FOREVER = float("inf")


class Sending(NamedTuple):
    """Where to publish, what with, and how to tell of it.

    Attributes:
        target: the name of a queue, or a subject.
        to_topic: whether it is a subject.
        envelope: the options of publish that hold for every message.
        verbose: whether to print ids.
        json: whether to print JSON.
        progress: what counts confirmed messages.
    """

    target: str
    to_topic: bool
    envelope: dict[str, Any]
    verbose: bool
    json: bool
    progress: Progress

    def open(self, broker: wherry.Broker) -> wherry.Queue | wherry.Topic:
        """The queue, or the topic."""
        return broker.topic(self.target) if self.to_topic else broker.queue(self.target)

    def confirmed(self, receipts: Sequence[wherry.Receipt | wherry.TopicReceipt]) -> None:
        """Tells of confirmed messages."""
        self.progress.add(len(receipts))
        if self.json:
            for receipt in receipts:
                of_queue = {"id": receipt.id} if isinstance(receipt, wherry.Receipt) else {}
                output.as_json_line({**of_queue, **receipt._asdict()})
        elif self.verbose:
            click.echo("\n".join(map(_told, receipts)))


def _told(receipt: wherry.Receipt | wherry.TopicReceipt) -> str:
    if isinstance(receipt, wherry.Receipt):
        return receipt.id
    return f"{receipt.subject} in {receipt.queues} {'queue' if receipt.queues == 1 else 'queues'}"


@click.command("publish", short_help="Put messages into a queue, or into all that take a subject.")
@click.argument("queue", metavar="QUEUE")
@click.argument("bodies", metavar="[BODY]...", nargs=-1)
@click.option("--lines", is_flag=True, help="Every line of standard input is a message.")
@click.option("--null", is_flag=True, help="Standard input holds messages with a NUL after each.")
@click.option("--file", metavar="FILE", help="The whole file is one message; - is standard input.")
@click.option("--delay", type=DURATION, metavar="TIME", help="Ready only after this time, such as 30, 250ms, 5m, 1h.")
@click.option("--ttl", type=DURATION, metavar="TIME", help="Expires when nobody has taken it within this time.")
@click.option("--priority", type=click.IntRange(0, 9), default=0, metavar="0-9", help="9 goes first.")
@click.option("--key", default="", help="What it belongs to, such as a customer.")
@click.option("--header", "headers", type=HEADER, multiple=True, metavar="NAME=VALUE", help="Can be given repeatedly.")
@click.option("--dedupe", default="", metavar="KEY", help="Not stored again while the queue remembers this key.")
@click.option("--track", is_flag=True, help="Remember how it ends, and with what result: see `wherry result`.")
@click.option(
    "--timeout",
    type=DURATION,
    metavar="TIME",
    help="How long to go on trying while the queue is full; else 30 s, and for ever with --lines and --null.",
)
@click.option("--topic", is_flag=True, help="QUEUE is a subject: publish into all queues that are bound to it.")
@click.option("--allow-unroutable", is_flag=True, help="With --topic: it is fine that no queue takes it.")
@click.option("-v", "--verbose", is_flag=True, help="Print the ids; with --topic, how many queues have each message.")
@click.pass_obj
def command(
    given: Globals,
    /,
    queue: str,
    bodies: tuple[str, ...],
    *,
    lines: bool,
    null: bool,
    file: str | None,
    headers: tuple[tuple[str, str], ...],
    dedupe: str,
    timeout: float | None,
    topic: bool,
    allow_unroutable: bool,
    verbose: bool,
    **envelope: Any,
) -> int:
    """Put messages into QUEUE, and return once the broker has confirmed them.

    With --topic, QUEUE is a subject such as orders.eu.created, and a message goes into every queue that is bound to it
    (`wherry queue declare --bind`), or into none.

    Each BODY is a message. Without any, all of standard input is one.

    With --lines and --null, the messages keep their order, unless the queue is full meanwhile.

    \b
    Examples:
      wherry publish emails hello
      wherry publish emails --delay 5m --header kind=reminder "are you there?"
      wherry publish logs --lines < access.log
      wherry publish --topic orders.eu.created '{"id": 17}'
    """  # noqa: D301 (click's mark is the character itself)
    sources = sum((bool(bodies), lines, null, file is not None))
    if sources > 1:
        raise click.UsageError("give BODY arguments, --lines, --null or --file: one of them")
    if not sources and sys.stdin.isatty():
        raise click.UsageError("nothing to publish: give a BODY, --lines, --null or --file, or pipe something in")
    if dedupe and (lines or null or len(bodies) > 1):
        raise click.UsageError("--dedupe names one message, and there may be several here")
    if envelope["ttl"] == 0:
        raise click.UsageError("--ttl is a time to live, and 0 is none")
    _check_target(queue, envelope, topic=topic, allow_unroutable=allow_unroutable)
    envelope["headers"] = dict(headers)
    sending = Sending(queue, topic, envelope, verbose, given.json, Progress("published"))
    if lines or null:
        return _publish_stream(given, b"\n" if lines else b"\0", FOREVER if timeout is None else timeout, sending)
    found = [os.fsencode(body) for body in bodies] or [_whole(file or "-")]
    return _publish_few(given, found, dedupe, timeout, sending)


def _check_target(name: str, envelope: dict[str, Any], *, topic: bool, allow_unroutable: bool) -> None:
    """Checks where to, and leaves in the envelope what only a queue takes, or only a topic."""
    problem = subject_problem(name) if topic else queue_name_problem(name)
    if problem:
        raise click.UsageError(problem)
    if allow_unroutable and not topic:
        raise click.UsageError("--allow-unroutable is for --topic")
    if topic and envelope.pop("track"):
        raise click.UsageError("--track is for a queue, and not for --topic")
    if allow_unroutable:
        envelope["allow_unroutable"] = True


def _whole(path: str) -> bytes:
    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            body = sys.stdin.buffer.read(BODY_BYTES_MAX + 1)
        else:
            with Path(path).open("rb") as file:
                body = file.read(BODY_BYTES_MAX + 1)
    except OSError as error:
        fail(f"{name} cannot be read: {error.strerror}")
    if len(body) > BODY_BYTES_MAX:
        fail(f"{name} is longer than {BODY_BYTES_MAX} bytes, which no message can be")
    return body


def _publish_few(given: Globals, bodies: list[bytes], dedupe: str, timeout: float | None, sending: Sending) -> int:
    async def work(broker: wherry.Broker) -> None:
        target = sending.open(broker)
        if len(bodies) == 1:
            receipt = await target.publish(bodies[0], dedupe=dedupe, timeout=timeout, **sending.envelope)
            sending.confirmed([receipt])
        else:
            sending.confirmed(await target.publish_many(bodies, timeout=timeout, **sending.envelope))

    return remote.run(given, work, TIMEOUT_S)


def _publish_stream(given: Globals, separator: bytes, timeout: float, sending: Sending) -> int:
    async def work(broker: wherry.Broker) -> None:
        stop = remote.stop_on_signal()
        source = Input(sys.stdin.fileno(), stop)
        streaming = asyncio.create_task(Stream(sending.open(broker), timeout, sending).send(source, separator))
        await asyncio.wait((streaming, stop), return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            await asyncio.wait((streaming,), timeout=STOP_S)
            streaming.cancel()
            await asyncio.wait((streaming,))
            fail("interrupted", 128 + stop.result())
        await streaming

    try:
        return remote.run(given, work, TIMEOUT_S)
    except Failure as failure:
        if sending.progress.count:
            fail(f"{failure} ({output.counted(sending.progress.count, 'message')} published before)", failure.code)
        raise
    finally:
        sending.progress.end()


class Stream:
    """Publishes what comes in batches, several of them in flight.

    Args:
        target: where to.
        timeout: how long to go on trying while it is full, in seconds.
        sending: what to publish with.
    """

    def __init__(self, target: wherry.Queue | wherry.Topic, timeout: float, sending: Sending) -> None:
        self._target = target
        self._timeout = timeout
        self._sending = sending
        self._window = asyncio.Semaphore(BATCHES_IN_FLIGHT)

    async def send(self, source: Input, separator: bytes) -> None:
        """Publishes all that comes, and returns when it is confirmed."""
        async with asyncio.TaskGroup() as group:
            async for pieces in source.pieces(separator):
                for start in range(0, len(pieces), BATCH_MESSAGES):
                    await self._window.acquire()
                    group.create_task(self._send(pieces[start : start + BATCH_MESSAGES]))

    async def _send(self, bodies: list[bytes]) -> None:
        try:
            await self._publish(bodies)
        finally:
            self._window.release()

    async def _publish(self, bodies: list[bytes]) -> None:
        """Publishes one batch; halves it when it is more than the queue can ever hold at a time."""
        try:
            receipts = await self._target.publish_many(bodies, timeout=self._timeout, **self._sending.envelope)
        except wherry.TooLarge:
            if len(bodies) == 1:
                raise
            middle = len(bodies) // 2
            await self._publish(bodies[:middle])
            await self._publish(bodies[middle:])
        else:
            self._sending.confirmed(receipts)
