"""`wherry queue`: list, declare, alter, look at, purge, pause and delete queues."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from wherry_broker.cli import output, remote
from wherry_broker.cli.options import given_options, queue_options
from wherry_broker.cli.output import counted
from wherry_broker.cli.params import QUEUE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import wherry
    from wherry_broker.cli.root import Globals

PEEK_MAX = 1_000
STATES = ("ready", "delayed", "leased", "dead")


@click.group("queue", short_help="List, declare, alter, look at, purge, pause or delete queues.")
def command() -> None:
    """List, declare, alter, look at, purge, pause or delete queues."""


def _on_queue(
    given: Globals,
    queue: str,
    work: Callable[[wherry.Queue], Awaitable[dict[str, Any]]],
    said: Callable[[dict[str, Any]], str],
) -> int:
    """Does something to a queue, and says so: with --json what the work returned, else what `said` makes of that."""

    async def run(broker: wherry.Broker) -> None:
        told = {"queue": queue, **await work(broker.queue(queue))}
        if given.json:
            output.as_json(told)
        else:
            click.echo(said(told))

    return remote.run(given, run)


@command.command("list", short_help="All queues, with their counts.")
@click.argument("prefix", default="")
@click.pass_obj
def list_queues(given: Globals, /, prefix: str) -> int:
    """All queues whose name begins with PREFIX, with their counts."""

    async def run(broker: wherry.Broker) -> None:
        rows = await broker.queues(prefix)
        if given.json:
            output.as_json([row._asdict() for row in rows])
        else:
            output.as_table(("queue", "ready", "delayed", "leased", "dead", "bytes", "consumers"), rows)

    return remote.run(given, run)


@command.command("info", short_help="One queue: counts, rates and options.")
@click.argument("queue", type=QUEUE)
@click.pass_obj
def info(given: Globals, /, queue: str) -> int:
    """The counts, rates and options of QUEUE."""

    async def run(broker: wherry.Broker) -> None:
        fields = output.fields_of(await broker.queue(queue).info())
        if given.json:
            output.as_json(fields)
            return
        for name in ("removed", "ended", "options"):
            fields |= {f"{name}.{key}": value for key, value in fields.pop(name).items()}
        output.as_table(("what", "value"), [(name, output.plain(value)) for name, value in fields.items()])

    return remote.run(given, run)


@command.command("declare", short_help="Create a queue, or check that it has these options.")
@click.argument("queue", type=QUEUE)
@queue_options
@click.pass_obj
def declare(given: Globals, /, queue: str, **flags: Any) -> int:
    """Create QUEUE, or check that it has these options.

    A TIME is seconds, or a number with ms, s, m, h or d. What is not given is the broker's default for a new queue,
    and is not looked at when the queue is there already. `wherry queue alter` changes options.
    """

    async def run(broker: wherry.Broker) -> None:
        await broker.declare(queue, **given_options(flags))
        if given.json:
            output.as_json({"queue": queue})
        else:
            click.echo(f"{queue} declared")

    return remote.run(given, run)


@command.command("alter", short_help="Change options of a queue.")
@click.argument("queue", type=QUEUE)
@queue_options
@click.pass_obj
def alter(given: Globals, /, queue: str, **flags: Any) -> int:
    """Change options of QUEUE; what is not given stays as it is."""
    options = given_options(flags)
    if not options:
        raise click.UsageError("name at least one option to change")

    async def work(target: wherry.Queue) -> dict[str, Any]:
        return {"options": (await target.alter(**options)).options}

    return _on_queue(given, queue, work, lambda _: f"{queue} altered")


@command.command("purge", short_help="Remove messages from a queue.")
@click.argument("queue", type=QUEUE)
@click.option(
    "--state", "states", type=click.Choice(("ready", "delayed", "dead")), multiple=True, help="Only these messages."
)
@click.pass_obj
def purge(given: Globals, /, queue: str, states: tuple[str, ...]) -> int:
    """Remove all ready and delayed messages of QUEUE, or those in the states given."""

    async def work(target: wherry.Queue) -> dict[str, Any]:
        return {"purged": await target.purge(*states)}

    return _on_queue(given, queue, work, lambda told: f"{counted(told['purged'], 'message')} purged from {queue}")


@command.command("delete", short_help="Remove a queue with all that it holds.")
@click.argument("queue", type=QUEUE)
@click.pass_obj
def delete(given: Globals, /, queue: str) -> int:
    """Remove QUEUE with all that it holds."""

    async def work(target: wherry.Queue) -> dict[str, Any]:
        return {"deleted": await target.delete()}

    return _on_queue(given, queue, work, lambda told: f"{queue} deleted, with {counted(told['deleted'], 'message')}")


@command.command("pause", short_help="Stop the deliveries of a queue.")
@click.argument("queue", type=QUEUE)
@click.pass_obj
def pause(given: Globals, /, queue: str) -> int:
    """Stop the deliveries of QUEUE; publishes and settles go on."""

    async def work(target: wherry.Queue) -> dict[str, Any]:
        await target.pause()
        return {"paused": True}

    return _on_queue(given, queue, work, lambda _: f"{queue} paused")


@command.command("resume", short_help="Start the deliveries of a queue again.")
@click.argument("queue", type=QUEUE)
@click.pass_obj
def resume(given: Globals, /, queue: str) -> int:
    """Start the deliveries of QUEUE again."""

    async def work(target: wherry.Queue) -> dict[str, Any]:
        await target.resume()
        return {"paused": False}

    return _on_queue(given, queue, work, lambda _: f"{queue} resumed")


@command.command("peek", short_help="Look at messages without taking them.")
@click.argument("queue", type=QUEUE)
@click.option("--limit", type=click.IntRange(1, PEEK_MAX), default=10, metavar="N", help="How many at most.  [10]")
@click.option("--state", type=click.Choice(STATES), default="ready", help="Which ones.  [ready]")
@click.option("--first", type=click.IntRange(0), default=0, metavar="OFFSET", help="Where to begin.")
@click.pass_obj
def peek(given: Globals, /, queue: str, limit: int, state: str, first: int) -> int:
    """Look at messages of QUEUE without taking them."""

    async def run(broker: wherry.Broker) -> None:
        messages = await broker.queue(queue).peek(limit, state=state, first=first)
        if given.json:
            output.as_json([output.message_fields(message) for message in messages])
            return
        rows = [
            (
                message.id,
                message.published_at.isoformat(timespec="milliseconds"),
                message.attempt,
                message.priority,
                message.key,
                json.dumps(message.headers, ensure_ascii=False, default=repr) if message.headers else "",
                output.body_cell(message.body),
            )
            for message in messages
        ]
        output.as_table(("id", "published", "attempts", "priority", "key", "headers", "body"), rows)

    return remote.run(given, run)
