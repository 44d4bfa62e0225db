"""`wherry why`: one line that says why a message is not worked on now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wherry_broker.cli import output, remote
from wherry_broker.cli.params import MESSAGE_ID

if TYPE_CHECKING:
    import wherry
    from wherry_broker.cli.root import Globals


@click.command("why", short_help="Say why a message is not worked on now.")
@click.argument("message", type=MESSAGE_ID, metavar="ID")
@click.pass_obj
def command(given: Globals, /, message: tuple[str, int]) -> int:
    """One line that says why the message ID (such as emails/42) is not worked on now."""

    async def run(broker: wherry.Broker) -> None:
        queue, offset = message
        status = await broker.queue(queue).status(offset)
        if given.json:
            output.as_json({"id": status.id, "state": status.state, "why": status.why})
        else:
            click.echo(output.printable(status.why))

    return remote.run(given, run)
