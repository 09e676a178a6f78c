"""QEP is a regularized least-squares problem; here it is solved as one."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.ptq.methods import bias_change, qep
from edge_asr_deploy.ptq.statistics import Drift, Statistics
from edge_asr_deploy.recipe.methods import QepOptions


def moved(columns: int = 12, positions: int = 80) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A weight, original inputs, the inputs after errors, and the positions' weights (some 0)."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(7, columns, generator=generator)
    mixing = torch.randn(columns, columns, generator=generator)
    originals = torch.randn(positions, columns, generator=generator) @ mixing
    inputs = 0.9 * originals + 0.3 * torch.randn(positions, columns, generator=generator)
    counts = torch.rand(positions, generator=generator)
    counts[:9] = 0
    return weight, originals, inputs, counts


def gathered(originals: torch.Tensor, inputs: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    statistics, drift = Statistics(inputs.shape[1]), Drift(inputs.shape[1])
    for rows in (slice(0, 30), slice(30, None)):
        statistics.add(inputs[rows], counts[rows])
        drift.add(inputs[rows], originals[rows], counts[rows])
    return statistics.hessian, drift.matrix


@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_a_whole_correction_solves_the_least_squares_problem(damping: float) -> None:
    weight, originals, inputs, counts = moved()
    hessian, drift = gathered(originals, inputs, counts)
    corrected = qep(weight, hessian, drift, QepOptions(alpha=1, damping=damping))
    # |W x - W' x'|^2 + lambda |W' - W|^2: one row per position, and one per channel that pulls W' to W.
    share = (2 * counts / counts.sum()).sqrt()[:, None].double()
    pull = (damping * hessian.diagonal().mean()).sqrt() * torch.eye(inputs.shape[1], dtype=torch.float64)
    left = torch.cat([share * inputs.double(), pull])
    right = torch.cat([share * (originals.double() @ weight.double().T), pull @ weight.double().T])
    expected = torch.linalg.lstsq(left, right).solution.T
    assert torch.allclose(corrected.double(), expected, rtol=1e-4, atol=1e-5)


def test_with_a_residual_stream_its_error_belongs_to_the_least_squares_problem() -> None:
    weight, originals, inputs, counts = moved()
    lost = 0.3 * inputs @ torch.randn(12, 7, generator=torch.Generator().manual_seed(1)) + 0.1
    statistics, drift = Statistics(12), Drift(12, 7)
    statistics.add(inputs, counts)
    drift.add(inputs, originals, counts, lost)
    corrected = qep(weight, statistics.hessian, drift.matrix, QepOptions(alpha=1, damping=1e-3), drift.residual)
    share = (2 * counts / counts.sum()).sqrt()[:, None].double()
    pull = (1e-3 * statistics.hessian.diagonal().mean()).sqrt() * torch.eye(12, dtype=torch.float64)
    wanted = originals.double() @ weight.double().T + lost.double()
    left, right = torch.cat([share * inputs.double(), pull]), torch.cat([share * wanted, pull @ weight.double().T])
    assert torch.allclose(corrected.double(), torch.linalg.lstsq(left, right).solution.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("outputs", [0, 7])
def test_a_moved_bias_makes_the_mean_output_that_of_the_float_model(outputs: int) -> None:
    weight, originals, inputs, counts = moved()
    lost = torch.randn(80, 7, generator=torch.Generator().manual_seed(2)) + 1
    statistics, drift = Statistics(12), Drift(12, outputs)
    statistics.add(inputs, counts)
    drift.add(inputs, originals, counts, lost if outputs else None)
    rounded = (2 * weight).round() / 2
    change = bias_change(weight, rounded, statistics.mean, drift)
    missing = originals @ weight.T + (lost if outputs else 0) - inputs @ rounded.T - change
    assert torch.allclose((missing * counts[:, None]).sum(0) / counts.sum(), torch.zeros(7), atol=1e-5)


def test_alpha_is_the_share_of_the_correction() -> None:
    weight, *rest = moved()
    hessian, drift = gathered(*rest)
    whole, half, none = (qep(weight, hessian, drift, QepOptions(alpha=a)) for a in (1, 0.5, 0))
    assert torch.equal(none, weight)
    assert torch.allclose(half, (whole + weight) / 2, atol=1e-6)


def test_the_correction_brings_the_output_nearer_to_the_float_models() -> None:
    weight, originals, inputs, counts = moved()
    corrected = qep(weight, *gathered(originals, inputs, counts), QepOptions(alpha=1, damping=0.01))
    wanted, heard = originals[9:] @ weight.T, inputs[9:]
    assert (heard @ corrected.T - wanted).norm() < 0.8 * (heard @ weight.T - wanted).norm()


def test_inputs_that_did_not_move_or_were_never_heard_change_nothing() -> None:
    weight, originals, _, counts = moved()
    assert torch.equal(qep(weight, *gathered(originals, originals, counts), QepOptions()), weight)
    assert torch.equal(qep(weight, *gathered(originals, 0 * originals, counts), QepOptions()), weight)


def test_activations_that_are_not_finite_are_named() -> None:
    weight, originals, inputs, counts = moved()
    inputs[20, 3] = float("inf")
    with pytest.raises(UserError, match="activations that are not finite"):
        qep(weight, *gathered(originals, inputs, counts), QepOptions())
