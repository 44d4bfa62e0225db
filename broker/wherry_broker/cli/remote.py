"""What every command that talks to a broker shares: connecting, being interrupted, and failing in one line."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import wherry
from wherry_broker.cli.root import Exit, Failure, Globals, fail
from wherry_broker.eventloop import loop_factory
from wherry_broker.tokens import TokenFileError, read_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Stop = asyncio.Future[int]
"""Done once the user wants the command to end; its result is the signal's number."""

TIMEOUT_S = 10.0


def run(given: Globals, work: Callable[[wherry.Broker], Awaitable[int | None]], timeout_s: float = TIMEOUT_S) -> int:
    """Connects, does the work, and closes the connection.

    Args:
        given: the options in front of the command.
        work: what to do; returns the exit code, or None for done.
        timeout_s: how long connecting, and each request, may take.

    Returns:
        The exit code.

    Raises:
        Failure: it did not work.
    """
    logging.getLogger("wherry").addHandler(logging.NullHandler())  # what a command has to say, it says itself
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_connected(given, work, timeout_s)) or Exit.DONE
    except wherry.WherryError as error:
        _explain(error)
    except BaseExceptionGroup as group:
        known = group.subgroup((wherry.WherryError, Failure))
        if known is None:
            raise
        _explain(_first(known))


async def _connected(
    given: Globals, work: Callable[[wherry.Broker], Awaitable[int | None]], timeout_s: float
) -> int | None:
    try:
        name = f"wherry-cli/{os.getpid()}"
        # A command ends when its connection does: who runs it may have it run again.
        connecting = wherry.connect(given.url, token=token(given), name=name, timeout=timeout_s, reconnect=False)
    except ValueError as error:
        fail(f"{error} (see --url, or WHERRY_URL)")
    try:
        broker = await connecting
    except wherry.Disconnected as error:
        fail(_unreachable(given, error), Exit.UNREACHABLE)
    except wherry.ProtocolError as error:
        fail(f"what answers at {address(given)} is no wherry broker: {error}", Exit.UNREACHABLE)
    async with broker:
        return await work(broker)


def token(given: Globals) -> str:
    """What to show to the broker; "" leaves it to the URL.

    Raises:
        Failure: the token's file cannot be read.
    """
    if not given.token_file:
        return os.environ.get("WHERRY_TOKEN", "") or given.token
    try:
        return read_token(given.token_file)
    except TokenFileError as error:
        fail(str(error))


def address(given: Globals) -> str:
    """Where the broker is, without a token."""
    return urlsplit(given.url).netloc.rpartition("@")[2]


def stop_on_signal() -> Stop:
    """From now on, the first SIGINT or SIGTERM asks the command to end, and the second one ends it at once."""
    loop = asyncio.get_running_loop()
    stop: Stop = loop.create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _on_signal, number, stop)
    return stop


def _on_signal(number: int, stop: Stop) -> None:
    if stop.done():
        os._exit(128 + number)
    stop.set_result(number)


def _explain(error: BaseException) -> NoReturn:
    match error:
        case Failure():
            raise error
        case wherry.Unauthenticated():
            fail(f"{error}: set WHERRY_TOKEN, or pass --token-file FILE in front of the command", Exit.REFUSED)
        case wherry.Refused():
            fail(str(error), Exit.REFUSED)
        case wherry.RequestTimeout():
            fail(str(error), Exit.TIMED_OUT)
        case _:
            fail(str(error), Exit.UNREACHABLE)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _unreachable(given: Globals, error: wherry.Disconnected) -> str:
    cause = error.__cause__
    if isinstance(cause, ConnectionRefusedError):
        return f"nothing listens at {address(given)}: is `wherry serve` running there?"
    if isinstance(cause, OSError) and cause.strerror:
        return f"no broker could be reached at {address(given)}: {cause.strerror}"
    return str(error)
