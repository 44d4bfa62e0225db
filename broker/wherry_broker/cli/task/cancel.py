"""`wherry task cancel`: cancels jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wherry_broker.cli.cancel import cancel
from wherry_broker.cli.params import MESSAGE_ID

if TYPE_CHECKING:
    from wherry_broker.cli.root import Globals


@click.command("cancel", short_help="Cancel jobs, whether they wait or run.")
@click.argument("jobs", type=MESSAGE_ID, nargs=-1, required=True, metavar="ID...")
@click.pass_obj
def command(given: Globals, /, jobs: tuple[tuple[str, int], ...]) -> int:
    """Cancel the jobs ID (such as mail/42), whether they wait or run, with all jobs that they have sent.

    An async task that runs is stopped; a sync one sees it by `current().cancelled`. The exit code is 1 when one of the
    jobs has ended already, or never was.
    """
    return cancel(given, jobs)
