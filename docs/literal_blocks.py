"""The docstrings mark an example by `::`, as Python's own do; the reference is Markdown, where the indent is enough."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

MARK = re.compile(r"^( *)(\w.*)?::$", re.MULTILINE)


def without_marks(text: str) -> str:
    """The same docstring, with nothing or one colon in the place of each mark."""
    return MARK.sub(lambda found: f"{found[1]}{found[2]}:" if found[2] else "", text)


class LiteralBlocks(Extension):
    """Takes the marks out of every docstring that the reference shows."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called by griffe for each module, class, function and attribute that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = without_marks(obj.docstring.value)
