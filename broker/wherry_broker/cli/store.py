"""`wherry store`: the values of a store, by key."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from wherry_broker.cli import output, remote
from wherry_broker.cli.params import DURATION, QUEUE
from wherry_broker.cli.root import Exit, fail

if TYPE_CHECKING:
    import wherry
    from wherry_broker.cli.root import Globals


@click.group("store", short_help="Put, get, delete, count up or watch values by key.")
def command() -> None:
    """Put, get, delete, count up or watch the values of a store, which keeps the newest one of each key."""


@command.command("put", short_help="Keep a value.")
@click.argument("store", type=QUEUE)
@click.argument("key")
@click.argument("value", required=False)
@click.option("--ttl", type=DURATION, help="How long it is kept; as long as the store says when not given.")
@click.option("--if-version", type=click.IntRange(min=0), help="The version that it must have now; 0 for none.")
@click.pass_obj
def put(given: Globals, /, store: str, key: str, value: str | None, ttl: float | None, if_version: int | None) -> int:
    """Keep VALUE (standard input when it is not given) under KEY, and print its version."""
    body = sys.stdin.buffer.read() if value is None else value.encode("utf-8", "surrogateescape")

    async def run(broker: wherry.Broker) -> None:
        version = await broker.store(store).put(key, body, ttl, if_version=if_version)
        _print(given, {"version": version})

    return remote.run(given, run)


@command.command("get", short_help="Print a value.")
@click.argument("store", type=QUEUE)
@click.argument("key")
@click.pass_obj
def get(given: Globals, /, store: str, key: str) -> int:
    """Print the value of KEY as it is. The exit code is 1 when it has none."""

    async def run(broker: wherry.Broker) -> None:
        _show(given, store, key, await broker.store(store).entry(key))

    return remote.run(given, run)


@command.command("delete", short_help="Remove values.")
@click.argument("store", type=QUEUE)
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.pass_obj
def delete(given: Globals, /, store: str, keys: tuple[str, ...]) -> int:
    """Remove the values of KEY, and print how many there were."""

    async def run(broker: wherry.Broker) -> None:
        _print(given, {"deleted": await broker.store(store).delete(*keys)})

    return remote.run(given, run)


@command.command("increment", short_help="Add to a number.")
@click.argument("store", type=QUEUE)
@click.argument("key")
@click.argument("by", type=int, default=1)
@click.option("--ttl", type=DURATION, help="How long a number that begins with this is kept.")
@click.pass_obj
def increment(given: Globals, /, store: str, key: str, by: int, ttl: float | None) -> int:
    """Add BY (1 when not given; less than 0 after `--`) to the number of KEY, and print the sum."""

    async def run(broker: wherry.Broker) -> None:
        _print(given, {"number": await broker.store(store).increment(key, by, ttl)})

    return remote.run(given, run)


@command.command("watch", short_help="Wait for a value.")
@click.argument("store", type=QUEUE)
@click.argument("key")
@click.option("--wait", type=DURATION, default=60, show_default=True, help="How long to wait.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="The newest version that is known already.")
@click.pass_obj
def watch(given: Globals, /, store: str, key: str, wait: float, after: int) -> int:
    """Wait for a value of KEY, and print it as it is. The exit code is 4 when none came in time."""

    async def run(broker: wherry.Broker) -> int | None:
        entry = await broker.store(store).watch(key, wait, after=after)
        if entry is None:
            fail(f"no value of {key!r} came in {wait:g} s", Exit.TIMED_OUT)
        _show(given, store, key, entry)
        return None

    return remote.run(given, run)


def _print(given: Globals, told: dict[str, int]) -> None:
    if given.json:
        output.as_json(told)
    else:
        click.echo(next(iter(told.values())))


def _show(given: Globals, store: str, key: str, entry: wherry.Entry | None) -> None:
    if entry is None:
        fail(f"key {key!r} of store {store!r} has no value", Exit.REFUSED)
    if given.json:
        body = output.body_fields(entry.value, "value")
        output.as_json({"key": key, **body, "version": entry.version, "expires_at": output.moment(entry.expires_at)})
    else:
        sys.stdout.buffer.write(entry.value + b"\n" * sys.stdout.isatty())
        sys.stdout.flush()
