"""QUIK and SpQR against slow, obvious versions of themselves, and against GPTQ on layers that have outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_asr_deploy.ptq.grid import fit
from edge_asr_deploy.ptq.methods import quik, spqr
from edge_asr_deploy.ptq.methods.quik import outlier_channels
from edge_asr_deploy.ptq.methods.spqr import leave_one_out, narrow_scales, without
from edge_asr_deploy.ptq.rounding import round_together
from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.quantized.outliers import with_fillers
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.methods import QuikOptions, SpqrOptions
from edge_asr_deploy.recipe.weights import WeightSpec


def layer(rows: int = 32, columns: int = 48) -> tuple[torch.Tensor, Statistics]:
    """A weight with a few entries far off the rest, and inputs of which two channels are far stronger."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, columns, generator=generator)
    far = torch.rand(weight.shape, generator=generator) < 0.005
    weight[far] *= 12
    inputs = torch.randn(400, columns, generator=generator)
    inputs[:, [5, 40]] *= 20
    found = Statistics(columns)
    found.add(inputs, torch.ones(len(inputs)))
    return weight, found


def rounded(method: str, bits: int = 3, granularity: str = "group:16", **options: Any) -> QuantizedWeight:
    weight, found = layer()
    quantizer = {"method": method, **options}
    spec = WeightSpec.model_validate({"bits": bits, "granularity": granularity, "quantizer": quantizer})
    (result,) = round_together({"w": weight}, "encoder", spec, found)
    return result


@pytest.mark.parametrize("granularity", ["channel", "group:16"])
@pytest.mark.parametrize(("method", "factor"), [("quik", 0.8), ("spqr", 0.9)])
def test_outliers_kept_mean_less_output_error_than_gptq(granularity: str, method: str, factor: float) -> None:
    plain, hybrid = rounded("gptq", granularity=granularity), rounded(method, granularity=granularity)
    assert hybrid.error is not None and plain.error is not None
    assert hybrid.error < factor * plain.error


def test_quik_keeps_the_channels_with_the_largest_inputs_and_gives_them_no_codes() -> None:
    result = rounded("quik", share=0.04)
    columns = result.float_columns
    assert columns is not None and columns.index.tolist() == [5, 40]
    group = columns.index // 16
    assert np.array_equal(result.codes[:, columns.index], result.zero_points[:, group])
    assert np.array_equal(result.dequantize()[:, columns.index], columns.values.astype(np.float32))
    assert outlier_channels(torch.tensor([3.0, 1.0, 2.0]), 0.01).tolist() == [0]


def test_quik_lets_the_kept_channels_make_up_for_the_rest() -> None:
    """With the codes given, the kept columns are the least-squares answer, up to float16 and damping."""
    weight, found = layer()
    options = QuikOptions(share=0.04, damping=1e-6)
    spec = WeightSpec(bits=3, granularity="group:16", quantizer=options)
    grid, codes, kept, values = quik(weight, spec, options, found)
    lost = (weight - grid.decode(codes)).double()
    lost[:, kept] = 0
    hessian = found.hessian
    best = weight[:, kept].double() + (lost @ hessian[:, kept]) @ torch.linalg.inv(hessian[kept][:, kept])
    assert torch.allclose(values.double(), best, atol=1e-2)


def slow_suspects(weight: torch.Tensor, spec: WeightSpec, curvature: torch.Tensor, threshold: float) -> torch.Tensor:
    """One round of leaving each weight of each group out of the fit in turn."""
    found = torch.zeros(weight.shape, dtype=torch.bool)
    for row in range(len(weight)):
        for start in range(0, weight.shape[1], 16):
            group, costs = weight[row, start : start + 16], curvature[start : start + 16]

            def cost(values: torch.Tensor, costs: torch.Tensor = costs) -> torch.Tensor:
                grid = fit(values[None], spec.bits, 16, spec.symmetric)
                return (values - grid.decode(grid.encode(values[None]))[0]).square() * costs

            for place in range(len(group)):
                rest = group.clone()
                others = torch.cat([group[:place], group[place + 1 :]])
                rest[place] = others.mean()
                left = cost(rest)
                left[place] = 0
                found[row, start + place] = cost(group).sum() - left.sum() > threshold
    return found


