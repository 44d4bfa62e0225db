"""`wherry dead`: the messages that were given up, and what becomes of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wherry_broker.cli import output, remote
from wherry_broker.cli.get import show as show_message
from wherry_broker.cli.params import DURATION, HEADER, MESSAGE_ID, QUEUE

if TYPE_CHECKING:
    from collections.abc import Callable

    import wherry
    from wherry_broker.cli.root import Globals

F = TypeVar("F", bound="Callable[..., Any]")

REASONS = ("attempts", "rejected")


@click.group("dead", short_help="List, show, redrive or purge dead messages.")
def command() -> None:
    """List, show, redrive or purge dead messages."""


def _predicates(function: F) -> F:
    """Flags that say which of the dead are meant; `_where` makes a predicate of them."""
    for flag in (
        click.option("--key", help="Only those of this key."),
        click.option("--header", "headers", type=HEADER, multiple=True, metavar="NAME=VALUE", help="Only with this."),
        click.option("--older-than", type=DURATION, metavar="TIME", help="Only those that died longer ago."),
        click.option("--reason", type=click.Choice(REASONS), help="Only those that died of this."),
    ):
        function = flag(function)
    return function


def _where(flags: dict[str, Any]) -> Callable[[wherry.PeekedMessage], bool] | None:
    reason, key, headers, older_than = (flags[name] for name in ("reason", "key", "headers", "older_than"))
    if not any((reason, key, headers, older_than)):
        return None
    before = datetime.now(UTC) - timedelta(seconds=older_than or 0)

    def where(message: wherry.PeekedMessage) -> bool:
        return (
            (not reason or message.reason == reason)
            and (not key or message.key == key)
            and (not older_than or (message.failed_at is not None and message.failed_at <= before))
            and all(str(message.headers.get(name)) == value for name, value in headers)
        )

    return where


@command.command("list", short_help="The dead of a queue, and why.")
@click.argument("queue", type=QUEUE)
@click.option("--limit", type=click.IntRange(1), default=100, metavar="N", help="How many at most.  [100]")
@_predicates
@click.pass_obj
def list_dead(given: Globals, /, queue: str, limit: int, **flags: Any) -> int:
    """The dead of QUEUE, and why."""

    async def run(broker: wherry.Broker) -> None:
        found = []
        async for message in broker.queue(queue).dead.messages(_where(flags)):
            found.append(message)
            if len(found) == limit:
                break
        if given.json:
            output.as_json([output.peeked_fields(message) for message in found])
            return
        rows = [
            (each.id, output.moment(each.failed_at), each.attempt, each.reason, each.error, output.body_cell(each.body))
            for each in found
        ]
        output.as_table(("id", "died", "attempts", "reason", "error", "body"), rows)

    return remote.run(given, run)


@command.command("show", short_help="One dead message, whole.")
@click.argument("message", type=MESSAGE_ID, metavar="ID")
@click.pass_obj
def show(given: Globals, /, message: tuple[str, int]) -> int:
    """All that is known of the dead message ID, such as emails/42."""
    return show_message(given, message, state="dead")


@command.command("redrive", short_help="Make dead messages ready again.")
@click.argument("queue", type=QUEUE)
@click.option("--to", type=QUEUE, metavar="QUEUE", help="Put them into this queue instead.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="X", help="How many a second at most.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@_predicates
@click.pass_obj
def redrive(given: Globals, /, queue: str, to: str | None, rate: float | None, dry_run: bool, **flags: Any) -> int:  # noqa: FBT001 (click names it)
    """Make the dead of QUEUE ready again, with all their attempts before them."""

    async def run(broker: wherry.Broker) -> None:
        total = await broker.queue(queue).dead.redrive(to, _where(flags), rate, dry_run=dry_run)
        if given.json:
            output.as_json({"queue": queue, "to": to or queue, "redriven": 0 if dry_run else total, "found": total})
        else:
            verb = "would be" if dry_run else "was" if total == 1 else "were"
            click.echo(f"{output.counted(total, 'message')} {verb} redriven from {queue} to {to or queue}")

    return remote.run(given, run)


@command.command("purge", short_help="Remove dead messages for good.")
@click.argument("queue", type=QUEUE)
@_predicates
@click.pass_obj
def purge(given: Globals, /, queue: str, **flags: Any) -> int:
    """Remove the dead of QUEUE for good."""

    async def run(broker: wherry.Broker) -> None:
        total = await broker.queue(queue).dead.purge(_where(flags))
        if given.json:
            output.as_json({"queue": queue, "purged": total})
        else:
            click.echo(f"{output.counted(total, 'dead message')} purged from {queue}")

    return remote.run(given, run)
