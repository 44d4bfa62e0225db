"""The picture of run.py: how many messages a second, peer beside peer, for each durability level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")

from catalogue import PEERS
from matplotlib import pyplot as plt
from measuring import BIG
from report import OURS

if TYPE_CHECKING:
    from pathlib import Path

    from report import Book

OUR_COLOUR, THEIR_COLOUR, INK = "#1a88c9", "#8a97a3", "#7b8794"
"""Readable on white and on near-black alike; the ground is transparent."""
BAR_INCHES = 0.24
STYLE = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "wherry",
    "font.family": "sans-serif",
}


def draw(book: Book, chosen: dict[str, list[str]], path: Path) -> None:
    """Draws the throughput of each peer at each level into a file."""
    levels = {level: bars for level, names in chosen.items() if (bars := rates(book, level, names))}
    heights = [len(bars) + 1.2 for bars in levels.values()]
    with mpl.rc_context(STYLE):
        figure, panes = plt.subplots(
            len(levels),
            1,
            figsize=(7.5, BAR_INCHES * sum(heights) + 0.5),
            sharex=True,
            squeeze=False,
            height_ratios=heights,
        )
        for (level, bars), (pane,) in zip(levels.items(), panes, strict=True):
            fill(pane, level, bars)
        panes[-1][0].set_xlabel(f"messages a second, end to end: {BIG}, confirmed and settled")
        figure.tight_layout()
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def rates(book: Book, level: str, names: list[str]) -> list[tuple[str, float]]:
    """The bars of a level, the longest last, which is on top."""
    found = [(name, book.figure(level, name, BIG, "msg/s")) for name in names]
    return sorted(((name, rate) for name, rate in found if rate is not None), key=lambda bar: bar[1])


def fill(pane: plt.Axes, level: str, bars: list[tuple[str, float]]) -> None:
    """One level's bars."""
    colours = [OUR_COLOUR if name == OURS else THEIR_COLOUR for name, _ in bars]
    names = [name if PEERS[name].settles else f"{name} (nothing is settled)" for name, _ in bars]
    drawn = pane.barh(names, [rate for _, rate in bars], color=colours, height=0.7)
    pane.bar_label(drawn, labels=[f"{rate:,.0f}" for _, rate in bars], padding=3, fontsize=8, color=INK)
    pane.set_title(level, loc="left", fontsize=10, fontweight="bold", color=INK)
    pane.spines[["top", "right", "bottom"]].set_visible(False)
    pane.tick_params(axis="y", length=0)
    pane.tick_params(axis="x", length=0, labelbottom=False)
    pane.margins(x=0.12, y=0.02)
