"""What two commits that were measured in turns tell: ratios of neighbours, their median, and how sure that is. Pure.

A machine that others use too is slower at one time than at another. Two runs that follow each other have most of that
in common, so that their ratio tells more than either of them. The order is A B B A A B B A ..., which takes away what
drifts steadily.
"""

from __future__ import annotations

from itertools import cycle, islice
from math import comb
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Rows = dict[str, dict[str, float]]
"""What a benchmark prints: each case's figures."""
SURE = 0.95


class Ratio(NamedTuple):
    """One figure, after by before.

    Attributes:
        before: the median of what it was.
        after: the median of what it is.
        ratio: the median of the ratios of the pairs.
        low: the true ratio is over this, and under `high`, as far as so few pairs can tell.
        high: see there.
        better: 1 when it is surely better than before, -1 when worse, and 0 when that cannot be told.
    """

    before: float
    after: float
    ratio: float
    low: float
    high: float
    better: int


def order(rounds: int) -> list[str]:
    """Which one runs, `before` or `after`, for so many pairs."""
    return list(islice(cycle(("before", "after", "after", "before")), 2 * rounds))


def flat(rows: Rows) -> dict[str, float]:
    """Figures by one name: that of the case, a comma, and its own."""
    return {f"{case}, {name}": value for case, row in rows.items() for name, value in row.items()}


def more_is_better(name: str) -> bool:
    """Whether a figure is a rate, and not a cost."""
    return name.endswith("/s")


def rank(pairs: int) -> int:
    """How many of the ordered ratios to leave out at each end, so that the median is still between the rest.

    The median of what is measured lies between the k-th lowest and the k-th highest of n values but for
    2 * P(at most k - 1 of n fair coins show heads), whatever their distribution is.
    """
    left_out, missed = 0, 0.0
    while left_out < pairs // 2:
        missed += 2 * comb(pairs, left_out) / 2**pairs
        if missed > 1 - SURE:
            break
        left_out += 1
    return max(0, left_out - 1)


def surely(pairs: int) -> bool:
    """Whether so many pairs can tell anything with `SURE`: six can, if all agree."""
    return 2 / 2**pairs <= 1 - SURE


def compared(name: str, before: Sequence[float], after: Sequence[float]) -> Ratio:
    """One figure over all pairs.

    Args:
        name: the figure's; it tells whether more of it is better.
        before: its values, in the order of the pairs.
        after: likewise.
    """
    ratios = sorted(new / old for old, new in zip(before, after, strict=True) if old > 0)
    if not ratios:
        return Ratio(median(before), median(after), 1.0, 0.0, 0.0, 0)
    at = rank(len(ratios))
    low, high = ratios[at], ratios[-1 - at]
    direction = (low > 1) - (high < 1) if surely(len(ratios)) else 0
    return Ratio(
        median(before), median(after), median(ratios), low, high, direction * (1 if more_is_better(name) else -1)
    )


def compare(runs: Sequence[tuple[str, Rows]]) -> dict[str, Ratio]:
    """All figures that both have.

    Args:
        runs: which one ran and what it printed, in the order of `order`.
    """
    values: dict[str, dict[str, list[float]]] = {"before": {}, "after": {}}
    for side, rows in runs:
        for name, value in flat(rows).items():
            values[side].setdefault(name, []).append(value)
    before, after = values["before"], values["after"]
    return {
        name: compared(name, before[name], after[name])
        for name in before
        if len(before[name]) == len(after.get(name, ()))
    }
