"""`wherry top`: the broker, its queues and who consumes them, as they are now and again every second."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from typing import TYPE_CHECKING

import click

import wherry
from wherry.model.names import queue_name_problem
from wherry_broker.cli import board, output, remote
from wherry_broker.cli.params import DURATION
from wherry_broker.cli.root import fail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from wherry_broker.cli.root import Globals

EVERY_MIN_S = 0.1
QUIT_KEYS = frozenset(b"qQ")
KEYS_BYTES = 64


@click.command("top", short_help="Watch the broker, its queues and who consumes them.")
@click.argument("prefix", default="")
@click.option("--every", type=DURATION, default=1.0, metavar="TIME", help="How often to look.  [1]")
@click.option("--once", is_flag=True, help="Look once, and print plain text.")
@click.pass_obj
def command(given: Globals, /, prefix: str, every: float, *, once: bool) -> int:
    """Watch the broker, its queues whose name begins with PREFIX, and who consumes them, the busiest first.

    in/s and out/s are the messages published and acknowledged a second, lately; oldest is the age of the oldest message
    held; credit is how many messages more a client would take. The first 20 consumers of a queue are looked at, and of
    more than 200 queues the busiest.

    q or Ctrl-C ends it. In a pipe it looks once; with --json it prints a line each time.
    """
    if every < EVERY_MIN_S:
        fail(f"--every is at least {EVERY_MIN_S} s, not {every:g}")
    has_screen = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    once = once or not (given.json or has_screen)

    async def run(broker: wherry.Broker) -> None:
        views = look(broker, remote.address(given), prefix)
        if once:
            _print(given, await anext(views))
        elif given.json:
            async for view in paced(views, every, remote.stop_on_signal()):
                _print(given, view)
        else:
            await _live(views, every)

    return remote.run(given, run)


def _print(given: Globals, view: board.View) -> None:
    if given.json:
        output.as_json_line(board.fields(view))
    else:
        click.echo("\n".join(board.lines(view)))


async def look(broker: wherry.Broker, address: str, prefix: str) -> AsyncIterator[board.View]:
    """Views of the broker, each as it is when the next one is asked for."""
    view: board.View | None = None
    while True:
        state, listed = await asyncio.gather(broker.info(), broker.queues(prefix))
        counts = [row for row in listed if not queue_name_problem(row.name)]  # others are the broker's own
        infos = await asyncio.gather(*(_info(broker, name) for name in board.chosen(counts, view)))
        view = board.View.of(address, state, filter(None, infos), len(counts))
        yield view


async def _info(broker: wherry.Broker, queue: str) -> wherry.QueueInfo | None:
    try:
        return await broker.queue(queue).info()
    except wherry.NotFound:  # it was deleted meanwhile
        return None


async def paced(views: AsyncIterator[board.View], every: float, stop: remote.Stop) -> AsyncIterator[board.View]:
    """The views, one each so many seconds, until the user wants no more."""
    while not stop.done():
        yield await anext(views)
        await asyncio.wait((stop,), timeout=every)


async def _live(views: AsyncIterator[board.View], every: float) -> None:
    """Shows the views on the terminal, each in the place of the one before."""
    from rich.console import Console  # noqa: PLC0415 (only a screen needs it)
    from rich.live import Live  # noqa: PLC0415

    console = Console()
    stop = remote.stop_on_signal()
    with Live(console=console, screen=True, auto_refresh=False) as live, keys(stop):
        async for view in paced(views, every, stop):
            live.update(board.screen(view, *console.size), refresh=True)


@contextlib.contextmanager
def keys(stop: remote.Stop) -> Iterator[None]:
    """Has q end the command while the block lasts, where there is a keyboard."""
    if not sys.stdin.isatty():
        yield
        return
    keyboard = sys.stdin.fileno()

    def pressed() -> None:
        if QUIT_KEYS & set(os.read(keyboard, KEYS_BYTES)) and not stop.done():
            stop.set_result(0)

    loop = asyncio.get_running_loop()
    modes = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        loop.add_reader(keyboard, pressed)
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, modes)
