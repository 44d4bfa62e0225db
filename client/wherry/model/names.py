"""Names that users choose, and the rules for them."""

from __future__ import annotations

import re
from functools import lru_cache

QUEUE_NAME_BYTES_MAX = 255
TEMPORARY_PREFIX = "_inbox."
"""What the name of a queue begins with that ends with the session that made it; no other queue has such a name."""
SUBJECT_BYTES_MAX = 255
SUBJECT_TOKENS_MAX = 16
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@-]{0,254}", re.ASCII)
_WORD = r"[!-)+-\-/-=?-~]+"
_SUBJECT = re.compile(rf"{_WORD}(\.{_WORD})*")
_PATTERN = re.compile(rf"((\*|{_WORD})\.)*(\*|>|{_WORD})")


@lru_cache(maxsize=1_024)
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


def subject_problem(subject: str) -> str:
    """Why `subject` cannot be a topic's subject; empty when it can.

    A subject is 1 to 16 tokens with dots between them, 255 characters at most. A token is one or more visible ASCII
    characters, but for `. * >`.
    """
    if not _SUBJECT.fullmatch(subject) and not pattern_problem(subject):
        return f"{subject[:40]!a} is a pattern, and no subject: * and > stand for tokens in patterns only"
    return _tokens_problem("a subject", _SUBJECT, subject)


def pattern_problem(pattern: str) -> str:
    """Why `pattern` cannot be a pattern of subjects; empty when it can.

    A pattern is a subject in which a token may be `*`, which stands for any one token, and the last one `>`, which
    stands for one or more.
    """
    return _tokens_problem("a pattern", _PATTERN, pattern)


def _tokens_problem(what: str, form: re.Pattern[str], text: str) -> str:
    if not text:
        return f"{what} cannot be empty"
    if len(text) > SUBJECT_BYTES_MAX:
        return f"{what} of {len(text)} characters is over the limit of {SUBJECT_BYTES_MAX}"
    if text.count(".") >= SUBJECT_TOKENS_MAX:
        return f"{what} of {text.count('.') + 1} tokens is over the limit of {SUBJECT_TOKENS_MAX}"
    if form.fullmatch(text):
        return ""
    wild = "; one may be *, and the last one >" if form is _PATTERN else ""
    return f"{text[:40]!a} is not {what}: use tokens of visible ASCII characters, with dots between them{wild}"
