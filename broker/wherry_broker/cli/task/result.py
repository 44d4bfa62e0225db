"""`wherry task result`: what a job returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wherry.model.names import message_id
from wherry.tasks.values import unpack
from wherry_broker.cli import output, remote, waiting
from wherry_broker.cli.params import DURATION, MESSAGE_ID
from wherry_broker.cli.root import Exit, fail
from wherry_broker.cli.task.spelling import jsonable, value_text

if TYPE_CHECKING:
    import wherry
    from wherry_broker.cli.root import Globals


@click.command("result", short_help="Print what a job returned.")
@click.argument("job", type=MESSAGE_ID, metavar="ID")
@click.option("--wait", type=DURATION, default=0, show_default=True, metavar="TIME", help="How long to wait for it.")
@click.pass_obj
def command(given: Globals, /, job: tuple[str, int], wait: float) -> int:
    """Print what the job ID (such as mail/42) returned: text as it is, all else as JSON.

    While it waits, a line on the terminal tells how the job stands, and how far it is if it says so.

    The exit code is 1 when the job has ended without a result, and 4 when it has not ended in time.
    """
    return remote.run(given, lambda broker: show(given, broker, *job, wait))


async def show(given: Globals, broker: wherry.Broker, queue: str, offset: int, wait: float) -> None:
    """Waits for what a job returns, for at most so many seconds, and prints it.

    Raises:
        Failure: the job has ended without a result, or with one that is no task's.
    """
    body = await waiting.result(broker.queue(queue), offset, wait)
    name = message_id(queue, offset)
    try:
        value = unpack(body) if body else None
    except ValueError:
        fail(f"the result of {name} is not that of a task: `wherry result {name}` prints its bytes", Exit.REFUSED)
    if given.json:
        output.as_json({"id": name, "result": jsonable(value)})
    else:
        click.echo(value_text(value))
