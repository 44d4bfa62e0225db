"""`wherry task send`: makes a call of a task, which a worker does."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import click

from wherry.tasks.function import BadArguments
from wherry.tasks.registry import publishes
from wherry.tasks.task import Job
from wherry.tasks.values import pack
from wherry_broker.cli import application, output, remote
from wherry_broker.cli.params import DURATION, HEADER, MOMENT, QUEUE
from wherry_broker.cli.root import fail
from wherry_broker.cli.task import result
from wherry_broker.cli.task.spelling import argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    import wherry
    from wherry.tasks import Task, Tasks
    from wherry.tasks.function import Function
    from wherry_broker.cli.root import Globals

TIMEOUT_S = 30.0


@click.command("send", short_help="Have a task done by a worker.")
@click.argument("words", nargs=-1, required=True, metavar="[MODULE[:NAME]] TASK [ARG]...")
@click.option("--queue", type=QUEUE, metavar="QUEUE", help="Do without the application: put the job into this queue.")
@click.option("--kw", "named", type=HEADER, multiple=True, metavar="NAME=ARG", help="A named argument; repeatable.")
@click.option("--wait", type=DURATION, metavar="TIME", help="Wait so long for the result, and print it.")
@click.option("--delay", type=DURATION, metavar="TIME", help="Not before this time has passed, such as 30, 5m, 1h.")
@click.option("--at", type=MOMENT, metavar="MOMENT", help="Not before this, such as 2026-05-01T03:00+02:00.")
@click.option("--ttl", type=DURATION, metavar="TIME", help="Wanted no more when nobody has begun it by then.")
@click.option("--priority", type=click.IntRange(0, 9), metavar="0-9", help="9 goes first.")
@click.option("--key", metavar="KEY", help="What it belongs to, such as a customer.")
@click.option("--dedupe", default="", metavar="KEY", help="Not stored again while the queue remembers this key.")
@click.option(
    "--timeout", type=DURATION, default=TIMEOUT_S, metavar="TIME", help="How long to try while the queue is full.  [30]"
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    queue: str | None,
    named: tuple[tuple[str, str], ...],
    wait: float | None,
    timeout: float,
    **options: Any,
) -> int:
    """Send a job of the TASK at MODULE:NAME, such as myapp.mail:tasks (NAME is `tasks` when not given); print its id.

    An ARG is JSON, and what is none is text. With the application at hand, arguments are checked against the function
    and read as its annotations say. With --queue the application is not imported: only the worker checks them, and what
    JSON has no type for cannot be sent. What begins with - goes behind --.

    With --wait the result is printed as `wherry task result` does, and the exit codes are the same.

    \b
    Examples:
      wherry task send shop:tasks shop.price apple --kw count=3 --wait 10
      wherry task send shop:tasks refund 17 --delay 5m --priority 9
      wherry task send --queue shop.price shop.price apple 3
    """  # noqa: D301 (click's mark is the character itself)
    if queue is None:
        job, given = _of_application(ctx, words, named, options)
    else:
        job, given = _by_name(queue, words, named, options), ctx.obj

    async def run(broker: wherry.Broker) -> None:
        (((body,), publish),) = publishes([job])
        receipt = await broker.queue(job.queue).publish(body, timeout=timeout, **publish)
        if wait is not None:
            await result.show(given, broker, job.queue, receipt.offset, wait)
        elif given.json:
            output.as_json({"id": receipt.id, "task": job.task, **receipt._asdict()})
        else:
            click.echo(receipt.id)

    return remote.run(given, run, max(timeout, remote.TIMEOUT_S))


def _of_application(
    ctx: click.Context, words: Sequence[str], named: Sequence[tuple[str, str]], options: dict[str, Any]
) -> tuple[Job, Globals]:
    """A job of a task of an application, and the options in front of the command with the application's broker."""
    address, *rest = words
    if not rest:
        raise click.UsageError("name the application and the task, or give --queue QUEUE and the task")
    tasks = application.load(address)
    task = find(tasks, rest[0], address)
    function = task.function
    try:
        args = tuple(_argument(function, place, text) for place, text in enumerate(rest[1:]))
        kwargs = {name: _argument(function, name, text) for name, text in named}
        job = task.options(**options).job(args, kwargs)
        function.unpack(job.body)  # as the worker does
    except BadArguments as error:
        fail(str(error))
    return job, application.on_broker_of(tasks, ctx)


def _argument(function: Function, parameter: int | str, text: str) -> Any:
    try:
        return argument(text, function.annotation(parameter))
    except ValueError as error:
        which = f"argument {parameter + 1}" if isinstance(parameter, int) else f"parameter {parameter!r}"
        raise BadArguments(f"task {function.name!r}, {which}: {error}") from None


def find(tasks: Tasks, name: str, address: str) -> Task[..., Any]:
    """The task of a name; what stands before its last dot may be left out, if only one task ends so.

    Raises:
        Failure: there is none, or more than one.
    """
    if name in tasks.known:
        return tasks.known[name]
    found = [each for each in tasks.known if each.endswith(f".{name}")]
    if not found:
        close = difflib.get_close_matches(name, {*tasks.known, *(each.rpartition(".")[2] for each in tasks.known)}, n=1)
        hint = f"is it {close[0]}?" if close else f"see `wherry task list {address}`"
        fail(f"{address} has no task {name!r}: {hint}")
    if len(found) > 1:
        fail(f"{name!r} may be {' or '.join(sorted(found))}")
    return tasks.known[found[0]]


def _by_name(queue: str, words: Sequence[str], named: Sequence[tuple[str, str]], options: dict[str, Any]) -> Job:
    """A job of a task of which only the name is known."""
    name, *rest = words
    publish = {each: value for each, value in options.items() if value not in (None, "")}
    try:
        body = pack([[argument(text) for text in rest], {each: argument(text) for each, text in named}])
    except ValueError as error:
        fail(str(error))
    return Job(name, queue, body, publish)
