"""`wherry cancel`: takes messages out for good, whatever their state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wherry.model.names import message_id
from wherry_broker.cli import output, remote
from wherry_broker.cli.params import MESSAGE_ID
from wherry_broker.cli.root import Exit

if TYPE_CHECKING:
    import wherry
    from wherry_broker.cli.root import Globals


@click.command("cancel", short_help="Take messages out for good, whatever their state.")
@click.argument("messages", type=MESSAGE_ID, nargs=-1, required=True, metavar="ID...")
@click.pass_obj
def command(given: Globals, /, messages: tuple[tuple[str, int], ...]) -> int:
    """Take the messages ID (such as emails/42) out for good, whatever their state.

    What they have sent goes with them: the jobs of a task that calls others. A consumer that holds one is told, and
    cannot settle it. The exit code is 1 when there was nothing to take out.
    """
    return cancel(given, messages)


def cancel(given: Globals, messages: tuple[tuple[str, int], ...]) -> int:
    """Cancels messages, and says of each whether it was there; returns the exit code."""

    async def run(broker: wherry.Broker) -> int:
        gone = {message_id(queue, offset): await broker.queue(queue).cancel(offset) for queue, offset in messages}
        if given.json:
            output.as_json({name: bool(count) for name, count in gone.items()})
        else:
            for name, count in gone.items():
                click.echo(f"{name} {_told(count)}")
        return Exit.DONE if all(gone.values()) else Exit.REFUSED

    return remote.run(given, run)


def _told(count: int) -> str:
    """What a cancel has done, by how many messages went."""
    if count == 0:
        return "is not there"
    family = f", with what has come of it: {output.counted(count, 'message')} in all" if count > 1 else ""
    return f"cancelled{family}"
