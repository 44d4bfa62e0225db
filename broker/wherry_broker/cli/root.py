"""The root of the command line: global options, and commands that are imported only when they are called.

Every failure is one line on standard error, beginning with `wherry:`, and an exit code of `Exit`; a traceback is a bug.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from wherry_broker import version

if TYPE_CHECKING:
    from collections.abc import Sequence

URL = "wherry://127.0.0.1:7117"


class Exit(IntEnum):
    """The exit codes of all commands."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    TIMED_OUT = 4
    BUG = 70
    IO_FAILED = 74


class Failure(Exception):
    """The command ends here: one line for the user, and the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Globals(NamedTuple):
    """The options in front of the command; the token is that of an application, which goes behind the user's.

    Attributes:
        is_url_said: whether the address is that of --url.
    """

    url: str
    token_file: str
    json: bool
    token: str = ""
    is_url_said: bool = False


class LazyGroup(click.Group):
    """Commands by name, each imported when it is called.

    Attributes:
        package: where the modules of its commands are.
        lazy: command name to its help line; the command `x` is the object `command` of the module `x` there.
    """

    package = "wherry_broker.cli"
    lazy: dict[str, str]

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """All names, in the order of the table."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Imports the command."""
        if cmd_name not in self.lazy:
            return None
        command: click.Command = importlib.import_module(f"{self.package}.{cmd_name}").command
        return anywhere(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Writes the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lazy.items()))


class Root(LazyGroup):
    """The group of all commands."""

    lazy = {  # noqa: RUF012 (never changed)
        "serve": "Run the broker.",
        "config": "Show every setting of the broker, and where it comes from.",
        "ping": "See whether the broker answers.",
        "publish": "Put messages into a queue.",
        "consume": "Take messages out of a queue.",
        "request": "Publish a request, and print the reply.",
        "move": "Move messages from one queue to another.",
        "queue": "List, declare, alter, look at, purge, pause or delete queues.",
        "get": "Show one message.",
        "status": "Show how a message stands, or how it ended.",
        "why": "Say why a message is not worked on now.",
        "result": "Print what came of a message.",
        "cancel": "Take messages out for good, whatever their state.",
        "store": "Put, get, delete, count up or watch values by key.",
        "dead": "List, show, redrive or purge dead messages.",
        "schedule": "List, add, pause, resume, remove or run schedules.",
        "task": "List, send, look at or cancel jobs of an application's tasks.",
        "worker": "Do the jobs of an application's tasks.",
        "top": "Watch the broker, its queues and who consumes them.",
        "backup": "Copy the log of a broker that runs.",
        "log": "Check, print or repair the log of a broker that does not run.",
    }


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 (click's signature)
    if value:
        click.echo(f"wherry {version()}")
        ctx.exit()


def _check_no_token(url: str | None) -> None:
    if url and "@" in url:
        raise click.UsageError(
            "a token on the command line can be read by everyone on this machine: "
            "use WHERRY_TOKEN, WHERRY_URL or --token-file"
        )


def _global_options(**how: Any) -> list[click.Option]:
    """The options of all commands."""
    return [
        click.Option(["--url"], metavar="URL", help=f"The broker's address, such as {URL}. [WHERRY_URL]", **how),
        click.Option(
            ["--token-file"], metavar="FILE", help="A file that holds the token; else WHERRY_TOKEN is shown.", **how
        ),
        click.Option(["--json"], is_flag=True, help="Print JSON.", **how),
    ]


def _given_behind(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value:
        if param.name == "url":
            _check_no_token(value)
        given: Globals = ctx.obj
        said = given.is_url_said or param.name == "url"
        ctx.obj = given._replace(**{str(param.name): value}, is_url_said=said)


def anywhere(command: click.Command) -> click.Command:
    """Lets a command, and those in it, take the options of all commands behind its name too."""
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        anywhere(each)
    own = {option for param in command.params for option in param.opts}
    for option in _global_options(hidden=True, expose_value=False, callback=_given_behind):
        if not own & set(option.opts):
            command.params.append(option)
    return command


@click.command(
    cls=Root,
    params=list[click.Parameter](_global_options()),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="--url, --token-file and --json may stand behind the command as well. "
    "Exit codes: 0 done, 1 refused by the broker, 2 wrong usage, 3 could not connect, 4 timed out, "
    "74 input or output failed.",
)
@click.option("--version", is_flag=True, is_eager=True, help="Show the version.", expose_value=False, callback=_version)
@click.pass_context
def command(ctx: click.Context, /, url: str | None, token_file: str | None, *, json: bool) -> None:
    """Wherry, a small and fast message broker.

    Start one with `wherry serve`, then try `wherry publish emails hello` and `wherry consume emails`.
    """
    _check_no_token(url)
    environ = os.environ
    ctx.obj = Globals(
        url or environ.get("WHERRY_URL") or URL,
        token_file or environ.get("WHERRY_TOKEN_FILE") or "",
        json,
        is_url_said=bool(url),
    )


def run(arguments: Sequence[str]) -> int:
    """Runs one command line.

    Returns:
        The exit code.
    """
    try:
        result: Any = command.main(list(arguments), "wherry", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (the outermost frame: nothing is above)
        result = _ended(error)
    except SystemExit:  # click's way out when nobody reads standard output any more
        result = Exit.DONE
    _leave_output()
    return result if isinstance(result, int) else Exit.DONE


def fail(text: str, code: int = Exit.USAGE) -> NoReturn:
    """Ends the command.

    Raises:
        Failure: always.
    """
    raise Failure(text, code)


def _ended(error: BaseException) -> int:
    """Tells the user how a command failed; returns the exit code."""
    code: int = Exit.USAGE
    match error:
        case Failure():
            text, code = str(error), error.code
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return code
        case click.ClickException():
            text = _usage(error)
        case click.Abort() | KeyboardInterrupt():
            text, code = "interrupted", 130
        case OSError():
            text, code = f"input or output failed: {error.strerror or error}", Exit.IO_FAILED
        case _:
            text, code = _bug(error), Exit.BUG
    click.echo(f"wherry: {text}", err=True)
    return code


def _usage(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
    return f"{text.removesuffix('.')} (see {path} --help)" if path else text


def _bug(error: BaseException) -> str:
    if os.environ.get("WHERRY_TRACEBACK"):
        traceback.print_exception(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return f"this is a bug: {error!r} at {where}; WHERRY_TRACEBACK=1 shows the way there"


def _leave_output() -> None:
    """Lets the interpreter end without a complaint about a standard output that takes nothing any more."""
    try:
        sys.stdout.flush()
    except OSError:  # who wrote there has heard of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
