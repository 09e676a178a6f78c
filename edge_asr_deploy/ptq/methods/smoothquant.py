"""SmoothQuant (Xiao et al., arXiv 2211.10438): outliers move from activations into weights, channel by channel."""

from __future__ import annotations

from torch import Tensor

from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.recipe.methods import SmoothQuantOptions

# Smallest magnitude that counts as one: channels of zeros would have no scale.
SMALLEST = 1e-5


def smoothquant(weight: Tensor, statistics: Statistics, options: SmoothQuantOptions) -> Tensor:
    """Scales (in,) of a matrix (out, in): s_j = max|X_j|^alpha / max_i|W_ij|^(1 - alpha), the paper's equation 4.

    Matrices that share an input are stacked along their rows.
    """
    activations = statistics.absmax.clamp(min=SMALLEST)
    weights = weight.float().abs().amax(0).clamp(min=SMALLEST)
    return (activations**options.alpha / weights ** (1 - options.alpha)).clamp(min=SMALLEST)
