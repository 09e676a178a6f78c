"""The Fisher proxy: what rounding costs to second order, for every width at once, from one gradient per clip.

sensitivity(b) = 1/2 sum g^2 (W - Q_b(W))^2, g the gradient of the log-likelihood of the float model's own transcript
(diagonal Fisher information; as in GenPTQ, EMNLP Findings 2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edge_asr_deploy.experiments.analysis.sensitivity import rounded
from edge_asr_deploy.progress import Progress, silent
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.recipe.weights import WeightSpec


def squared_gradients(
    model: Any, paths: Sequence[str], samples: Sequence[Sample], prompt: int, progress: Progress = silent
) -> dict[str, Tensor]:
    """g^2 (out, in) of each matrix, per token, averaged over clips; labels are the model's own most likely tokens.

    Of the tokens the first `prompt` predict no text and do not count.
    """
    weights = {path: model.get_submodule(path).weight for path in paths}
    sums = {path: torch.zeros_like(weight) for path, weight in weights.items()}
    tokens = 0
    for number, sample in enumerate(samples, 1):
        with torch.enable_grad():
            logits = model(sample.inputs, decoder_input_ids=sample.tokens).logits[0, prompt:]
            loss = torch.nn.functional.cross_entropy(logits, logits.argmax(-1), reduction="sum")
            gradients = torch.autograd.grad(loss, list(weights.values()))
        for path, gradient in zip(paths, gradients, strict=True):
            sums[path] += gradient.square()
        tokens += len(logits)
        progress(f"clip {number}", number, len(samples))
    return {path: total / max(tokens, 1) for path, total in sums.items()}


def fisher_sensitivities(
    model: Any, specs: Mapping[str, WeightSpec], choices: Sequence[int], squares: Mapping[str, Tensor]
) -> dict[str, dict[int, float]]:
    """1/2 sum g^2 (W - Q(W))^2 by path and width, nats per token."""
    sensitivities: dict[str, dict[int, float]] = {}
    for path, spec in specs.items():
        weight = model.get_submodule(path).weight.detach()
        sensitivities[path] = {}
        for bits in choices:
            difference = weight - rounded(weight, spec.at(bits))
            sensitivities[path][bits] = 0.5 * float((squares[path] * difference.square()).sum(dtype=torch.float64))
    return sensitivities
