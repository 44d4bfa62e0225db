"""`wherry serve`: run the broker."""

from __future__ import annotations

import contextlib
import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from wherry_broker import config
from wherry_broker.cli.root import Globals, fail

if TYPE_CHECKING:
    from collections.abc import Callable

_METAVARS: dict[type, str] = {int: "N", float: "SECONDS"}


def setting_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds a flag for every setting that may be one. All are text: the configuration checks them, like all others."""
    for name, spec in reversed(config.SPECS.items()):
        if spec.secret:
            continue
        flag = name.replace("_", "-")
        if config.KINDS[name] is bool:
            option = click.option(f"--{flag}/--no-{flag}", name, default=None, help=_sentence(name))
        else:
            metavar = "|".join(spec.choices) or _METAVARS.get(config.KINDS[name], "TEXT")
            option = click.option(f"--{flag}", name, metavar=metavar, help=_sentence(name))
        function = option(function)
    return function


def _sentence(name: str) -> str:
    text, default = config.SPECS[name].text, config.DEFAULTS[name]
    shown = (
        "" if default in {"", True, False} else f"  [{default:g}]" if isinstance(default, float) else f"  [{default}]"
    )
    return f"{text[0].upper()}{text[1:]}.{shown}"


@click.command("serve", short_help="Run the broker.")
@click.option("--config", "config", metavar="FILE", help="A TOML file with settings. [WHERRY_CONFIG]")
@click.option("--durability", metavar="LEVEL", help="What a confirm means, unless a queue says otherwise.")
@click.option("--repair", is_flag=True, help="Repair a damaged log first, as `wherry log repair` does.")
@setting_flags
@click.pass_context
def command(ctx: click.Context, /, durability: str | None, *, repair: bool, **flags: Any) -> int:
    """Run the broker.

    When it is ready, it prints one line on standard output: `wherry ready on HOST:PORT`. It logs to standard error.
    SIGTERM or Ctrl-C ends it in order, a second one at once. SIGHUP has the default options of queues and the policies
    read anew from the TOML file, if there is one.

    Settings come from defaults, a TOML file, the environment (WHERRY_PORT for --port) and these flags, the later ones
    winning; `wherry config` shows the outcome. The token comes from WHERRY_TOKEN or a file.
    """
    from wherry_broker import app  # noqa: PLC0415 (`wherry serve --help` needs none of it)
    from wherry_broker.log.recovery import CorruptLog  # noqa: PLC0415
    from wherry_broker.log.store import LogLocked, LogUnusable  # noqa: PLC0415

    given: Globals = ctx.obj
    flags["token_file"] = flags["token_file"] or given.token_file or None
    try:
        read = partial(config.resolve, {**flags, "queue.durability": durability}, os.environ)
        resolved = read()
        if repair and not resolved.settings.data:
            fail("--repair is for a log on the disk: --data DIR names it")
        return app.run(resolved, _say_ready, read, repair=repair)
    except config.ConfigError as error:
        fail(str(error))
    except (CorruptLog, LogLocked, LogUnusable) as error:
        fail(str(error), app.EXIT_LOG_FAILED)
    except OSError as error:
        fail(_why_not(error, resolved.settings))


def _say_ready(address: str) -> None:
    with contextlib.suppress(OSError):  # nobody waits for the line: no reason not to serve
        click.echo(f"wherry ready on {address}")


def _why_not(error: OSError, settings: config.Settings) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    address = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {address}: another process does; choose another --port (0 picks a free one)"
    return f"cannot listen on {address}: {reason}"
