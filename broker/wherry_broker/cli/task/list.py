"""`wherry task list`: the tasks of an application."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

import wherry
from wherry.tasks.policy import Options
from wherry_broker.cli import application, output, remote
from wherry_broker.cli.task.spelling import jsonable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wherry.tasks import Task

COUNTS = ("ready", "delayed", "leased", "dead", "consumers")
HEAD = ("task", "queue", *COUNTS, "options")
DEFAULTS = Options()


@click.command("list", short_help="The tasks of an application.")
@click.argument("address", metavar="MODULE[:NAME]")
@click.pass_context
def command(ctx: click.Context, /, address: str) -> int:
    """The tasks at MODULE:NAME, such as myapp.mail:tasks (NAME is `tasks` when not given).

    The counts are those of a task's queue: how many jobs wait (ready, or delayed), run (leased) or are dead. Tasks that
    share a queue show the same ones; `wherry task jobs QUEUE` tells them apart. Options are shown where they are not
    the default.
    """
    tasks = application.load(address)
    given = application.on_broker_of(tasks, ctx)

    async def run(broker: wherry.Broker) -> None:
        queues = list(tasks.by_queue())
        counts = dict(zip(queues, await asyncio.gather(*(_counts(broker, name) for name in queues)), strict=True))
        rows: list[dict[str, Any]] = [
            {"task": name, "queue": task.queue, **counts[task.queue], "options": options_of(task, tasks.schedules)}
            for name, task in sorted(tasks.known.items())
        ]
        if given.json:
            output.as_json(rows)
        else:
            output.as_table(HEAD, [(*list(row.values())[:-1], options_text(row["options"])) for row in rows])

    return remote.run(given, run)


async def _counts(broker: wherry.Broker, queue: str) -> dict[str, int]:
    """The counts of a queue; one that is not there yet holds nothing."""
    try:
        info = await broker.queue(queue).info()
    except wherry.NotFound:
        return dict.fromkeys(COUNTS, 0)
    return {name: getattr(info, name) for name in COUNTS}


def options_of(task: Task[..., Any], schedules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The options of a task that are not the default, with those of its queue and its schedule, as JSON has them."""
    defined = task.defined
    told = {each.name: getattr(defined, each.name) for each in fields(defined)}
    told = {name: value for name, value in told.items() if value != getattr(DEFAULTS, name)}
    told.pop("queue", None)
    told |= told.pop("queue_options", {})
    told |= {name: value for name, value in schedules.get(task.name, {}).items() if name != "track"}  # all are tracked
    return {name: jsonable(value) for name, value in told.items()}


def options_text(options: Mapping[str, Any]) -> str:
    """Options for one cell."""
    texts = ((name, str(output.plain(value))) for name, value in options.items())
    return " ".join(f'{name}="{text}"' if " " in text else f"{name}={text}" for name, text in texts)
