"""A specification as its test reads it: sections, tables and fenced blocks of a Markdown file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """What stands between two fences: the words behind the first one, the text, and in which line it begins."""

    words: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text("utf-8")
    return [Block(each[1], each[2], text.count("\n", 0, each.start()) + 1) for each in FENCED.finditer(text)]


class Document:
    """A Markdown file.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.text = path.read_text("utf-8")

    def section(self, title: str) -> str:
        """What stands under a heading, up to the next one of its level or above."""
        found = re.search(rf"^(#+) {re.escape(title)}$", self.text, re.MULTILINE)
        assert found, title
        level, rest = len(found[1]), self.text[found.end() :]
        end = re.search(rf"^#{{1,{level}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest

    def table(self, title: str) -> list[dict[str, str]]:
        """The first table under a heading."""
        return tables(self.section(title))[0]

    def fenced(self, language: str) -> str:
        """The one block that is fenced with these words."""
        found = re.findall(rf"^```{language}\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)
        assert len(found) == 1, language
        return found[0]

    def check_contents(self) -> None:
        """The list of contents has all numbered sections, and its links lead to them."""
        listed = re.findall(r"^\d+\. \[(.*)\]\(#(.*)\)$", self.text, re.MULTILINE)
        titles = re.findall(r"^## \d+\. (.*)$", self.text, re.MULTILINE)
        assert [title for title, _ in listed] == titles
        for number, (title, anchor) in enumerate(listed, 1):
            assert anchor == f"{number}-" + re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def tables(text: str) -> list[list[dict[str, str]]]:
    """The tables of a text: rows by the names of their columns, without code marks."""
    result = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *lines = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines())
        assert all(len(line) == len(head) for line in lines), block
        result.append([{name: cell.replace("`", "") for name, cell in zip(head, line, strict=True)} for line in lines])
    return result
