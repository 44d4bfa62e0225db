"""The options of a queue, as flags of `wherry queue declare` and `wherry queue alter`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from wherry_broker.cli.params import DURATION, SIZE, WEIGHT
from wherry_broker.core.options import LEVELS, OVERFLOWS

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

_FLAGS = (
    click.option("--max-messages", type=int, metavar="N", help="How many messages it holds, in all states."),
    click.option("--max-bytes", type=SIZE, metavar="SIZE", help="How many bytes it holds, such as 256MiB."),
    click.option("--overflow", type=click.Choice(OVERFLOWS), help="What a publish meets when it is full."),
    click.option("--lease", type=DURATION, metavar="TIME", help="How long a consumer may hold a message."),
    click.option("--max-attempts", type=int, metavar="N", help="How often a message is tried before it is dead."),
    click.option("--retry-base", type=DURATION, metavar="TIME", help="The first back-off after a nack."),
    click.option("--retry-factor", type=float, metavar="X", help="What the back-off grows by."),
    click.option("--retry-cap", type=DURATION, metavar="TIME", help="The longest back-off."),
    click.option("--ttl", type=DURATION, metavar="TIME", help="How long a message may wait; 0 for ever."),
    click.option("--priorities", type=int, metavar="N", help="How many priorities it has, 1 to 10."),
    click.option("--durability", type=click.Choice(LEVELS), help="What a confirm means; it cannot be altered."),
    click.option("--dedupe-window", type=DURATION, metavar="TIME", help="How long a dedupe key is remembered."),
    click.option("--dead-max-messages", type=int, metavar="N", help="How many dead messages are kept."),
    click.option("--max-leased", type=int, metavar="N", help="How many may be leased at a time; 0 for no limit."),
    click.option("--rate-per-s", type=float, metavar="X", help="How many are delivered a second; 0 for no limit."),
    click.option("--ordered/--no-ordered", default=None, help="Whether each key goes one at a time and in order."),
    click.option("--key-max-leased", type=int, metavar="N", help="As --max-leased, for each key."),
    click.option("--key-rate-per-s", type=float, metavar="X", help="As --rate-per-s, for each key."),
    click.option(
        "--key-weight", "key_weights", type=WEIGHT, multiple=True, metavar="KEY=N", help="A key's share, else 1."
    ),
    click.option("--result-ttl", type=DURATION, metavar="TIME", help="How long a tracked message's result is kept."),
    click.option("--paused/--no-paused", default=None, help="Whether deliveries are stopped."),
    click.option("--bind", multiple=True, metavar="PATTERN", help="Subjects that it takes, such as orders.*.created."),
    click.option("--no-bind", is_flag=True, help="It takes no subjects any more."),
)


def queue_options(function: F) -> F:
    """Gives a command a flag for each option of a queue; `given_options` makes options of what it gets."""
    for flag in reversed(_FLAGS):
        function = flag(function)
    return function


def given_options(flags: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as `wherry.Broker.declare` takes them."""
    options = {name: value for name, value in flags.items() if value is not None and value != ()}
    for name in ("retry_base", "retry_cap"):
        if name in options:
            options[f"{name}_ms"] = round(options.pop(name) * 1000)
    if options.pop("no_bind"):
        if "bind" in options:
            raise click.UsageError("give --bind or --no-bind: one of them")
        options["bind"] = []
    if "key_weights" in options:
        options["key_weights"] = dict(options["key_weights"])
    return options
