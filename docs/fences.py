"""A hook of mkdocs: the words behind a fence's language, by which the tests know what to do, are not for its Markdown.

What names a file becomes a line above it; what says how a block is run goes.
"""

from __future__ import annotations

import re
from typing import Any

_FENCE = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    return _FENCE.sub(_plain, markdown)


def _plain(fence: re.Match[str]) -> str:
    language, word = fence.groups()
    name = word.rpartition("/")[2]
    return f"`{name}`:\n\n```{language}" if "." in name else f"```{language}"
