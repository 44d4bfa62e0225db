"""`wherry request`: asks something over a queue, and prints the reply."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from wherry_broker.cli import output, remote
from wherry_broker.cli.params import DURATION, HEADER, QUEUE

if TYPE_CHECKING:
    import wherry
    from wherry_broker.cli.root import Globals

TIMEOUT_S = 10.0


@click.command("request", short_help="Publish a request, and print the reply.")
@click.argument("queue", type=QUEUE)
@click.argument("body", required=False)
@click.option("--timeout", type=DURATION, default=TIMEOUT_S, metavar="TIME", help="How long to wait for it.  [10]")
@click.option("--header", "headers", type=HEADER, multiple=True, metavar="NAME=VALUE", help="A header of the request.")
@click.option("--key", default="", help="What the request belongs to.")
@click.option("--priority", type=click.IntRange(0, 9), default=0, metavar="N", help="0 to 9; 9 goes first.")
@click.pass_obj
def command(
    given: Globals,
    /,
    queue: str,
    *,
    body: str | None,
    timeout: float,
    headers: tuple[tuple[str, str], ...],
    key: str,
    priority: int,
) -> int:
    """Publish BODY to QUEUE as a request, and write the reply to standard output, followed by a newline.

    Without BODY the request is what standard input holds. A consumer of QUEUE answers with `message.reply`. The request
    expires when the reply is waited for no longer. With --json the reply is printed with its headers.

    Exits with 4 when no reply came in time.

    \b
    Examples:
      wherry request sums '[1, 2]'
      wherry request render --timeout 1m < page.html > page.pdf
    """  # noqa: D301 (click's mark is the character itself)
    content = sys.stdin.buffer.read() if body is None else body.encode()

    async def ask(broker: wherry.Broker) -> None:
        reply = await broker.queue(queue).request(
            content, headers=dict(headers), key=key, priority=priority, timeout=timeout
        )
        if given.json:
            output.as_json(output.message_fields(reply))
        else:
            click.echo(reply.body)

    return remote.run(given, ask, max(timeout, remote.TIMEOUT_S))
