"""RTN: every weight to the nearest point of its grid."""

from __future__ import annotations

from torch import Tensor

from edge_asr_deploy.ptq.grid import Grid
from edge_asr_deploy.ptq.two_level import fit_for
from edge_asr_deploy.recipe.methods import RtnOptions
from edge_asr_deploy.recipe.weights import WeightSpec


def rtn(
    weight: Tensor, spec: WeightSpec, options: RtnOptions, hessian: Tensor | None = None, name: str = "weight"
) -> tuple[Grid, Tensor]:
    """Grid and codes (out, in), uint8, of a matrix (out, in).

    The Hessian (in, in) is read only if the options ask for a weighted clip search.
    """
    importance = hessian.diagonal() if options.weighted and hessian is not None else None
    grid = fit_for(weight, spec, options.clip_steps, importance, name, options.clip)
    return grid, grid.encode(weight)
