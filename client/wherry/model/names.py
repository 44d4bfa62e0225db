"""Names that users choose, and the rules for them."""

from __future__ import annotations

import re

QUEUE_NAME_BYTES_MAX = 255
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@-]{0,254}", re.ASCII)


def queue_name_problem(name: str) -> str:
    """Why `name` cannot name a queue; empty when it can.

    A queue's name is 1 to 255 characters of ASCII letters, digits and `. _ : @ -`, beginning with a letter, a digit
    or `_`. The rest is kept out because it means something elsewhere: `/` in a message's id, `*` and `>` in patterns.
    """
    if _QUEUE_NAME.fullmatch(name):
        return ""
    if not name:
        return "a queue's name cannot be empty"
    if len(name) > QUEUE_NAME_BYTES_MAX:
        return f"a queue's name of {len(name)} characters is over the limit of {QUEUE_NAME_BYTES_MAX}"
    return (
        f"{name[:40]!a} cannot name a queue: use ASCII letters, digits and . _ : @ - "
        "(the first one a letter, a digit or _)"
    )


def message_id(queue: str, offset: int) -> str:
    """The id of a message: its queue and its offset, such as `emails/42`."""
    return f"{queue}/{offset}"


def split_id(text: str) -> tuple[str, int]:
    """The queue and the offset that an id names.

    Raises:
        ValueError: it is no id.
    """
    queue, slash, offset = text.rpartition("/")
    if not slash or not (offset.isascii() and offset.isdigit()) or queue_name_problem(queue):
        raise ValueError(f"{text[:60]!r} is no id of a message, such as emails/42")
    return queue, int(offset)
