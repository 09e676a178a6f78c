"""Bits under a budget: of every item's choices one, the least sum of costs whose sizes fit (multiple-choice knapsack).

Dynamic programming over bytes. Sizes count as what they exceed the item's smallest by, rounded up to cells of equal
width: so a plan never exceeds its budget, and it is optimal when the cells are one byte wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# As fine as a second of work allows: below a thousandth of any budget.
CELLS = 1 << 16


@dataclass(frozen=True)
class Table:
    """Best choices for every budget up to the largest that makes a difference."""

    costs: tuple[tuple[float, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    cell: int
    picks: NDArray[np.uint8]
    """(items, cells): the choice of an item when it and those before it have that many cells."""

    @property
    def smallest(self) -> int:
        """Bytes below which nothing fits."""
        return sum(min(sizes) for sizes in self.sizes)

    @property
    def largest(self) -> int:
        """Bytes that the largest choices take."""
        return sum(max(sizes) for sizes in self.sizes)

    def choose(self, budget: int) -> list[int]:
        """The index of each item's choice. ValueError when the budget is below `smallest`."""
        if budget < self.smallest:
            raise ValueError(f"{budget} bytes are fewer than {self.smallest}")
        left = min((budget - self.smallest) // self.cell, self.picks.shape[1] - 1)
        chosen = []
        for picks, sizes in zip(self.picks[::-1], self.sizes[::-1], strict=True):
            index = int(picks[left])
            chosen.append(index)
            left -= _cells(sizes, self.cell)[index]
        return self._repaired(chosen[::-1], budget)

    def _repaired(self, chosen: list[int], budget: int) -> list[int]:
        """Spend what rounding up to cells left over: the upgrade that saves most per byte, as long as one fits."""
        left = budget - sum(sizes[index] for sizes, index in zip(self.sizes, chosen, strict=True))
        while True:
            best, gain = None, 0.0
            for item, index in enumerate(chosen):
                for other, (cost, size) in enumerate(zip(self.costs[item], self.sizes[item], strict=True)):
                    saved, more = self.costs[item][index] - cost, size - self.sizes[item][index]
                    if saved > 0 and more <= left and saved / max(more, 1) > gain:
                        best, gain = (item, other, more), saved / max(more, 1)
            if best is None:
                return chosen
            chosen[best[0]] = best[1]
            left -= best[2]


def tabulate(costs: Sequence[Sequence[float]], sizes: Sequence[Sequence[int]], cells: int = CELLS) -> Table:
    """Solve for all budgets at once. `costs[i][j]`, `sizes[i][j]`: of item i's choice j (at most 256 of them).

    ValueError for items without choices.
    """
    if not costs or any(len(c) != len(s) or not c for c, s in zip(costs, sizes, strict=True)):
        raise ValueError("every item needs choices, each with a cost and a size")
    span = sum(max(s) - min(s) for s in sizes)
    cell = max(1, -(-span // cells))
    # Rounding up costs each item up to a cell.
    width = span // cell + len(sizes) + 1
    best = np.zeros(width)
    picks = np.zeros((len(costs), width), np.uint8)
    for item, (item_costs, item_sizes) in enumerate(zip(costs, sizes, strict=True)):
        totals = np.full((len(item_costs), width), np.inf)
        for index, (cost, taken) in enumerate(zip(item_costs, _cells(item_sizes, cell), strict=True)):
            if taken < width:
                totals[index, taken:] = best[: width - taken] + cost
        picks[item] = totals.argmin(0)
        best = totals.min(0)
    return Table(tuple(map(tuple, costs)), tuple(map(tuple, sizes)), cell, picks)


def _cells(sizes: Sequence[int], cell: int) -> list[int]:
    least = min(sizes)
    return [-(-(size - least) // cell) for size in sizes]
