"""One worker process: `python -m wherry.tasks.serving JSON`; what starts, watches and ends it is the supervisor."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry import errors
from wherry.tasks.loading import load
from wherry.tasks.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

RECYCLE = 75
"""The exit code of a process that wants to be replaced; sysexits.h calls it EX_TEMPFAIL."""
REFUSED, UNREACHABLE = 1, 3
"""The exit codes of the command line for what a broker refuses, and for no broker."""
READY = "ready"

logger = logging.getLogger("wherry.tasks")


class Settings(NamedTuple):
    """What one worker process is told.

    Attributes:
        address: where its tasks are, such as `myapp.mail:tasks`.
        url: the broker; "" for what the tasks say.
        token: what to show to it; "" for what the tasks say.
        concurrency: how many jobs run at a time.
        prefetch: how many more may be here; -1 for as many.
        grace: how long jobs may go on when the worker is to stop, in seconds.
        queues: the queues to take jobs from; none for all.
        max_jobs: after how many jobs the process is replaced; 0 for never.
        max_memory_bytes: at how much memory the process is replaced; 0 for never.
    """

    address: str
    url: str = ""
    token: str = ""
    concurrency: int = 20
    prefetch: int = -1
    grace: float = 30.0
    queues: list[str] = []  # noqa: RUF012 (never changed; JSON knows no tuples)
    max_jobs: int = 0
    max_memory_bytes: int = 0


def memory_bytes() -> int:
    """How much memory this process has."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:  # no Linux: what it had at most is what can be known
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def is_enough(settings: Settings, done: int) -> bool:
    """Whether a process that has done so many jobs is to be replaced."""
    if settings.max_jobs and done >= settings.max_jobs:
        return True
    return bool(settings.max_memory_bytes) and memory_bytes() >= settings.max_memory_bytes


async def serve(settings: Settings) -> int:
    """Works until a signal says to stop, or it is enough; returns the exit code."""
    tasks = load(settings.address)
    if settings.url:
        tasks.url = settings.url
    if settings.token:
        tasks.connection["token"] = settings.token
    enough = False

    def is_it(done: int) -> bool:
        nonlocal enough
        enough = is_enough(settings, done) or bool(worker.overruns)
        return enough

    worker = Worker(
        tasks,
        concurrency=settings.concurrency,
        prefetch=None if settings.prefetch < 0 else settings.prefetch,
        grace=settings.grace,
        queues=settings.queues or None,
        enough=is_it,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run(_say_ready)
    logger.info("stopped; jobs done: %d", worker.done)
    return RECYCLE if enough else 0


def _say_ready() -> None:
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()


def main(loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    """Runs one process, as its only argument says.

    Args:
        loop_factory: makes the event loop; the standard one when not given.
    """
    given: dict[str, Any] = json.loads(sys.argv[1])
    logging.basicConfig(
        level=given.pop("log_level", "INFO"), format="%(asctime)s %(levelname)-8s %(message)s", stream=sys.stderr
    )
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            sys.exit(runner.run(serve(Settings(**given))))
        except errors.WherryError as error:
            logger.error("%s", error)  # noqa: TRY400 (the world's fault: its text says all)
            sys.exit(UNREACHABLE if isinstance(error, errors.Disconnected) else REFUSED)


if __name__ == "__main__":
    main()
