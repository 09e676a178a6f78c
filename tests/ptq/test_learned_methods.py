"""OmniQuant and TesseraQ on single layers: against obvious versions of themselves, and against rounding to nearest."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest
import torch

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.ptq.grid import fit, from_range
from edge_asr_deploy.ptq.learning.reconstruction import Part, Site, layer_error, total
from edge_asr_deploy.ptq.methods import gptq, learn, omniquant, round_weight, tesseraq
from edge_asr_deploy.ptq.methods.omniquant import _Learner
from edge_asr_deploy.ptq.methods.tesseraq import DAMPING, _from_clipped, _from_gptq
from edge_asr_deploy.ptq.statistics import Statistics, output_error
from edge_asr_deploy.recipe.methods import GptqOptions, OmniQuantOptions, TesseraqOptions
from edge_asr_deploy.recipe.weights import WeightSpec

OMNIQUANT = OmniQuantOptions(epochs=10, rate=0.03)
TESSERAQ = TesseraqOptions(rounds=4, iterations=15, rate=0.1)
BOTH = pytest.mark.parametrize("options", [OMNIQUANT, TESSERAQ], ids=["omniquant", "tesseraq"])


def layer(rows: int = 12, columns: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight and the Hessian of correlated inputs whose channels differ in power."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    mixing = torch.randn(columns, columns, generator=generator) + 2 * torch.eye(columns)
    statistics = Statistics(columns)
    statistics.add(
        torch.randn(300, columns, generator=generator) @ mixing * torch.logspace(-0.5, 0.5, columns), torch.ones(300)
    )
    return weight, statistics.hessian


def single(weight: torch.Tensor, hessian: torch.Tensor, **site: Any) -> Part:
    matrices = {"a.weight": weight}
    return Part(matrices, (Site(("a",), hessian, **site),), layer_error(matrices, hessian))


def spec(options: Any, bits: int = 3, granularity: str = "group:16", symmetric: bool = False) -> WeightSpec:
    return WeightSpec(bits=bits, granularity=granularity, symmetric=symmetric, quantizer=options)


@BOTH
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("granularity", ["channel", "group:16"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_learned_codes_lie_on_a_grid_that_can_be_stored_and_beat_rounding_to_nearest(
    options: Any, bits: int, granularity: str, symmetric: bool
) -> None:
    weight, hessian = layer()
    chosen = spec(options, bits, granularity, symmetric)
    learned = learn(single(weight, hessian), chosen)
    grid, codes = learned.rounded["a"]
    assert codes.dtype == torch.uint8 and codes.max().item() < 2**bits
    assert torch.equal(grid.scales, grid.scales.to(torch.float16).float()) and (grid.scales > 0).all()
    assert torch.equal(grid.zero_points, grid.zero_points.round())
    assert grid.zero_points.min() >= 0 and grid.zero_points.max() < 2**bits
    assert grid.scales.shape == ((12, 1) if granularity == "channel" else (12, 3))
    if symmetric:
        assert (grid.zero_points == 2 ** (bits - 1)).all()
    assert learned.error == pytest.approx(output_error(weight, grid.decode(codes), hessian) ** 2, rel=1e-3)
    nearest = fit(weight, bits, chosen.group_size, symmetric)
    before = output_error(weight, nearest.decode(nearest.encode(weight)), hessian) ** 2
    # Clipping has little to give where codes are many, or where one side of a range decides for both.
    narrow = bits < 4 or (bits == 4 and not symmetric)
    assert learned.error < before if options is TESSERAQ or narrow else learned.error <= before * (1 + 1e-3)


@BOTH
def test_the_same_seed_gives_the_same_codes(options: Any) -> None:
    part = single(*layer())
    (first_grid, first), (second_grid, second) = (learn(part, spec(options)).rounded["a"] for _ in range(2))
    assert torch.equal(first, second) and torch.equal(first_grid.scales, second_grid.scales)


@BOTH
def test_activations_that_are_not_finite_are_an_error(options: Any) -> None:
    weight, hessian = layer()
    hessian[0, 0] = float("nan")
    with pytest.raises(UserError, match="activations that are not finite"):
        learn(single(weight, hessian), spec(options))


@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_omniquant_is_never_worse_than_min_max(rate: float) -> None:
    for seed in range(4):
        weight, hessian = layer(4, 16, seed)
        options = OmniQuantOptions(epochs=2, rate=rate)
        nearest = fit(weight, 3, 16, False)
        start = output_error(weight, nearest.decode(nearest.encode(weight)), hessian) ** 2
        assert omniquant(single(weight, hessian), spec(options), options).error <= start * (1 + 1e-4)


@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_tesseraq_is_never_worse_than_the_clipped_grid(rate: float) -> None:
    for seed in range(4):
        weight, hessian = layer(4, 16, seed)
        options = TesseraqOptions(rounds=2, iterations=3, rate=rate, scale_rate=0.1)
        nearest = fit(weight, 3, 16, False, options.clip_steps, hessian.diagonal())
        start = output_error(weight, nearest.decode(nearest.encode(weight)), hessian) ** 2
        assert tesseraq(single(weight, hessian), spec(options), options).error <= start * (1 + 1e-4)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("clip", [-1.0, 0.3, 20.0])
def test_omniquant_computes_with_the_grid_of_the_clipped_range(symmetric: bool, clip: float) -> None:
    weight, hessian = layer()
    learner = _Learner(single(weight, hessian), spec(OMNIQUANT, symmetric=symmetric), OMNIQUANT)
    share = torch.sigmoid(torch.tensor(clip))
    for logits in learner.clips["a"]:
        logits.fill_(clip)
    for row in range(len(weight)):
        for start in range(0, 40, 16):
            part = weight[row : row + 1, start : start + 16]
            low, high = part.min().clamp(max=0) * share, part.max().clamp(min=0) * share
            grid = from_range(low.view(1, 1), high.view(1, 1), 3, None, symmetric)
            expected = grid.decode(grid.encode(part))
            assert torch.equal(learner.parameters()["a.weight"][row : row + 1, start : start + 16], expected)


def test_omniquant_learns_a_clip_that_a_search_finds_too() -> None:
    """One row of one group with an outlier no input asks for: the whole range would waste the codes on it."""
    weight, hessian = torch.linspace(-1, 1, 16)[None].clone(), torch.eye(16, dtype=torch.float64)
    weight[0, 0], hessian[0, 0] = 8.0, 1e-6
    options = OmniQuantOptions(epochs=30, rate=0.1)
    learned = omniquant(single(weight, hessian), spec(options), options)
    shares = torch.linspace(0.02, 1, 99)
    errors = []
    for share in shares:
        grid = from_range(torch.tensor([[-1.0]]), 8 * share.view(1, 1), 3, 16, False)
        errors.append(output_error(weight, grid.decode(grid.encode(weight)), hessian) ** 2)
    assert learned.error < 1.3 * min(errors) < 0.2 * errors[-1]


def test_omniquants_scales_and_shifts_are_an_identity_around_the_rounding() -> None:
    """What is learned without folding is what the folded layer gives: x -> (x - z) / s, W -> W s, b -> b + W z."""
    weight, hessian = layer()
    generator = torch.Generator().manual_seed(3)
    bias, inputs = torch.randn(12, generator=generator), torch.randn(30, 40, generator=generator)
    scales, shifts = torch.randn(40, generator=generator).exp(), torch.randn(40, generator=generator)
    matrices = {"a.weight": weight, "a.bias": bias}
    part = Part(matrices, (Site(("a",), hessian, scales, None, shifts),), layer_error({"a.weight": weight}, hessian))
    learner = _Learner(part, spec(OMNIQUANT), OMNIQUANT)
    learner.start()
    found, result = learner.parameters(), learner.result(0.0)
    grid, codes = result.rounded["a"]
    folded = (inputs - result.shifts["a"]) / result.scales["a"] @ grid.decode(codes).T + bias + weight @ shifts
    assert torch.allclose(inputs @ found["a.weight"].T + found["a.bias"], folded, atol=1e-4)


def test_tesseraq_starts_from_the_float_matrix_and_ends_on_one_of_two_codes() -> None:
    weight, hessian = layer()
    options = TesseraqOptions(clip_steps=0)
    matrix = _from_clipped(weight, spec(options), options, Site(("a",), hessian), "a")
    # But for weights beyond the last code's value.
    inside = (matrix.floor + matrix.zero < 7) & (matrix.floor + matrix.zero >= 0)
    assert torch.allclose(matrix.soft()[inside], weight[inside], atol=1e-5)
    grid, codes = matrix.hard()
    assert torch.equal(codes, grid.encode(weight))
    down = (weight / matrix.columns(grid.scales)).floor() + matrix.zero
    with torch.no_grad():
        matrix.logits.copy_(torch.randn(weight.shape))
        matrix.factors.fill_(0.5)
    grid, codes = matrix.hard()
    assert torch.equal(codes.float(), torch.where(matrix.logits > 0, down + 1, down).clamp(0, 7))
    expected = matrix.grid.scales * 2 * torch.sigmoid(torch.tensor(0.5))
    assert torch.equal(grid.scales, expected.to(torch.float16).float())


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("symmetric", [False, True])
def test_tesseraq_from_gptq_begins_at_its_codes_and_ends_within_one_step_of_them(bits: int, symmetric: bool) -> None:
    weight, hessian = layer()
    options = TesseraqOptions(rounds=3, iterations=10, rate=0.02)
    chosen = spec(options, bits, symmetric=symmetric)
    damped = GptqOptions(damping=DAMPING, clip_steps=options.clip_steps)
    grid, codes = gptq(weight, chosen, damped, hessian)
    matrix = _from_gptq(weight, chosen, options, Site(("a",), hessian), "a")
    assert torch.equal(matrix.start, codes)
    assert torch.equal(matrix.hard()[1], codes) and torch.equal(matrix.hard()[0].scales, grid.scales)
    with torch.no_grad():
        matrix.logits.neg_()
    # A weight that GPTQ rounded away from itself may go back, by one step.
    other = matrix.hard()[1].int() - codes.int()
    back = torch.sign(weight / matrix.columns(grid.scales) + matrix.zero - codes)
    assert other.abs().max() == 1 and (other * back >= 0).all()
    error = output_error(weight, grid.decode(codes), hessian) ** 2
    assert tesseraq(single(weight, hessian), chosen, options).error <= error * (1 + 1e-4)


def test_tesseraq_improves_on_gptq() -> None:
    """Its scales and some of its codes, together; over several layers, since one may leave nothing to gain."""
    before, after = 0.0, 0.0
    for seed in range(3):
        weight, hessian = layer(32, 64, seed)
        options = TesseraqOptions(rate=0.02)
        chosen = spec(options, 2, "group:32")
        grid, codes = gptq(weight, chosen, GptqOptions(damping=DAMPING, clip_steps=options.clip_steps), hessian)
        before += output_error(weight, grid.decode(codes), hessian) ** 2
        after += tesseraq(single(weight, hessian), chosen, options).error
    assert after < 0.98 * before


def test_omniquant_starts_from_a_clip_search() -> None:
    weight, hessian = layer()
    for symmetric in (False, True):
        learner = _Learner(single(weight, hessian), spec(OMNIQUANT, symmetric=symmetric), OMNIQUANT)
        learner.start()
        searched = fit(weight, 3, 16, symmetric, 10, hessian.diagonal())
        whole = fit(weight, 3, 16, symmetric)
        grid, _ = learner.result(0.0).rounded["a"]
        narrower = searched.scales < 0.97 * whole.scales
        assert narrower.any()
        assert torch.allclose(grid.scales[narrower], searched.scales[narrower], rtol=2e-3)


def test_tesseraq_hardens_the_decided_weights_first_and_for_good() -> None:
    weight, hessian = layer()
    matrix = _from_clipped(weight, spec(TESSERAQ), TESSERAQ, Site(("a",), hessian), "a")
    up = matrix.up().detach()
    matrix.harden(0.25)
    assert int((~matrix.fixed).sum()) == weight.numel() // 4
    decided = (up - 0.5).abs()
    assert decided[matrix.fixed].min() >= decided[~matrix.fixed].max()
    assert torch.equal(matrix.ends[matrix.fixed], (up > 0.5).float()[matrix.fixed])
    before, ends = matrix.fixed.clone(), matrix.ends.clone()
    with torch.no_grad():
        matrix.logits.neg_()
    matrix.harden(0.0)
    assert matrix.fixed.all() and torch.equal(matrix.ends[before], ends[before])
    assert torch.allclose(matrix.soft(), matrix.grid.decode(matrix.hard()[1]))


def test_tesseraq_comes_nearer_to_the_best_of_all_roundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against trying every way to round eight weights up or down, from those that are rounded to nearest."""
    best, found, nearest = 0.0, 0.0, 0.0
    for seed in range(5):
        weight, hessian = layer(1, 8, seed)
        options = TesseraqOptions(rounds=8, iterations=20, rate=0.05, scale_rate=1e-9, clip_steps=0)
        chosen = spec(options)
        part = single(weight, hessian)
        monkeypatch.setattr(sys.modules[_from_clipped.__module__], "_from_gptq", _from_clipped)
        matrix = _from_clipped(weight, chosen, options, Site(("a",), hessian), "a")
        errors = []
        for up in itertools.product((0.0, 1.0), repeat=8):
            codes = matrix.codes(torch.tensor([up]))
            errors.append(total(part.objective, {"a.weight": matrix.grid.decode(codes.to(torch.uint8))}))
        start = total(part.objective, {"a.weight": matrix.grid.decode(matrix.start)})
        learned = tesseraq(part, chosen, options).error
        assert min(errors) * (1 - 1e-4) <= learned <= start
        best, found, nearest = best + min(errors), found + learned, nearest + start
    assert found < best + 0.6 * (nearest - best)


@BOTH
def test_layers_in_no_block_are_learned_on_their_own_output(options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asr_deploy.ptq.methods.ROWS", 5)
    weight, hessian = layer()
    grid, codes = round_weight(weight, spec(options), hessian)
    nearest = fit(weight, 3, 16, False)
    before = output_error(weight, nearest.decode(nearest.encode(weight)), hessian)
    assert output_error(weight, grid.decode(codes), hessian) < 0.99 * before
    with pytest.raises(ValueError, match="needs the Hessian"):
        round_weight(weight, spec(options))
