"""The tied table with rare tokens in fewer bits: which rows these are, and how the two widths become one matrix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_asr_deploy.ptq.rounding import round_matrix
from edge_asr_deploy.ptq.statistics import Statistics, output_error
from edge_asr_deploy.quantized.rare import RareRows
from edge_asr_deploy.quantized.scales import PlainScales
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.components import Rare
from edge_asr_deploy.recipe.weights import WeightSpec


def rare_rows(rare: Rare | None, spec: WeightSpec, config: Any) -> RareRows | None:
    """The rows that are coarser than the table's `spec`; None where there are none.

    `config` is the model's: what follows the end token (languages, times) is not rare.
    """
    if rare is None or rare.bits >= spec.bits:
        return None
    end, size = config.eos_token_id, int(config.vocab_size)
    stop = end if isinstance(end, int) and end > rare.after else size
    return RareRows(rare.after, stop, spec.bits - rare.bits) if rare.after < stop else None


def round_table(
    weight: Tensor, name: str, spec: WeightSpec, rare: RareRows, statistics: Statistics | None
) -> QuantizedWeight:
    """Round the tied table (vocabulary, channels), its rare rows on a grid of fewer bits.

    Their codes and zero points are then shifted to the width of the others, and their scales divided by as much.
    """
    rows = slice(rare.start, rare.stop)
    whole = round_matrix(torch.cat([weight[: rare.start], weight[rare.stop :]]), spec, statistics, name)
    coarse = round_matrix(weight[rows], spec.at(spec.bits - rare.dropped), statistics, name)
    assert isinstance(whole.scales, PlainScales)
    assert isinstance(coarse.scales, PlainScales)
    scales = coarse.scales.values / np.float16(2**rare.dropped)
    result = replace(
        whole,
        codes=_with_rows(whole.codes, coarse.codes << np.uint8(rare.dropped), rare.start),
        zero_points=_with_rows(whole.zero_points, coarse.zero_points << np.uint8(rare.dropped), rare.start),
        scales=PlainScales(_with_rows(whole.scales.values, scales, rare.start)),
        name=name,
        component="embedding",
        rare=rare,
    )
    hessian = None if statistics is None else statistics.hessian
    return replace(result, error=output_error(weight, torch.from_numpy(result.dequantize()), hessian))


def _with_rows(rows: NDArray[Any], more: NDArray[Any], start: int) -> NDArray[Any]:
    return np.concatenate([rows[:start], more, rows[start:]])
