"""SmoothQuant and AWQ against their formulas written out, on inputs whose channels differ much in power."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch

from edge_asr_deploy.ptq.grid import fit
from edge_asr_deploy.ptq.methods import awq, choose_scales, rtn, smoothquant
from edge_asr_deploy.ptq.methods.awq import candidate, scaled_loss
from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.recipe.methods import AwqOptions, GptqOptions, RtnOptions, SmoothQuantOptions
from edge_asr_deploy.recipe.weights import WeightSpec


def layer(seed: int = 0, rows: int = 24, columns: int = 40) -> tuple[torch.Tensor, torch.Tensor, Statistics]:
    """A weight, 200 positions of inputs, and the statistics of these."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    power = torch.randn(columns, generator=generator).mul(1.5).exp()
    inputs = torch.randn(200, columns, generator=generator) * power
    found = Statistics(columns)
    found.add(inputs, torch.ones(len(inputs)))
    return weight, inputs, found


def spec(bits: int = 3, quantizer: Any = None, **options: Any) -> WeightSpec:
    return WeightSpec(bits=bits, granularity="group:16", quantizer=quantizer or RtnOptions(), **options)


def output_loss(weight: torch.Tensor, inputs: torch.Tensor, scales: torch.Tensor, chosen: WeightSpec) -> float:
    """The squared output error of a scaled and rounded layer, 2/n of its sum over positions."""
    scaled = weight * scales
    grid = fit(scaled, chosen.bits, chosen.group_size, chosen.symmetric)
    rounded = grid.decode(grid.encode(scaled))
    difference = (inputs / scales) @ rounded.T - inputs @ weight.T
    return difference.double().square().sum().item() * 2 / len(inputs)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_smoothquant_scales_are_the_papers(alpha: float) -> None:
    weight, inputs, found = layer()
    scales = smoothquant(weight, found, SmoothQuantOptions(alpha=alpha))
    for j in range(weight.shape[1]):
        largest, heaviest = max(abs(x[j].item()) for x in inputs), max(abs(w[j].item()) for w in weight)
        assert scales[j].item() == pytest.approx(largest**alpha / heaviest ** (1 - alpha), rel=1e-5)


def test_smoothquant_halves_the_difficulty_between_inputs_and_weights() -> None:
    weight, inputs, found = layer()
    scales = smoothquant(weight, found, SmoothQuantOptions())
    assert torch.allclose((inputs / scales).abs().amax(0), (weight * scales).abs().amax(0), rtol=1e-4)


def test_awqs_loss_is_the_output_error_of_the_scaled_layer() -> None:
    weight, inputs, found = layer()
    for alpha in (0.0, 0.4, 1.0):
        scales = candidate(found.magnitude, alpha)
        expected = output_loss(weight, inputs, scales, spec())
        assert scaled_loss(weight, scales, found.hessian, spec()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_awq_takes_the_best_of_its_grid(seed: int) -> None:
    weight, inputs, found = layer(seed)
    magnitude = inputs.abs().mean(0)
    tried = []
    for step in range(20):
        scales = magnitude ** (step / 19)
        scales = scales / (scales.max() * scales.min()).sqrt()
        tried.append((output_loss(weight, inputs, scales, spec()), scales))
    assert torch.allclose(awq(weight, found, spec(), AwqOptions()), min(tried, key=lambda t: t[0])[1], rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("quantizer", [RtnOptions(), RtnOptions(clip_steps=8, weighted=True), RtnOptions(clip_steps=8)])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_awq_is_never_worse_than_rounding_to_nearest(seed: int, quantizer: RtnOptions, bits: int) -> None:
    weight, inputs, found = layer(seed)
    chosen = spec(bits, quantizer)

    def error(scales: torch.Tensor) -> float:
        metric = found.hessian / torch.outer(scales, scales)
        grid, codes = rtn(weight * scales, chosen, quantizer, metric)
        return float(((inputs / scales) @ grid.decode(codes).T - inputs @ weight.T).norm())

    scales, ones = awq(weight, found, chosen, AwqOptions()), torch.ones(weight.shape[1])
    assert error(scales) <= error(ones) * (1 + 1e-5)
    assert torch.equal(candidate(found.magnitude, 0.0), ones)


def test_awq_helps_where_channels_differ_in_power() -> None:
    weight, inputs, found = layer()
    scales, ones = awq(weight, found, spec(), AwqOptions()), torch.ones(weight.shape[1])
    assert output_loss(weight, inputs, scales, spec()) < 0.8 * output_loss(weight, inputs, ones, spec())


def test_matrices_that_share_an_input_share_the_loss() -> None:
    weight, _, found = layer()
    other = layer(1)[0]
    scales = candidate(found.magnitude, 0.5)
    parts = [scaled_loss(part, scales, found.hessian, spec()) for part in (weight, other)]
    assert scaled_loss(torch.cat([weight, other]), scales, found.hessian, spec()) == pytest.approx(sum(parts), rel=1e-4)


@pytest.mark.parametrize("options", [AwqOptions(), SmoothQuantOptions(alpha=1)])
@pytest.mark.parametrize("quantizer", [RtnOptions(), GptqOptions()])
def test_channels_that_are_never_heard_have_finite_positive_scales(options: Any, quantizer: Any) -> None:
    weight, inputs, _ = layer()
    for silent in (slice(3, 5), slice(None)):
        inputs[:, silent] = 0
        found = Statistics(weight.shape[1])
        found.add(inputs, torch.ones(len(inputs)))
        scales = choose_scales(weight, found, spec(4, quantizer), options)
        assert scales.isfinite().all() and (scales > 0).all()


def test_the_mean_magnitude_counts_positions_by_their_weight() -> None:
    _, inputs, _ = layer()
    weights = torch.rand(len(inputs), generator=torch.Generator().manual_seed(0))
    found = Statistics(inputs.shape[1])
    found.add(inputs, weights)
    assert torch.allclose(found.magnitude, (inputs.abs() * weights[:, None]).sum(0) / weights.sum(), rtol=1e-4)
