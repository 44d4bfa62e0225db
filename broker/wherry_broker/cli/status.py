"""`wherry status`: how a message stands, or how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wherry_broker.cli import output, remote
from wherry_broker.cli.params import MESSAGE_ID

if TYPE_CHECKING:
    import wherry
    from wherry.model.status import Status
    from wherry_broker.cli.root import Globals


@click.command("status", short_help="Show how a message stands, or how it ended.")
@click.argument("message", type=MESSAGE_ID, metavar="ID")
@click.pass_obj
def command(given: Globals, /, message: tuple[str, int]) -> int:
    """How the message ID (such as emails/42) stands, or how it ended, if it was published with --track."""

    async def run(broker: wherry.Broker) -> None:
        queue, offset = message
        show(given, fields_of(await broker.queue(queue).status(offset)))

    return remote.run(given, run)


def show(given: Globals, fields: dict[str, Any]) -> None:
    """Prints what `fields_of` gave: on a line each, or as JSON."""
    if given.json:
        output.as_json(fields)
        return
    history = fields.pop("history")
    rows = [(name, output.plain(value)) for name, value in fields.items() if value not in (None, "")]
    rows += [("history", " ".join(filter(None, event.values()))) for event in history]
    output.as_table(("what", "value"), rows)


def fields_of(status: Status) -> dict[str, Any]:
    """A status for JSON."""
    fields = output.fields_of(status)
    body = fields.pop("result")
    if body is not None:
        fields |= output.body_fields(body, "result")
    for name in ("leased_at", "due_at", "ended_at"):
        fields[name] = output.moment(fields[name])
    history = [{**event._asdict(), "at": output.moment(event.at)} for event in status.history]
    return {**fields, "history": history}
