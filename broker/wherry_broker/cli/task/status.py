"""`wherry task status`: how a job stands, or how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import wherry
from wherry.tasks.values import unpack
from wherry_broker.cli import remote
from wherry_broker.cli.params import MESSAGE_ID
from wherry_broker.cli.status import fields_of, show
from wherry_broker.cli.task.jobs import task_of
from wherry_broker.cli.task.spelling import Call, jsonable, value_text

if TYPE_CHECKING:
    from wherry.model.status import Status
    from wherry_broker.cli.root import Globals


@click.command("status", short_help="Show how a job stands, or how it ended.")
@click.argument("job", type=MESSAGE_ID, metavar="ID")
@click.pass_obj
def command(given: Globals, /, job: tuple[str, int]) -> int:
    """How the job ID (such as mail/42) stands: its place and when it may start, who does it and how far it is.

    Or how it ended, with what it returned. Its task and arguments are shown as long as the broker has them: until it is
    done.
    """

    async def run(broker: wherry.Broker) -> None:
        queue, offset = job
        status = await broker.queue(queue).status(offset)
        fields = {"id": status.id, **await _call(broker.queue(queue), offset), **fields_of(status)}
        if status.result is not None:
            fields["result"] = _result(given, status, fields)
        show(given, fields)

    return remote.run(given, run)


async def _call(queue: wherry.Queue, offset: int) -> dict[str, Any]:
    """Which task a job is of, and its arguments, if its message is still there."""
    try:
        message = await queue.find(offset)
    except wherry.NotFound:
        return {}
    call = Call.of(message.body)
    return {"task": task_of(message), "arguments": str(call) if call else ""}


def _result(given: Globals, status: Status, fields: dict[str, Any]) -> Any:
    """What it returned, in the place of the bytes of that."""
    try:
        value = unpack(status.result) if status.result else None
    except ValueError:
        return fields.get("result")
    fields.pop("result_base64", None)
    return jsonable(value) if given.json else value_text(value)