@pytest.mark.parametrize("threshold", [0.3, 3.0])
def test_leaving_one_out_is_that(monkeypatch: pytest.MonkeyPatch, threshold: float) -> None:
    import sys

    monkeypatch.setattr(sys.modules["edge_asr_deploy.ptq.methods.spqr"], "ROUNDS", 1)
    weight, _ = layer(16, 42)
    spec = WeightSpec(bits=3, granularity="group:16", quantizer=SpqrOptions())
    curvature = torch.linspace(0.5, 2, 42)
    found = leave_one_out(weight, spec, curvature, threshold)
    expected = slow_suspects(weight, spec, curvature, threshold)
    assert expected.any() and torch.equal(found, expected)


@pytest.mark.parametrize("share", [0.005, 0.01, 0.1])
@pytest.mark.parametrize("bits", [2, 3, 4, 7])
def test_spqr_keeps_at_most_its_share(share: float, bits: int) -> None:
    result = rounded("spqr", bits, share=share, threshold=1e-3)
    assert result.outliers is not None
    assert 0 < result.outliers.count <= share * result.codes.size


def test_at_8_bits_there_is_nothing_finer_to_keep() -> None:
    assert rounded("spqr", 8).outliers.count == 0


def test_kept_weights_are_nearer_than_their_codes_would_be() -> None:
    result = rounded("spqr", share=0.05, threshold=0.05)
    wide = result.outliers
    assert wide is not None and len(wide.positions)
    values, rows = result.dequantize(), len(result.codes)
    column, row = wide.positions // rows, wide.positions % rows
    # Without its outliers the matrix has 0 in their places: their codes are the zero points.
    assert (result.codes[row, column] == result.zero_points[row, column // 16]).all()
    weight = layer()[0].numpy()
    far = np.abs(weight[row, column]) > 8
    assert far.any()
    kept, original = values[row, column][far], weight[row, column][far]
    # They may have moved to make up for others' errors, but none is clipped to its group's narrow range.
    assert (np.abs(kept - original) < 0.3 * np.abs(original)).all()


def test_narrow_scales_lie_within_half_a_step_and_an_empty_group_spoils_none() -> None:
    weight = torch.randn(40, 48, generator=torch.Generator().manual_seed(1))
    weight[3, 16:32] = 0
    grid = fit(weight, 3, 16, False)
    empty = weight.reshape(40, 3, 16).abs().amax(-1) == 0
    narrowed, codes = narrow_scales(grid, torch.zeros(40, 3), empty, False, 3)
    step = torch.from_numpy(np.repeat(codes.step.astype(np.float32), 16, axis=0)[:40])
    off = (narrowed.scales - grid.scales).abs()[~empty]
    assert (off <= 0.51 * step[~empty] + 1e-6).all()
    assert np.array_equal(codes.by_group(), narrowed.scales.numpy())
    assert float(step.max()) < 0.1


def test_what_is_left_out_takes_the_mean_of_the_others() -> None:
    weight = torch.tensor([[1.0, 2.0, 3.0, 100.0, 7.0]])
    out = torch.tensor([[False, False, False, True, True]])
    assert without(weight, out, 4).tolist() == [[1, 2, 3, 2, 0]]


@given(st.lists(st.integers(0, 200_000), unique=True), st.sampled_from([8, 16]))
def test_fillers_make_every_gap_fit_and_lose_no_position(positions: list[int], width: int) -> None:
    ascending = np.array(sorted(positions), dtype=np.int64)
    filled = with_fillers(ascending, width)
    assert set(ascending) <= set(filled)
    gaps = np.diff(filled, prepend=0)
    assert (gaps < 1 << width).all() and (gaps[1:] > 0).all()


def test_channels_that_share_statistics_are_not_taken_apart() -> None:
    with pytest.raises(ValueError, match="share statistics"):
        rounded("spqr").rows(slice(0, 4))


def test_spqr_needs_no_permutation_of_its_result() -> None:
    weight, found = layer()
    options = SpqrOptions()
    spec = WeightSpec(bits=3, granularity="group:16", quantizer=options)
    result = spqr(weight, spec, options, found.hessian)
    assert result.codes.shape == weight.shape and result.zero_points.shape == (32, 3)
