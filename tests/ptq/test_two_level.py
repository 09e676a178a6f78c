"""Two-level grids: scales that are small multiples of one, products that fit int8, hardly coarser than free scales."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr_deploy.families import family
from edge_asr_deploy.ptq.grid import Grid, fit
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.ptq.rounding import round_together
from edge_asr_deploy.ptq.two_level import constrain, fit_for, limits, multipliers
from edge_asr_deploy.quantized.scales import TwoLevelScales
from edge_asr_deploy.recipe.weights import WeightSpec
from tests.support import short as models


def matrix(rows: int = 24, columns: int = 80, seed: int = 0) -> torch.Tensor:
    """Groups of very different sizes, as in real weights."""
    generator = torch.Generator().manual_seed(seed)
    strength = torch.randn(rows, columns // 16, generator=generator).exp().repeat_interleave(16, 1)
    return torch.randn(rows, columns, generator=generator) * strength * 0.02


def relative_error(weight: torch.Tensor, grid: Grid) -> float:
    return float((grid.decode(grid.encode(weight)) - weight).norm() / weight.norm())


@settings(max_examples=40, deadline=None)
@given(
    bits=st.integers(2, 7),
    symmetric=st.booleans(),
    group=st.sampled_from([16, 32]),
    seed=st.integers(0, 1000),
    power=st.integers(-12, 8),
)
def test_every_possible_code_times_its_multiplier_is_an_int8_and_the_grid_is_exact(
    bits: int, symmetric: bool, group: int, seed: int, power: int
) -> None:
    weight = matrix(seed=seed) * 2.0**power
    grid = constrain(fit(weight, bits, group, symmetric), weight, symmetric)
    factors, zeros = multipliers(grid).int(), grid.zero_points.int()
    assert factors.min() >= 1 and factors.max() <= 2 ** (8 - bits)
    assert ((0 - zeros) * factors).min() >= -128
    assert ((2**bits - 1 - zeros) * factors).max() <= 127
    assert grid.base is not None
    assert torch.equal(grid.base.to(torch.float16).float(), grid.base), "what is stored in float16"
    assert torch.equal(factors.float() * grid.base, grid.scales)
    codes = grid.encode(weight)
    spread = grid.columns(weight.shape[1])
    products = (codes.int() - zeros[:, spread]) * factors[:, spread]
    assert torch.equal(grid.decode(codes), products.float() * grid.base)
    if symmetric:
        assert (zeros == 2 ** (bits - 1)).all()


@pytest.mark.parametrize(("bits", "cost"), [(3, 1.0), (4, 1.05), (5, 1.15), (6, 1.4)])
def test_it_costs_little_against_free_scales_and_much_less_than_one_scale_per_channel(bits: int, cost: float) -> None:
    weight = matrix(64, 320)
    free, one = (WeightSpec(bits=bits, symmetric=True, granularity=g) for g in ("group:32", "channel"))
    two = WeightSpec(bits=bits, symmetric=True, granularity="group:32", storage="two-level")
    error = relative_error(weight, fit_for(weight, two))
    assert error < cost * relative_error(weight, fit_for(weight, free))
    assert error < 0.75 * relative_error(weight, fit_for(weight, one))


def test_importance_moves_the_choice_to_the_columns_that_matter() -> None:
    weight = matrix(64, 320)
    importance = torch.ones(320)
    importance[:32] = 1000
    plain = fit(weight, 5, 32, False)
    grids = [constrain(plain, weight, False, given) for given in (None, importance)]
    flat, weighted = ((g.decode(g.encode(weight)) - weight)[:, :32].square().sum() for g in grids)
    assert weighted < flat


def test_limits_are_the_largest_multipliers() -> None:
    zero_points = torch.arange(16.0)[None]
    found = limits(zero_points, 4).int()
    for zero, limit in enumerate(found[0].tolist()):
        fits = [m for m in range(1, 17) if -zero * m >= -128 and (15 - zero) * m <= 127]
        assert limit == max(fits)


@pytest.mark.parametrize("quantizer", [{"method": "rtn"}, {"method": "gptq"}])
def test_methods_round_on_the_grid_that_is_stored(quantizer: dict[str, str]) -> None:
    spec = WeightSpec.model_validate(
        {"bits": 4, "granularity": "group:16", "storage": "two-level", "quantizer": quantizer}
    )
    recipe = models.recipe("whisper", {"method": "rtn"}, encoder=spec.model_dump())
    model = models.model("whisper")
    weights = quantize(model, family("whisper"), recipe, models.samples("whisper"))
    for weight in weights:
        assert np.array_equal(weight.dequantize(), model.get_submodule(weight.name).weight.detach().numpy())
        assert isinstance(weight.scales, TwoLevelScales) == (weight.component == "encoder")
        if isinstance(weight.scales, TwoLevelScales):
            assert weight.scales.channels.shape == (weight.shape[0], 1)


def test_rounding_to_nearest_is_nearest_on_the_constrained_grid() -> None:
    weight = matrix()
    spec = WeightSpec(bits=4, granularity="group:16", storage="two-level")
    (done,) = round_together({"layer": weight}, "encoder", spec, None)
    step = np.repeat(done.scales.by_group(), 16, axis=1)
    inside = (done.codes > 0) & (done.codes < 15)
    assert (np.abs(done.dequantize() - weight.numpy()) <= step / 2 * 1.0001)[inside].all()
