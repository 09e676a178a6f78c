"""The myQASR rule (Fish et al., arXiv 2307.12659), a baseline: layers that say little lose bits first.

Layers are ranked by the median magnitude of their float outputs on unlabelled speech. All start at the highest width;
the sorted list is walked again and again, one step down per visit, until the budget is met: so no two layers are more
than one step apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from edge_asr_deploy.ptq.calibration.samples import Sample


def output_medians(model: Any, paths: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
    """The median magnitude of each layer's outputs, averaged over the samples."""
    sums = dict.fromkeys(paths, 0.0)

    def watch(path: str) -> Any:
        def catch(_: Any, __: Any, output: Tensor) -> None:
            sums[path] += output.abs().median().item() / len(samples)

        return model.get_submodule(path).register_forward_hook(catch)

    handles = [watch(path) for path in paths]
    try:
        for sample in samples:
            with torch.no_grad():
                model(sample.inputs, decoder_input_ids=sample.tokens)
    finally:
        for handle in handles:
            handle.remove()
    return sums


def allocate(ranks: Mapping[str, float], sizes: Mapping[str, Mapping[int, int]], budget: int) -> dict[str, int]:
    """Bits by path: those with the lowest rank lose theirs first. `sizes`: bytes by path and width.

    ValueError when even the narrowest widths exceed the budget.
    """
    widths = sorted(next(iter(sizes.values())), reverse=True)
    bits = dict.fromkeys(sizes, widths[0])
    total = sum(size[widths[0]] for size in sizes.values())
    for higher, lower in pairwise(widths):
        for path in sorted(sizes, key=lambda p: ranks[p]):
            if total <= budget:
                return bits
            bits[path] = lower
            total += sizes[path][lower] - sizes[path][higher]
    if total > budget:
        raise ValueError(f"{budget} bytes are fewer than {total}")
    return bits
