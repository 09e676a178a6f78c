"""From matrices and what calibration learned of their inputs to `QuantizedWeight`, by whichever method is named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from edge_asr_deploy.ptq.grid import Grid
from edge_asr_deploy.ptq.learning.reconstruction import Learned
from edge_asr_deploy.ptq.methods import quik, round_weight, spqr
from edge_asr_deploy.ptq.statistics import Statistics, output_error
from edge_asr_deploy.ptq.two_level import multipliers
from edge_asr_deploy.quantized.outliers import FloatColumns
from edge_asr_deploy.quantized.scales import PlainScales, Scales, TwoLevelScales
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.methods import QuikOptions, SpqrOptions
from edge_asr_deploy.recipe.weights import WeightSpec


def by_spec(paths: Iterable[str], specs: Mapping[str, WeightSpec]) -> list[tuple[WeightSpec, list[str]]]:
    """The paths by their spec, both in the order in which they come."""
    groups: list[tuple[WeightSpec, list[str]]] = []
    for path in paths:
        same = next((members for spec, members in groups if spec == specs[path]), None)
        if same is None:
            groups.append((specs[path], [path]))
        else:
            same.append(path)
    return groups


def round_together(
    weights: dict[str, Tensor],
    component: str,
    spec: WeightSpec,
    statistics: Statistics | None,
    learned: Learned | None = None,
) -> list[QuantizedWeight]:
    """Round matrices (out, in) that read the same input: stacked, so that one factorization serves them all.

    Those of SpQR are rounded one by one, since their output channels share statistics. Where grids and codes have been
    learned, those are taken.
    """
    hessian = None if statistics is None else statistics.hessian
    if learned is not None:
        parts = [_on_grid(*learned.rounded[name], spec, name) for name in weights]
    elif isinstance(spec.quantizer, SpqrOptions):
        parts = [round_matrix(weight, spec, statistics, name) for name, weight in weights.items()]
    else:
        stacked = round_matrix(torch.cat(list(weights.values())), spec, statistics, " / ".join(weights))
        parts, start = [], 0
        for weight in weights.values():
            parts.append(stacked.rows(slice(start, start + len(weight))))
            start += len(weight)
    return [
        replace(
            part,
            name=name,
            component=component,
            error=output_error(weight, torch.from_numpy(part.dequantize()), hessian),
        )
        for part, (name, weight) in zip(parts, weights.items(), strict=True)
    ]


def round_matrix(weight: Tensor, spec: WeightSpec, statistics: Statistics | None, name: str) -> QuantizedWeight:
    """A matrix (out, in) rounded by its spec's quantizer; neither its component nor its error is filled in."""
    options = spec.quantizer
    if isinstance(options, QuikOptions | SpqrOptions) and statistics is None:
        raise ValueError(f"{name}: {options.method} needs statistics of its inputs")
    if isinstance(options, SpqrOptions) and statistics is not None:
        rounded = spqr(weight, spec, options, statistics.hessian, name)
        plain = _weight(name, spec, rounded.codes, rounded.scales, rounded.zero_points)
        return replace(plain, outliers=rounded.outliers)
    if isinstance(options, QuikOptions) and statistics is not None:
        grid, codes, channels, values = quik(weight, spec, options, statistics, name)
        columns = FloatColumns(channels.numpy(), values.numpy())
        return replace(_on_grid(grid, codes, spec, name), outliers=columns)
    grid, codes = round_weight(weight, spec, None if statistics is None else statistics.hessian, name)
    return _on_grid(grid, codes, spec, name)


def _on_grid(grid: Grid, codes: Tensor, spec: WeightSpec, name: str) -> QuantizedWeight:
    scales: Scales
    if grid.base is None:
        scales = PlainScales(grid.scales.to(torch.float16).numpy())
    else:
        scales = TwoLevelScales(grid.base.to(torch.float16).numpy(), multipliers(grid).numpy())
    return _weight(name, spec, codes, scales, grid.zero_points)


def _weight(name: str, spec: WeightSpec, codes: Tensor, scales: Scales, zero_points: Tensor) -> QuantizedWeight:
    return QuantizedWeight(
        name=name,
        component="",
        method=spec.method,
        bits=spec.bits,
        group=spec.group_size,
        symmetric=spec.symmetric,
        codes=codes.numpy(),
        zero_points=zero_points.to(torch.uint8).numpy(),
        scales=scales,
    )
