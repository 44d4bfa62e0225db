"""The picture of run.py: how many messages a second, peer beside peer, for each durability level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

from loads import BIG

if TYPE_CHECKING:
    from pathlib import Path

OURS, THEIRS = "#0b6e99", "#b8c4cc"


def draw(rows: dict[str, dict[str, float]], path: Path) -> None:
    """Draws the throughput of each row into a file."""
    column = f"msg/s, {BIG}"
    levels: dict[str, list[tuple[str, float]]] = {}
    for name, row in rows.items():
        peer, _, level = name.rpartition(", ")
        if column in row:
            levels.setdefault(level, []).append((peer, row[column]))
    figure, panes = plt.subplots(len(levels), 1, figsize=(8, 0.6 + 2.0 * len(levels)), sharex=True, squeeze=False)
    for (level, bars), (pane,) in zip(levels.items(), panes, strict=True):
        bars.sort(key=lambda bar: bar[1])
        colours = [OURS if peer == "wherry" else THEIRS for peer, _ in bars]
        drawn = pane.barh([peer for peer, _ in bars], [rate for _, rate in bars], color=colours)
        pane.bar_label(drawn, labels=[f"{rate:,.0f}" for _, rate in bars], padding=3, fontsize=8)
        pane.set_title(level, loc="left", fontsize=10)
        pane.spines[["top", "right"]].set_visible(False)
        pane.margins(x=0.15)
    panes[-1][0].set_xlabel(f"messages a second, end to end, {BIG}")
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
