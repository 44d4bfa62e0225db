"""Waiting for what comes of a message, with a line on the terminal that says how it stands meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import wherry
from wherry_broker.cli import progress
from wherry_broker.cli.root import Exit, fail

if TYPE_CHECKING:
    from wherry.model.status import Status

LOOK_S = 0.5
"""How often the line is written again."""


async def result(queue: wherry.Queue, offset: int, wait: float | None) -> bytes:
    """The result of a message.

    Args:
        queue: its queue.
        offset: its offset.
        wait: how long to wait for it, in seconds; None for as long as it takes.

    Raises:
        Failure: it has ended without one.
        WherryError: as `Queue.result` does.
    """
    line = progress.Standing()
    telling = asyncio.create_task(_tell(queue, offset, line)) if line.is_seen else None
    try:
        return await queue.result(offset, wait)
    except wherry.NoResult as error:
        fail(str(error), Exit.REFUSED)
    finally:
        if telling is not None:
            telling.cancel()
            # An error that it met, the result has met too, and says so.
            with contextlib.suppress(asyncio.CancelledError, wherry.WherryError):
                await telling
        line.clear()


async def _tell(queue: wherry.Queue, offset: int, line: progress.Standing) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        line.tell(standing(await queue.status(offset)))


def standing(status: Status) -> str:
    """How a message stands, in one line; a bar when its consumer has said how far it is."""
    if status.progress is None or status.state != "leased":
        soon = "" if status.starts_in is None else f", it may start in {status.starts_in:,.0f} s"
        return f"{status.id}: {status.why}{soon}"
    attempt = f" (attempt {status.attempts})" if status.attempts > 1 else ""
    return " ".join(filter(None, (status.id, progress.bar(status.progress), status.note + attempt)))
