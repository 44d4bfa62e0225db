"""`wherry get`: one message, whatever its state; looking at it is no delivery."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from wherry_broker.cli import output, remote
from wherry_broker.cli.params import MESSAGE_ID
from wherry_broker.cli.root import Exit, fail

if TYPE_CHECKING:
    import wherry
    from wherry_broker.cli.root import Globals


@click.command("get", short_help="Show one message.")
@click.argument("message", type=MESSAGE_ID, metavar="ID")
@click.pass_obj
def command(given: Globals, /, message: tuple[str, int]) -> int:
    """All that is known of the message ID, such as emails/42; looking at it is no delivery."""
    return show(given, message)


def show(given: Globals, message: tuple[str, int], state: str = "") -> int:
    """Prints all that is known of a message.

    Args:
        given: the options in front of the command.
        message: its queue and its offset.
        state: the state that it must be in; "" for any.

    Returns:
        The exit code.
    """

    async def run(broker: wherry.Broker) -> None:
        queue, offset = message
        found = await broker.queue(queue).find(offset)
        if state and found.state != state:
            fail(f"message {found.id} is {found.state}, not {state}", Exit.REFUSED)
        fields = output.peeked_fields(found)
        if given.json:
            output.as_json(fields)
            return
        fields["headers"] = json.dumps(found.headers, ensure_ascii=False, default=repr) if found.headers else ""
        output.as_table(("what", "value"), [(name, output.plain(value)) for name, value in fields.items()])

    return remote.run(given, run)
