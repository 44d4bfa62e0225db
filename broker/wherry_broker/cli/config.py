"""`wherry config`: every setting, its value, and where it came from."""

from __future__ import annotations

import os
import sys

import click

from wherry_broker import config
from wherry_broker.cli import output
from wherry_broker.cli.root import Globals, fail


@click.command("config", short_help="Show every setting of the broker, and where it comes from.")
@click.option("--config", "file", metavar="FILE", help="A TOML file with settings. [WHERRY_CONFIG]")
@click.pass_obj
def command(given: Globals, file: str | None) -> None:
    """Show every setting of the broker, its value, and where it comes from.

    This is what `wherry serve` would run with, here and now. A token is not shown.

    The file's table [queue] has options for all queues, and each [[policy]] some for those whose names match its
    pattern (* is one token between dots, > at the end the rest). All that match hold, the later ones winning; what a
    queue was declared or altered with goes before them.

    \b
    Example:
      [[policy]]
      pattern = "emails.*"
      max_messages = 100_000
      ttl_ms = "1d"
    """  # noqa: D301 (click's mark is the character itself)
    try:
        resolved = config.resolve({"config": file, "token_file": given.token_file or None}, os.environ)
    except config.ConfigError as error:
        fail(str(error))
    rows = resolved.rows()
    if given.json:
        output.as_json({name: {"value": value, "from": origin} for name, value, origin in rows})
    else:
        output.as_table(
            ("setting", "value", "from"), [(name, output.plain(value), origin) for name, value, origin in rows]
        )
    for text in resolved.warnings:
        print(f"wherry: {text}", file=sys.stderr)  # noqa: T201 (a command line prints)
