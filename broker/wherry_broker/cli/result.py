"""`wherry result`: what came of a message."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from wherry_broker.cli import output, remote, waiting
from wherry_broker.cli.params import DURATION, MESSAGE_ID

if TYPE_CHECKING:
    import wherry
    from wherry_broker.cli.root import Globals


@click.command("result", short_help="Print what came of a message.")
@click.argument("message", type=MESSAGE_ID, metavar="ID")
@click.option("--wait", type=DURATION, default=0, show_default=True, metavar="TIME", help="How long to wait for it.")
@click.pass_obj
def command(given: Globals, /, message: tuple[str, int], wait: float) -> int:
    """Print the result of the message ID (such as emails/42) as it is, once it has one.

    While it waits, a line on the terminal tells how the message stands, and how far the work on it is.

    The exit code is 1 when the message has ended without a result, and 4 when it has not ended in time.
    """

    async def run(broker: wherry.Broker) -> None:
        queue, offset = message
        body = await waiting.result(broker.queue(queue), offset, wait)
        if given.json:
            output.as_json({"id": f"{queue}/{offset}", **output.body_fields(body, "result")})
        else:
            sys.stdout.buffer.write(body + b"\n" * sys.stdout.isatty())
            sys.stdout.flush()

    return remote.run(given, run)
