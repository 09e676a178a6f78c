"""Ranges of activations: statistics of a layer's input, and four ways of choosing fixed extremes from them."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.recipe.activations import ActivationSpec

# Bins of the histogram, which lies symmetrically around zero: some 16 to each step of an 8-bit grid.
BINS = 8192
# Candidate ends per side that `mse` tries, evenly from the extreme to this share of it.
CANDIDATES, NARROWEST = 100, 0.1
STEPS = 255


class Observed:
    """Extremes of every utterance and a histogram of all values; the histogram widens as values come."""

    def __init__(self) -> None:
        self.lows: list[float] = []
        self.highs: list[float] = []
        self.counts = torch.zeros(BINS, dtype=torch.float64)
        self.reach = 0.0

    def add(self, values: Tensor) -> None:
        """Take in one utterance's values, of any shape but not empty, float32."""
        low, high = (float(v) for v in values.aminmax())
        self.lows.append(low)
        self.highs.append(high)
        largest = max(-low, high)
        if not self.reach:
            self.reach = largest or 1.0
        while self.reach < largest:
            # The histogram doubles its reach: pairs of bins become one bin in its middle half.
            self.counts = torch.nn.functional.pad(self.counts.reshape(-1, 2).sum(1), (BINS // 4, BINS // 4))
            self.reach *= 2
        self.counts += torch.histc(values.float(), BINS, -self.reach, self.reach)

    @property
    def centers(self) -> Tensor:
        """The middle of every bin, shape (bins,), float64."""
        width = 2 * self.reach / BINS
        return (torch.arange(BINS, dtype=torch.float64) + 0.5) * width - self.reach


def extremes(observed: Observed, spec: ActivationSpec) -> tuple[float, float]:
    """The range (low, high), low <= 0 <= high, by the spec's calibrator.

    `minmax`: of all values. `average`: the mean of the utterances' extremes, the static mode of the Edge-ASR paper
    (arXiv 2507.07877). `percentile`: without the rarest values of both sides, together 100 - p percent. `mse`: the
    range with the least squared rounding and clipping error over the histogram.
    """
    low, high = min(observed.lows), max(observed.highs)
    if spec.calibrator == "average":
        low, high = sum(observed.lows) / len(observed.lows), sum(observed.highs) / len(observed.highs)
    elif spec.calibrator == "percentile":
        low, high = _percentile(observed, spec.percentile, low, high)
    elif spec.calibrator == "mse":
        low, high = _least_squares(observed, min(low, 0.0), max(high, 0.0))
    return min(low, 0.0), max(high, 0.0)


def _percentile(observed: Observed, percentile: float, low: float, high: float) -> tuple[float, float]:
    share = (100 - percentile) / 200
    cumulative = observed.counts.cumsum(0) / observed.counts.sum()
    centers = observed.centers
    first = int(torch.searchsorted(cumulative, share))
    last = int(torch.searchsorted(cumulative, 1 - share))
    return max(low, float(centers[min(first, BINS - 1)])), min(high, float(centers[min(last, BINS - 1)]))


def _least_squares(observed: Observed, low: float, high: float) -> tuple[float, float]:
    """The best of all pairs of narrower ends.

    A value inside costs a twelfth of the squared step, a value outside its squared distance from the end.
    """
    shares = torch.linspace(1, NARROWEST, CANDIDATES, dtype=torch.float64)
    lows, highs = shares * low, shares * high
    centers, counts = observed.centers, observed.counts
    sums = [torch.cat([torch.zeros(1, dtype=torch.float64), (counts * centers**p).cumsum(0)]) for p in range(3)]
    below, above = torch.searchsorted(centers, lows), torch.searchsorted(centers, highs, right=True)
    under = sums[2][below] - 2 * lows * sums[1][below] + lows**2 * sums[0][below]
    tails = [s[-1] - s[above] for s in sums]
    over = tails[2] - 2 * highs * tails[1] + highs**2 * tails[0]
    inside = sums[0][above][None] - sums[0][below][:, None]
    step = (highs[None] - lows[:, None]) / STEPS
    error = under[:, None] + over[None] + inside * step**2 / 12
    best = int(error.argmin())
    return float(lows[best // CANDIDATES]), float(highs[best % CANDIDATES])
