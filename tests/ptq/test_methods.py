"""GPTQ against a slow, obvious version of itself, and against rounding to nearest."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.ptq.grid import Grid, fit
from edge_asr_deploy.ptq.methods import gptq, needs_statistics, round_weight, rtn
from edge_asr_deploy.ptq.methods.gptq import inverse_factor
from edge_asr_deploy.ptq.statistics import Statistics, output_error
from edge_asr_deploy.recipe.methods import GptqOptions, RtnOptions
from edge_asr_deploy.recipe.weights import WeightSpec


def layer(rows: int = 24, columns: int = 40, positions: int = 300) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A weight, correlated inputs with channels of very different power, and their Hessian."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, columns, generator=generator)
    mixing = torch.randn(columns, columns, generator=generator) + 2 * torch.eye(columns)
    inputs = torch.randn(positions, columns, generator=generator) @ mixing * torch.logspace(-1, 1, columns)
    statistics = Statistics(columns)
    statistics.add(inputs, torch.ones(positions))
    return weight, inputs, statistics.hessian


def spec(bits: int = 3, granularity: str = "group:16", **options: Any) -> tuple[WeightSpec, GptqOptions]:
    gptq_options = GptqOptions(**options)
    return WeightSpec(bits=bits, granularity=granularity, quantizer=gptq_options), gptq_options


def slow_gptq(weight: torch.Tensor, grid: Grid, hessian: torch.Tensor, damping: float, act_order: bool) -> torch.Tensor:
    """Optimal Brain Quantization in a fixed order: after each column, invert the Hessian of those that remain."""
    work, hessian = weight.double().clone(), hessian.clone()
    hessian += damping * hessian.diagonal().mean() * torch.eye(len(hessian))
    diagonal = hessian.diagonal()
    order = torch.argsort(diagonal, descending=True, stable=True) if act_order else torch.arange(len(diagonal))
    remaining = order.tolist()
    codes = torch.zeros(weight.shape, dtype=torch.uint8)
    while remaining:
        inverse = torch.linalg.inv(hessian[remaining][:, remaining])
        column = remaining[0]
        codes[:, column] = grid.encode(work.float())[:, column]
        error = work[:, column] - grid.decode(codes)[:, column]
        work[:, remaining] -= torch.outer(error, inverse[0] / inverse[0, 0])
        remaining = remaining[1:]
    return codes


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("block", [1, 7, 128])
@pytest.mark.parametrize("granularity", ["channel", "group:16"])
def test_gptq_is_optimal_brain_quantization_in_order(act_order: bool, block: int, granularity: str) -> None:
    weight, _, hessian = layer()
    chosen, options = spec(granularity=granularity, act_order=act_order, block=block)
    grid, codes = gptq(weight, chosen, options, hessian)
    expected = slow_gptq(weight, grid, hessian, options.damping, act_order)
    # A value on the edge between two codes may fall either way in float32.
    assert (codes != expected).float().mean() < 0.005


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("clip_steps", [0, 8])
def test_gptq_has_less_output_error_than_rounding_to_nearest(bits: int, clip_steps: int) -> None:
    weight, inputs, hessian = layer()
    chosen, options = spec(bits, clip_steps=clip_steps)
    nearest, codes = rtn(weight, chosen, RtnOptions(clip_steps=clip_steps, weighted=True), hessian)
    grid, better = gptq(weight, chosen, options, hessian)
    before, after = (((weight - g.decode(c)) @ inputs.T).norm() for g, c in ((nearest, codes), (grid, better)))
    assert after < 0.8 * before


def test_the_grid_is_static_so_groups_stay_in_their_columns() -> None:
    weight, _, hessian = layer()
    chosen, options = spec(act_order=True)
    grid, _ = gptq(weight, chosen, options, hessian)
    assert torch.equal(grid.scales, fit(weight, 3, 16, False).scales)


def test_inputs_that_were_never_seen_keep_their_nearest_codes() -> None:
    weight, inputs, _ = layer()
    inputs[:, [3, 17]] = 0
    statistics = Statistics(weight.shape[1])
    statistics.add(inputs, torch.ones(len(inputs)))
    chosen, options = spec()
    grid, codes = gptq(weight, chosen, options, statistics.hessian)
    assert torch.equal(codes[:, [3, 17]], grid.encode(weight)[:, [3, 17]])


def test_fewer_positions_than_channels_are_enough() -> None:
    weight, _, hessian = layer(positions=5)
    chosen, options = spec(damping=1e-9)
    grid, codes = gptq(weight, chosen, options, hessian)
    assert output_error(weight, grid.decode(codes), hessian) < 0.2


def test_a_hessian_that_is_not_positive_definite_gets_more_damping() -> None:
    hessian = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    factor = inverse_factor(hessian, 0.01)
    assert torch.isfinite(factor).all()
    assert factor[1, 0] == 0


def test_the_factor_is_that_of_the_inverse() -> None:
    _, _, hessian = layer()
    factor = inverse_factor(hessian, 0.01)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
    assert torch.allclose(factor.T @ factor @ damped, torch.eye(len(hessian), dtype=torch.float64), atol=1e-6)


def test_activations_that_are_not_finite_are_an_error_and_not_a_loop() -> None:
    weight, _, hessian = layer()
    hessian[0, 0] = float("nan")
    with pytest.raises(UserError, match="activations that are not finite"):
        gptq(weight, *spec(), hessian)


def test_which_methods_need_speech() -> None:
    assert needs_statistics(spec()[0])
    assert not needs_statistics(spec(16)[0])
    assert not needs_statistics(WeightSpec(quantizer=RtnOptions(clip_steps=4)))
    assert needs_statistics(WeightSpec(quantizer=RtnOptions(clip_steps=4, weighted=True)))


def test_stacked_matrices_round_as_each_alone() -> None:
    weight, _, hessian = layer()
    chosen, _ = spec()
    _, together = round_weight(torch.cat([weight, 2 * weight]), chosen, hessian)
    for part, rows in ((weight, slice(0, 24)), (2 * weight, slice(24, 48))):
        assert (round_weight(part, chosen, hessian)[1] != together[rows]).float().mean() < 0.005


def test_statistics_count_positions_by_their_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, weights = torch.randn(50, 6, generator=generator), torch.rand(50, generator=generator)
    weights[:20] = 0
    statistics = Statistics(6)
    statistics.add(inputs[:30], weights[:30])
    statistics.add(inputs[30:], weights[30:])
    real = inputs[20:].double()
    part = weights[20:].double()
    assert torch.allclose(statistics.hessian, 2 * (real.T * part) @ real / part.sum(), atol=1e-5)
    assert torch.allclose(statistics.mean.double(), (real * part[:, None]).sum(0) / part.sum(), atol=1e-5)
    assert torch.equal(statistics.absmax, inputs[20:].abs().amax(0))


def test_output_error_is_relative_to_the_layers_output() -> None:
    weight, inputs, hessian = layer()
    values = weight + 0.1
    expected = ((weight - values) @ inputs.T).norm() / (weight @ inputs.T).norm()
    assert output_error(weight, values, hessian) == pytest.approx(expected.item(), rel=1e-3)
    assert output_error(weight, values, None) == pytest.approx(((weight - values).norm() / weight.norm()).item())
    assert output_error(weight * 0, weight * 0, hessian) == 0
