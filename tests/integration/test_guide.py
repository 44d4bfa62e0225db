"""The guide tells the truth: each page's examples run in order, as they stand there, and print what stands under them.

A fenced block is known by its first words: `sh serve` (re)starts the broker, after a kill; `sh` and `python` are run;
`toml NAME` and `python NAME` become a file; `python examples/FOLDER/NAME` shows a part of that file, whose folder is
there when the page runs; and `text` is all that the block before it prints.
"""

from __future__ import annotations

import re
import runpy
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from documents import FENCED, Block, blocks_of
from installing import ROOT
from serving import DEADLINE_S, Served

if TYPE_CHECKING:
    from pathlib import Path

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("guide/*.md"))
URL = "wherry://localhost:7117"
"""What the examples say; here it becomes the address of a broker on a free port."""


class Reader:
    """Does what a page says, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker: Served | None = None

    def read(self, blocks: list[Block]) -> list[str]:
        """Goes through a page; returns what is not as it says."""
        wrong = []
        for block, following in zip(blocks, [*blocks[1:], Block("", "", 0)], strict=True):
            printed = self.follow(block)
            told = following.text if following.words == "text" else ""
            if block.words != "text" and printed != told:
                wrong.append(f"line {block.line} prints:\n{printed}")
        return wrong

    def follow(self, block: Block) -> str:
        kind, _, name = block.words.partition(" ")
        if block.words == "sh serve":
            self.serve(block.text)
        elif name.startswith("examples/"):
            self.copy(ROOT / name, block)
        elif name:
            assert kind in ("toml", "python"), f"line {block.line}: nothing runs this block"
            (self.folder / name).write_text(block.text, "utf-8")
        elif block.words in ("sh", "python"):
            return self.run(block)
        else:
            assert block.words == "text", f"line {block.line}: nothing runs this block"
        return ""

    def copy(self, shown: Path, block: Block) -> None:
        assert block.text in shown.read_text("utf-8"), f"line {block.line}: {shown.name} is another one"
        for each in shown.parent.glob("*.py"):
            (self.folder / each.name).write_bytes(each.read_bytes())

    def serve(self, command: str) -> None:
        program, verb, *options = shlex.split(command)
        assert (program, verb) == ("wherry", "serve")
        self.stop(signal.SIGKILL)
        self.broker = Served(self.folder, *options)

    def run(self, block: Block) -> str:
        environ = self.environ()
        text = block.text.replace(URL, environ["WHERRY_URL"])
        if block.words == "sh":
            command = ["bash", "-euo", "pipefail", "-c", text]
        else:
            command = [sys.executable, "-W", "error", "-c", text]
        done = subprocess.run(
            command, check=False, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == 0, f"line {block.line}: {done.stdout}{done.stderr}"
        return done.stdout

    def environ(self) -> dict[str, str]:
        if self.broker is None:
            self.broker = Served(self.folder)
        return self.broker.environ

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.broker is not None:
            self.broker.stop(number)
            self.broker = None


@pytest.fixture
def reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = Reader(tmp_path)
    yield reader
    reader.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_run_and_print_what_is_told(page, reader):
    blocks = blocks_of(page)
    assert any(block.words == "text" for block in blocks)
    wrong = reader.read(blocks)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_the_links_lead_somewhere(page):
    prose = FENCED.sub("", page.read_text("utf-8"))
    links = [link for link in re.findall(r"\]\(([^)]+)\)", prose) if "://" not in link]
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_the_site_is_given_fences_that_it_knows(page):
    hook = runpy.run_path(str(DOCS / "fences.py"))["on_page_markdown"]
    shown = hook(page.read_text("utf-8"))
    assert set(re.findall(r"^```(.*)$", shown, re.MULTILINE)) <= {"", "sh", "python", "toml", "text"}
