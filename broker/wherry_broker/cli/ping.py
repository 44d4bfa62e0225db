"""`wherry ping`: see whether the broker answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wherry_broker.cli import output, remote

if TYPE_CHECKING:
    import wherry
    from wherry_broker.cli.root import Globals

TIMEOUT_S = 5.0


@click.command("ping", short_help="See whether the broker answers.")
@click.pass_obj
def command(given: Globals) -> int:
    """See whether the broker answers, and how fast.

    Exits with 0 when it does, 3 when it cannot be reached, 4 when it does not answer in time, 1 when it refuses.
    """

    async def work(broker: wherry.Broker) -> None:
        took_ms = round(await broker.ping() * 1000, 3)
        if given.json:
            output.as_json({"address": remote.address(given), "ms": took_ms})
        else:
            click.echo(f"{remote.address(given)} answers in {took_ms} ms")

    return remote.run(given, work, TIMEOUT_S)
