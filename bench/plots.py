"""The plots of scaling.py: the broker's CPU time a message, and the throughput, against each thing that grows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

COST, RATE = "#0b6e99", "#c46a1b"
STYLES = ("-o", "--s")
COLUMNS = 3


def draw(points: Mapping[tuple[str, str, int], Mapping[str, float]], path: Path) -> None:
    """Draws a pane for each sheet into a file."""
    names = list(dict.fromkeys(name for name, _, _ in points))
    rows = -(-len(names) // COLUMNS)
    columns = min(COLUMNS, len(names))
    figure, panes = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.4 * rows), squeeze=False)
    for name, pane in zip(names, panes.flat, strict=False):
        _pane(pane, name, {key[1:]: row for key, row in points.items() if key[0] == name})
    for pane in list(panes.flat)[len(names) :]:
        pane.set_visible(False)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})


def _pane(pane: Axes, name: str, points: Mapping[tuple[str, int], Mapping[str, float]]) -> None:
    rates = pane.twinx()
    for axes, colour, column in ((pane, COST, "server us/msg"), (rates, RATE, "msg/s")):
        for line, style in zip(dict.fromkeys(line for line, _ in points), STYLES, strict=False):
            drawn = {many: row[column] for (of, many), row in points.items() if of == line}
            axes.plot(drawn.keys(), drawn.values(), style, color=colour, markersize=3.5, linewidth=1.2, label=line)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylabel(column, color=colour, fontsize=8)
        axes.tick_params(axis="y", which="both", labelsize=7, labelcolor=colour)
        _show_a_decade(axes, [row[column] for row in points.values()])
        axes.spines["top"].set_visible(False)
    pane.tick_params(axis="x", labelsize=7)
    pane.set_title(name, loc="left", fontsize=10)
    pane.grid(visible=True, which="major", linewidth=0.3)
    if len({line for line, _ in points}) > 1:
        legend = pane.legend(fontsize=7, frameon=False)
        for handle in legend.legend_handles:
            handle.set_color("black")


def _show_a_decade(axes: Axes, values: list[float]) -> None:
    """Has an axis span a power of ten at least: what is flat should look flat."""
    low, high = min(values), max(values)
    spare = max(1.25, math.sqrt(10 * low / high)) if low else 1.25
    axes.set_ylim(low / spare, high * spare)
