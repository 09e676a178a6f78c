"""Codes chosen again after GPTQ: against a slow version, never worse, and stored as the storage wants them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr_deploy.families import family
from edge_asr_deploy.ptq.grid import Grid
from edge_asr_deploy.ptq.methods import gptq
from edge_asr_deploy.ptq.methods.refining import _Matrix, refined
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.ptq.two_level import fit_for, limits, multipliers
from edge_asr_deploy.recipe.methods import GptqOptions
from edge_asr_deploy.recipe.weights import WeightSpec
from tests.support import short as models


def layer(rows: int = 24, columns: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight (out, in), and the Hessian of correlated inputs of very different power."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) + 2 * torch.eye(columns)
    inputs = torch.randn(300, columns, generator=generator) @ mixing * torch.logspace(-1, 1, columns)
    return torch.randn(rows, columns, generator=generator), (inputs.T @ inputs / 300).double()


def spec(bits: int, storage: str, passes: int) -> tuple[WeightSpec, GptqOptions]:
    options = GptqOptions(passes=passes, damping=0.01, clip_steps=4)
    return WeightSpec(bits=bits, granularity="group:16", storage=storage, quantizer=options), options


def damped(hessian: torch.Tensor) -> torch.Tensor:
    return hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))


def error(weight: torch.Tensor, grid: Grid, codes: torch.Tensor, hessian: torch.Tensor) -> float:
    lost = (weight - grid.decode(codes)).double()
    return float(((lost @ damped(hessian)) * lost).sum())


def slow_pass(weight: torch.Tensor, grid: Grid, codes: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """Every code of a column is tried in turn, and the one with the least error of the whole row is taken."""
    codes = codes.clone()
    for column in range(weight.shape[1]):
        tried = []
        for code in range(2**grid.bits):
            codes[:, column] = code
            lost = (weight - grid.decode(codes)).double()
            tried.append(((lost @ hessian) * lost).sum(1))
        codes[:, column] = torch.stack(tried).argmin(0).to(torch.uint8)
    return codes


@pytest.mark.parametrize("block", [1, 7, 128])
def test_a_pass_takes_the_best_code_of_each_column(block: int) -> None:
    weight, hessian = layer()
    chosen, _ = spec(3, "plain", 0)
    grid = fit_for(weight, chosen, 4)
    start, curved = grid.encode(weight), damped(hessian)
    order = torch.arange(weight.shape[1])
    matrix = _Matrix.of(weight, start, grid, curved.float())
    matrix.round_again(order, block)
    expected = slow_pass(weight, grid, start, curved)
    # A value on the edge between two codes may fall either way in float32.
    assert (expected != matrix.codes.T).float().mean() < 0.005


@pytest.mark.parametrize("storage", ["plain", "two-level"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_error_after_gptq_is_less(bits: int, storage: str) -> None:
    weight, hessian = layer()
    before = error(weight, *gptq(weight, *spec(bits, storage, 0), hessian), hessian)
    after = error(weight, *gptq(weight, *spec(bits, storage, 2), hessian), hessian)
    more = error(weight, *gptq(weight, *spec(bits, storage, 8), hessian), hessian)
    assert after < 0.97 * before
    assert more <= after * 1.01


@settings(max_examples=25, deadline=None)
@given(bits=st.integers(2, 6), seed=st.integers(0, 1000), storage=st.sampled_from(["plain", "two-level"]))
def test_what_is_stored_is_what_was_rounded_on(bits: int, seed: int, storage: str) -> None:
    weight, hessian = layer(seed=seed)
    grid, codes = gptq(weight, *spec(bits, storage, 1), hessian)
    assert codes.max() < 2**bits
    stored = grid.scales if grid.base is None else grid.base
    assert torch.equal(stored, stored.to(torch.float16).float()) and (stored > 0).all()
    if grid.base is not None:
        assert torch.equal(multipliers(grid) * grid.base, grid.scales)
        assert (multipliers(grid) <= limits(grid.zero_points, bits)).all(), "products fit int8"


def test_scales_are_the_best_for_their_codes() -> None:
    weight, hessian = layer()
    grid, codes = gptq(weight, *spec(3, "two-level", 0), hessian)
    matrix = _Matrix.of(weight, codes, grid, damped(hessian).float())
    matrix.fit_scales()
    fitted = matrix.grid
    assert fitted.base is not None and grid.base is not None
    least = error(weight, fitted, codes, hessian)
    assert least < error(weight, grid, codes, hessian)
    for factor in (0.995, 1.005):
        other = Grid(fitted.scales * factor, fitted.zero_points, fitted.bits, fitted.group)
        assert error(weight, other, codes, hessian) > least
    lost = (weight - fitted.decode(codes)).T
    torch.testing.assert_close(matrix.error, lost, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(matrix.pull, damped(hessian).float() @ lost, atol=2e-2, rtol=1e-3)


def test_no_scale_goes_far_where_the_inputs_say_nothing() -> None:
    weight, _ = layer()
    hessian = torch.zeros(40, 40, dtype=torch.float64)
    hessian[0, 0] = 1.0
    grid, _ = gptq(weight, *spec(3, "plain", 2), hessian)
    searched = fit_for(weight, spec(3, "plain", 0)[0], 4, hessian.diagonal())
    ratio = grid.scales / searched.scales
    assert ratio.isfinite().all() and (ratio > 0.69).all() and (ratio < 1.41).all()


def test_without_passes_nothing_is_chosen_again() -> None:
    weight, hessian = layer()
    grid, codes = gptq(weight, *spec(3, "plain", 0), hessian)
    again, others = refined(weight, grid, codes, damped(hessian).float(), torch.arange(40), 0, 128)
    assert torch.equal(codes, others) and not torch.equal(grid.scales, again.scales), "only the scales are fitted"
    assert "passes" not in GptqOptions().model_dump()


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_models_compute_with_what_was_chosen_again(name: str) -> None:
    quantizer: dict[str, Any] = {"method": "gptq", "damping": 0.1, "passes": 2}
    errors = []
    for options in ({**quantizer, "passes": 0}, quantizer):
        same = {"bits": 3, "granularity": "group:16", "quantizer": options}
        recipe = models.recipe(name, options, encoder=same, cross_attention=same, decoder=same, embedding=same)
        model = models.shuffled(name, 0)
        weights = quantize(model, family(name), recipe, models.samples(name, 3))
        for weight in weights:
            assert (model.get_submodule(weight.name).weight.detach().numpy() == weight.dequantize()).all()
        errors.append(sum(weight.error or 0.0 for weight in weights))
    assert errors[1] < errors[0]
