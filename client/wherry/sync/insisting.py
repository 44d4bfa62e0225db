"""Trying again what a full queue has refused, while there is time."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from wherry import errors
from wherry.conversation.backoff import busy_pause_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.sync.link import Link

T = TypeVar("T")


def insist(link: Link, attempt: Callable[[], T], timeout: float | None) -> T:
    """Makes an attempt until it is not refused as busy.

    Args:
        link: the connection.
        attempt: what to do.
        timeout: how long to try, in seconds; 0 tries once, and None is as long as a request may take.

    Raises:
        Busy: it still was when the time was over.
    """
    until = link.now() + (link.timeout if timeout is None else timeout)
    tries = 0
    while True:
        try:
            return attempt()
        except errors.Busy as busy:
            tries += 1
            time.sleep(busy_pause_s(busy, tries, until - link.now(), random.random()))  # noqa: S311 (jitter, no secret)
