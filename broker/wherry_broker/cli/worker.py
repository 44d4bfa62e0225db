"""`wherry worker`: do the jobs of an application's tasks."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry_broker.cli import output, remote
from wherry_broker.cli.params import SIZE
from wherry_broker.cli.root import Globals, fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.tasks.serving import Settings

PROCESS = "wherry_broker.cli.worker_process"
LEVELS = ("debug", "info", "warning", "error")


@click.command("worker", short_help="Do the jobs of an application's tasks.")
@click.argument("address", metavar="MODULE[:NAME]")
@click.option("--concurrency", type=click.IntRange(1), default=20, show_default=True, help="Jobs at a time, a process.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="How many processes.")
@click.option("--prefetch", type=click.IntRange(0), help="Jobs to have here beforehand, a process. [as many]")
@click.option("--queue", "queues", multiple=True, metavar="QUEUE", help="Only jobs of this queue; may be repeated.")
@click.option(
    "--grace", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds that jobs may go on at the end."
)
@click.option("--max-jobs", type=click.IntRange(1), help="Replace a process after so many jobs.")
@click.option("--max-memory", type=SIZE, help="Replace a process that has come to so much memory, such as 512MiB.")
@click.option("--reload", is_flag=True, help="Start again when a Python file below this folder changes.")
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="What to log.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    address: str,
    concurrency: int,
    processes: int,
    prefetch: int | None,
    queues: tuple[str, ...],
    grace: float,
    max_jobs: int | None,
    max_memory: int | None,
    log_level: str,
    *,
    reload: bool,
) -> int:
    """Do the jobs of the tasks at MODULE:NAME, such as myapp.mail:tasks (NAME is `tasks` when not given).

    When it is ready, it prints one line on standard output; it logs to standard error. SIGTERM or Ctrl-C lets the jobs
    that run end and hands the others back; a second one ends it at once. The broker is the one that the tasks name
    (which is WHERRY_URL if they name none), unless --url says another.
    """
    from wherry.tasks.serving import Settings  # noqa: PLC0415 (`wherry worker --help` needs none of it)
    from wherry_broker.cli import application  # noqa: PLC0415

    given: Globals = ctx.obj
    served = application.load(address).by_queue()
    for name in queues:
        if name not in served:
            fail(f"no task of {address} has the queue {name!r}; they have {', '.join(sorted(served)) or 'none'}")
    settings = Settings(
        address,
        application.said_url(ctx),
        remote.token(given),
        concurrency,
        -1 if prefetch is None else prefetch,
        grace,
        list(queues),
        max_jobs or 0,
        max_memory or 0,
    )
    what = output.counted(sum(len(served[name]) for name in (queues or served)), "task")
    where = output.counted(len(queues or served), "queue")
    text = f"wherry worker ready: {what} in {where}, {processes} x {concurrency} jobs"
    return asyncio.run(_run(settings, processes, log_level.upper(), lambda: click.echo(text), reload=reload))


async def _run(settings: Settings, processes: int, level: str, ready: Callable[[], None], *, reload: bool) -> int:
    from wherry.tasks.supervisor import Supervisor  # noqa: PLC0415

    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-8s %(message)s", stream=sys.stderr)
    watched = (Path.cwd(),) if reload else ()
    supervisor = Supervisor(
        settings, processes=processes, log_level=level, module=PROCESS, watched=watched, ready=ready
    )
    loop = asyncio.get_running_loop()
    stopping = False

    def stop(number: signal.Signals) -> None:
        nonlocal stopping
        if stopping:
            supervisor.kill()
            os._exit(128 + number)
        stopping = True
        supervisor.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return await supervisor.run()
