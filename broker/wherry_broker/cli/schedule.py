"""`wherry schedule`: what the broker publishes by itself, and when."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from wherry_broker.cli import output, remote
from wherry_broker.cli.params import DURATION, HEADER, MOMENT, QUEUE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    import wherry
    from wherry_broker.cli.root import Globals

HEAD = (
    "schedule",
    "queue",
    "when",
    "next due",
    "next due, UTC",
    "last",
    "last id",
    "fired",
    "missed",
    "skipped",
    "error",
)


@click.group("schedule", short_help="List, add, pause, resume, remove or run schedules.")
def command() -> None:
    """List, add, pause, resume, remove or run schedules: what the broker publishes by itself, and when."""


@command.command("list", short_help="All schedules, when they are due, and what became of them.")
@click.argument("prefix", default="")
@click.pass_obj
def list_schedules(given: Globals, /, prefix: str) -> int:
    """All schedules whose name begins with PREFIX, when they are due, and what became of them.

    Times are of this machine's zone where they do not say UTC. A message that could not be published is tried again, or
    missed; the error says why.
    """

    async def run(broker: wherry.Broker) -> None:
        found = await broker.schedules(prefix)
        if given.json:
            output.as_json([_fields(each) for each in found])
        else:
            output.as_table(HEAD, [_row(each) for each in found])

    return remote.run(given, run)


@command.command("add", short_help="Have the broker publish a message at moments to come.")
@click.argument("name")
@click.argument("queue", type=QUEUE)
@click.argument("body", required=False)
@click.option("--cron", metavar="EXPR", help="Five fields: minute, hour, day of month, month, day of week.")
@click.option("--zone", metavar="ZONE", help="The time zone of --cron, such as Europe/Paris.  [UTC]")
@click.option("--every", type=DURATION, metavar="TIME", help="At this interval, such as 30, 5m, 1h.")
@click.option("--anchor", type=MOMENT, metavar="MOMENT", help="A moment that --every counts from.  [now]")
@click.option("--at", type=MOMENT, metavar="MOMENT", help="Once, such as 2026-05-01T03:00+02:00.")
@click.option("--start", type=MOMENT, metavar="MOMENT", help="Not before this.")
@click.option("--end", type=MOMENT, metavar="MOMENT", help="Not after this.")
@click.option("--missed", default="once", metavar="POLICY", help="skip, once or all: what was missed.  [once]")
@click.option("--late", type=DURATION, default=60.0, metavar="TIME", help="How late is in time for skip.  [60]")
@click.option("--overlap", default="allow", metavar="POLICY", help="skip while the last is in the queue.  [allow]")
@click.option("--ttl", type=DURATION, metavar="TIME", help="Expires when nobody has taken it within this time.")
@click.option("--priority", type=click.IntRange(0, 9), default=0, metavar="0-9", help="9 goes first.")
@click.option("--key", default="", help="What it belongs to, such as a customer.")
@click.option("--track", is_flag=True, help="Remember how each ends; `wherry status` tells.")
@click.option("--header", "headers", type=HEADER, multiple=True, metavar="NAME=VALUE", help="Can be given repeatedly.")
@click.pass_obj
def add(given: Globals, /, name: str, queue: str, body: str | None, headers: Any, **options: Any) -> int:
    """Have the broker publish BODY (standard input when it is not given) to QUEUE, as the schedule NAME.

    One that is there already changes, if this one is different; it stays paused if it was. Give one of --cron, --every
    and --at. A MOMENT has a date, a time and a zone.

    \b
    Examples:
      wherry schedule add nightly reports all --cron "0 3 * * *" --zone Europe/Paris --overlap skip
      wherry schedule add beat checks --every 30s --missed skip ping
    """  # noqa: D301 (click's mark is the character itself)
    if sum(options[kind] is not None for kind in ("cron", "every", "at")) != 1:
        raise click.UsageError("give one of --cron, --every and --at")
    message = sys.stdin.buffer.read() if body is None else os.fsencode(body)

    async def work(broker: wherry.Broker) -> wherry.ScheduleInfo:
        return await broker.schedule(name, queue, message, headers=dict(headers), **options)

    return _on_schedule(given, work, lambda info: f"{CHANGES[info.change]}: {_next(info)}")


CHANGES = {"created": "created", "changed": "changed", "same": "is there already"}


@command.command("pause", short_help="Stop a schedule.")
@click.argument("name")
@click.pass_obj
def pause(given: Globals, /, name: str) -> int:
    """Stop the schedule NAME. Moments until it is resumed do not count as missed."""
    return _on_schedule(given, lambda broker: broker.pause_schedule(name), lambda _: "paused")


@command.command("resume", short_help="Let a schedule go on.")
@click.argument("name")
@click.pass_obj
def resume(given: Globals, /, name: str) -> int:
    """Let the schedule NAME go on, with its first moment from now on."""
    return _on_schedule(given, lambda broker: broker.resume_schedule(name), lambda info: f"resumed: {_next(info)}")


@command.command("run", short_help="Have a schedule publish now.")
@click.argument("name")
@click.pass_obj
def run(given: Globals, /, name: str) -> int:
    """Have the schedule NAME publish its message now. Its own moments stay as they are."""
    return _on_schedule(given, lambda broker: broker.run_schedule(name), lambda info: f"published {info.last_id}")


@command.command("remove", short_help="Remove a schedule.")
@click.argument("name")
@click.pass_obj
def remove(given: Globals, /, name: str) -> int:
    """Remove the schedule NAME. What it has published stays."""

    async def run(broker: wherry.Broker) -> None:
        await broker.unschedule(name)
        if given.json:
            output.as_json({"schedule": name, "removed": True})
        else:
            click.echo(f"{name} removed")

    return remote.run(given, run)


def _on_schedule(
    given: Globals,
    work: Callable[[wherry.Broker], Awaitable[wherry.ScheduleInfo]],
    said: Callable[[wherry.ScheduleInfo], str],
) -> int:
    """Does something to a schedule, and says so."""

    async def run(broker: wherry.Broker) -> None:
        info = await work(broker)
        if given.json:
            output.as_json(_fields(info))
        else:
            click.echo(f"{info.name} {said(info)}")

    return remote.run(given, run)


def _fields(info: wherry.ScheduleInfo) -> dict[str, Any]:
    fields = output.fields_of(info)
    moments = {"anchor", "at", "start", "end", "since", "next_due", "last_due", "last_at"}
    return {name: output.moment(value) if name in moments else value for name, value in fields.items()}


def _row(info: wherry.ScheduleInfo) -> tuple[object, ...]:
    due = info.next_due
    return (
        info.name,
        info.queue,
        _when(info),
        "paused" if info.paused else _local(due) if due else "over",
        _utc(due) if due and not info.paused else "",
        _local(info.last_at) if info.last_at else "",
        info.last_id,
        info.fired,
        info.missed_count,
        info.skipped,
        info.error,
    )


def _when(info: wherry.ScheduleInfo) -> str:
    if info.cron:
        return f"{info.cron} {info.zone}"
    return f"every {info.every:g} s" if info.every else f"at {_local(info.at)}" if info.at else ""


def _next(info: wherry.ScheduleInfo) -> str:
    if info.paused:
        return "paused, so it is not due"
    return f"next due {_local(info.next_due)}, {_utc(info.next_due)}" if info.next_due else "it is over"


def _local(moment: datetime) -> str:
    return moment.astimezone().isoformat(" ", "seconds")


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
