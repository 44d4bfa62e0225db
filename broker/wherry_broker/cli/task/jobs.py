"""`wherry task jobs`: the jobs that a queue holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wherry.tasks.names import TASK_HEADER
from wherry_broker.cli import output, remote
from wherry_broker.cli.params import QUEUE
from wherry_broker.cli.task.spelling import Call

if TYPE_CHECKING:
    import wherry
    from wherry_broker.cli.root import Globals

HEAD = ("id", "state", "task", "arguments", "attempts", "priority", "key", "published", "error")
STATES = ("ready", "delayed", "leased", "dead")
LIMIT_MAX = 10_000


@click.command("jobs", short_help="The jobs that a queue holds.")
@click.argument("queue", type=QUEUE)
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--task", "name", metavar="NAME", help="Only those of this task.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=20, metavar="N", help="How many at most.  [20]")
@click.pass_obj
def command(given: Globals, /, queue: str, state: str | None, name: str | None, limit: int) -> int:
    """The jobs that QUEUE holds, oldest first: of which tasks they are, with what arguments, and how they stand.

    A task has a queue of its own, named as the task is, unless it names another one. Looking takes no job.
    """

    async def run(broker: wherry.Broker) -> None:
        rows = await _rows(broker.queue(queue), state or "", name, limit)
        if given.json:
            output.as_json(rows)
        else:
            output.as_table(HEAD, [list((row | {"arguments": cell(row["arguments"])}).values()) for row in rows])

    return remote.run(given, run)


async def _rows(queue: wherry.Queue, state: str, name: str | None, limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    first = 0
    while len(rows) < limit:
        page, first = await queue.look(limit, state, first)
        rows += [row for row in map(_row, page) if name is None or row["task"] == name]
        if not first:
            break
    return rows[:limit]


def _row(message: wherry.PeekedMessage) -> dict[str, Any]:
    call = Call.of(message.body)
    return {
        "id": message.id,
        "state": message.state,
        "task": task_of(message),
        "arguments": call.fields() if call else None,
        "attempts": message.attempt,
        "priority": message.priority,
        "key": message.key,
        "published": output.moment(message.published_at),
        "error": message.error,
    }


def task_of(message: wherry.PeekedMessage) -> str:
    """The name of the task that a message is a job of; "" when it is none."""
    try:
        return str(message.headers.get(TASK_HEADER, ""))
    except ValueError:  # its bytes are no message of this client's
        return ""


def cell(arguments: dict[str, Any] | None) -> str:
    """Arguments for one cell."""
    return output.body_cell(str(Call(**arguments)).encode()) if arguments else ""
