"""The application whose tasks a command is about: finding it, and the broker that it names."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.tasks.loading import NoTasks
from wherry.tasks.loading import load as load_tasks
from wherry_broker.cli.root import Globals, fail

if TYPE_CHECKING:
    import click

    from wherry.tasks import Tasks


def load(address: str) -> Tasks:
    """The tasks at MODULE[:NAME].

    Raises:
        Failure: there are none, or the module cannot be imported.
    """
    try:
        return load_tasks(address)
    except NoTasks as error:
        fail(str(error))
    except Exception as error:  # noqa: BLE001 (the outermost frame of the application's module)
        fail(_broken(address, error))


def _broken(address: str, error: Exception) -> str:
    """Why a module cannot be imported, in one line."""
    if os.environ.get("WHERRY_TRACEBACK"):
        traceback.print_exception(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if isinstance(error, SyntaxError) else f" at {Path(last.filename).name}:{last.lineno}"
    what = f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
    return f"{address.partition(':')[0]} cannot be imported: {what}; WHERRY_TRACEBACK=1 shows the way there"


def said_url(ctx: click.Context) -> str:
    """The broker's address, if --url says it; "" when not: then it is that of the tasks, as it is for their callers.

    They take it from WHERRY_URL themselves, if they name none.
    """
    given: Globals = ctx.obj
    return given.url if given.is_url_said else ""


def on_broker_of(tasks: Tasks, ctx: click.Context) -> Globals:
    """The options in front of the command, with the address and the token of the tasks where the user says none."""
    given: Globals = ctx.obj
    token = str(tasks.connection.get("token", ""))
    return given._replace(url=said_url(ctx) or tasks.url, token=token)
