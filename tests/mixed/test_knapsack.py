"""Bits under a budget: optimal against brute force, never above the budget, monotone in it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr_deploy.experiments.mixed.knapsack import tabulate


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[float]], list[list[int]]]:
    """Up to five items with up to four choices of any costs and sizes, in no order."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    costs = [draw(st.lists(st.floats(0, 10, allow_subnormal=False), min_size=n, max_size=n)) for n in lengths]
    sizes = [draw(st.lists(st.integers(1, 60), min_size=n, max_size=n)) for n in lengths]
    return costs, sizes


def brute_force(costs: list[list[float]], sizes: list[list[int]], budget: int) -> float:
    return min(
        sum(c[i] for c, i in zip(costs, chosen, strict=True))
        for chosen in itertools.product(*(range(len(c)) for c in costs))
        if sum(s[i] for s, i in zip(sizes, chosen, strict=True)) <= budget
    )


def totals(costs: list[list[float]], sizes: list[list[int]], chosen: list[int]) -> tuple[float, int]:
    return (
        sum(c[i] for c, i in zip(costs, chosen, strict=True)),
        sum(s[i] for s, i in zip(sizes, chosen, strict=True)),
    )


@given(problems(), st.floats(0, 1.2, allow_subnormal=False))
@settings(max_examples=200, deadline=None)
def test_it_is_optimal_with_cells_of_one_byte(problem: tuple[list[list[float]], list[list[int]]], share: float) -> None:
    costs, sizes = problem
    table = tabulate(costs, sizes)
    budget = round(table.smallest + share * (table.largest - table.smallest))
    cost, size = totals(costs, sizes, table.choose(budget))
    assert size <= budget
    assert cost == pytest.approx(brute_force(costs, sizes, budget))


@given(problems(), st.floats(0, 1, allow_subnormal=False), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_coarse_cells_still_keep_to_the_budget(
    problem: tuple[list[list[float]], list[list[int]]], share: float, cells: int
) -> None:
    costs, sizes = problem
    table = tabulate(costs, sizes, cells)
    budget = round(table.smallest + share * (table.largest - table.smallest))
    chosen = table.choose(budget)
    size = totals(costs, sizes, chosen)[1]
    assert size <= budget
    # Nothing that still fits would be better: what rounding to cells left over is spent.
    for item, index in enumerate(chosen):
        for other in range(len(costs[item])):
            if size - sizes[item][index] + sizes[item][other] <= budget:
                assert costs[item][other] >= costs[item][index]


def test_real_sizes_lose_next_to_nothing_to_the_cells() -> None:
    generator = np.random.default_rng(0)
    scales = generator.lognormal(0, 2, 60)
    rows = generator.choice([147_456, 589_824], 60)
    widths = (2, 3, 4, 5, 6, 8)
    costs = [[float(s * 4.0**-b) for b in widths] for s in scales]
    sizes = [[int(r * b // 8) + 137 * i for b in widths] for i, r in enumerate(rows)]
    fine, coarse = tabulate(costs, sizes), tabulate(costs, sizes, 1 << 12)
    for share in (0.2, 0.5, 0.8):
        budget = round(fine.smallest + share * (fine.largest - fine.smallest))
        first, then = (totals(costs, sizes, table.choose(budget)) for table in (fine, coarse))
        assert max(first[1], then[1]) <= budget
        assert first[0] <= then[0] <= 1.05 * first[0]
        # Against uniform bits of no more bytes.
        uniform = [sum(c[i] for c in costs) for i in range(6) if sum(s[i] for s in sizes) <= budget]
        assert first[0] < min(uniform)


def test_what_cannot_be_solved_is_refused() -> None:
    table = tabulate([[1.0, 0.0]], [[3, 5]])
    assert (table.smallest, table.largest) == (3, 5)
    with pytest.raises(ValueError, match="2 bytes are fewer than 3"):
        table.choose(2)
    with pytest.raises(ValueError, match="choices"):
        tabulate([[]], [[]])
