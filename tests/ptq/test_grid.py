"""Grids: where codes lie, how far a value may move, and what happens at the edges of float16."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.ptq.grid import Grid, fit
from edge_asr_deploy.recipe.methods import Clip

BITS = st.integers(2, 8)
GROUPS = st.sampled_from([None, 16, 32, 64, 128])


@st.composite
def weights(draw: st.DrawFn) -> torch.Tensor:
    """Matrices with ragged last groups, rows and groups of zeros, shifted rows and scales over many magnitudes."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 150))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    magnitude = 10.0 ** draw(st.integers(-9, 4))
    values = generator.normal(draw(st.sampled_from([0, 0, 3, -3])), 1, size=(rows, columns)) * magnitude
    values[generator.random(rows) < 0.2] = 0
    values[:, generator.random(columns) < draw(st.sampled_from([0.0, 0.5]))] = 0
    # Beyond it a matrix is refused, which has a test of its own.
    return torch.from_numpy(values.clip(-65504, 65504).astype(np.float32))


def steps(grid: Grid, columns: int) -> torch.Tensor:
    return grid.scales[:, grid.columns(columns)]


@given(weights(), BITS, GROUPS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_min_max_moves_no_weight_by_more_than_half_a_step(
    weight: torch.Tensor, bits: int, group: int | None, symmetric: bool
) -> None:
    grid = fit(weight, bits, group, symmetric)
    error = (grid.decode(grid.encode(weight)) - weight).abs()
    assert (error <= steps(grid, weight.shape[1]) * (0.5 + 1e-4)).all()


@given(weights(), BITS, GROUPS, st.booleans(), st.sampled_from([0, 7]))
@settings(max_examples=100, deadline=None)
def test_what_is_stored_is_storable(
    weight: torch.Tensor, bits: int, group: int | None, symmetric: bool, clip_steps: int
) -> None:
    grid = fit(weight, bits, group, symmetric, clip_steps)
    groups = 1 if group is None else -(-weight.shape[1] // group)
    assert grid.scales.shape == grid.zero_points.shape == (weight.shape[0], groups)
    assert (grid.scales > 0).all() and torch.isfinite(grid.scales).all()
    assert torch.equal(grid.scales.half().float(), grid.scales)
    assert torch.equal(grid.zero_points, grid.zero_points.round())
    assert (grid.zero_points >= 0).all() and (grid.zero_points < 2**bits).all()
    if symmetric:
        assert (grid.zero_points == 2 ** (bits - 1)).all()
    codes = grid.encode(weight)
    assert codes.dtype == torch.uint8 and int(codes.max()) < 2**bits


@given(weights(), BITS, GROUPS, st.booleans(), st.sampled_from([0, 7]))
@settings(max_examples=100, deadline=None)
def test_a_dequantized_weight_has_its_codes_again_and_zero_stays_zero(
    weight: torch.Tensor, bits: int, group: int | None, symmetric: bool, clip_steps: int
) -> None:
    grid = fit(weight, bits, group, symmetric, clip_steps)
    codes = grid.encode(weight)
    assert torch.equal(grid.encode(grid.decode(codes)), codes)
    assert (grid.decode(codes)[weight == 0] == 0).all()


@given(weights(), st.integers(2, 4), GROUPS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_clip_search_never_has_more_weighted_error_than_min_max(
    weight: torch.Tensor, bits: int, group: int | None, symmetric: bool
) -> None:
    importance = torch.linspace(0.1, 5, weight.shape[1])

    def error(grid: Grid) -> float:
        difference = (grid.decode(grid.encode(weight)) - weight).double()
        return float((difference.square() * importance).sum())

    plain, searched = fit(weight, bits, group, symmetric), fit(weight, bits, group, symmetric, 10, importance)
    assert error(searched) <= error(plain) * (1 + 1e-5)


def test_clip_search_gives_up_an_outlier_that_does_not_matter() -> None:
    torch.manual_seed(0)
    weight = torch.randn(1, 32)
    weight[0, 5] = 5.0
    importance = torch.ones(32)
    equal = fit(weight, 3, 32, False, 20, importance).scales
    importance[5] = 0
    assert fit(weight, 3, 32, False, 20, importance).scales.item() < 0.9 * equal.item()


@given(weights(), st.integers(2, 4), GROUPS, st.booleans())
@settings(max_examples=40, deadline=None)
def test_percentile_search_never_has_more_weighted_error_than_min_max(
    weight: torch.Tensor, bits: int, group: int | None, symmetric: bool
) -> None:
    importance = torch.linspace(0.1, 5, weight.shape[1])

    def error(grid: Grid) -> float:
        difference = (grid.decode(grid.encode(weight)) - weight).double()
        return float((difference.square() * importance).sum())

    plain = fit(weight, bits, group, symmetric)
    searched = fit(weight, bits, group, symmetric, 10, importance, clip="percentile")
    assert error(searched) <= error(plain) * (1 + 1e-5)


def test_percentiles_cut_the_side_with_the_outlier_alone() -> None:
    """Shares of min-max would halve the other side, too."""
    weight = torch.linspace(-1, 1, 128)[None].clone()
    weight[0, -1] = 3
    importance = torch.ones(128)
    importance[-1] = 0
    found = {clip: fit(weight, 3, None, False, 10, importance, clip=clip) for clip in get_args(Clip)}
    errors = {clip: ((g.decode(g.encode(weight)) - weight).square() * importance).sum() for clip, g in found.items()}
    assert errors["percentile"] < 0.95 * errors["mse"]


def test_a_ragged_last_group_has_a_scale_of_its_own() -> None:
    weight = torch.cat([torch.ones(1, 32), torch.full((1, 4), 0.01)], 1)
    grid = fit(weight, 4, 32, False)
    assert grid.scales.shape == (1, 2)
    assert torch.allclose(grid.decode(grid.encode(weight)), weight, rtol=1e-3)


def test_a_group_on_one_side_of_zero_keeps_zero_on_the_grid() -> None:
    grid = fit(torch.tensor([[3.0, 4.0, 5.0]]), 4, None, False)
    assert grid.zero_points.item() == 0
    assert grid.scales.item() == pytest.approx(5 / 15, rel=1e-3)
    assert fit(torch.tensor([[-3.0, -5.0]]), 4, None, False).zero_points.item() == 15


def test_the_symmetric_grid_uses_its_extra_negative_code() -> None:
    assert fit(torch.tensor([[-8.0, 7.0]]), 4, None, True).scales.item() == 1
    assert fit(torch.tensor([[-7.0, 8.0]]), 4, None, True).scales.item() == pytest.approx(8 / 7, rel=1e-3)


def test_matrices_of_many_rows_are_fitted_row_by_row() -> None:
    weight = torch.randn(5000, 16, generator=torch.Generator().manual_seed(0))
    whole, last = fit(weight, 4, None, False, 5), fit(weight[-1:], 4, None, False, 5)
    assert torch.equal(whole.scales[-1:], last.scales)
    assert torch.equal(whole.encode(weight)[-1:], last.encode(weight[-1:]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_broken_weights_are_named(value: float) -> None:
    weight = torch.zeros(2, 4)
    weight[1, 2] = value
    with pytest.raises(UserError, match=r"weights of layers\.0\.fc1: .*must be finite"):
        fit(weight, 4, None, False, name="layers.0.fc1")
