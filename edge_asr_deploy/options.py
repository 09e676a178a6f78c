"""The options of every quantization method and preparing step, as recipes write them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RtnOptions(_Options):
    """Round to nearest, on a grid whose range is shrunk where that lowers the squared error."""

    method: Literal["rtn"] = "rtn"
    clip_steps: int = Field(0, ge=0, le=40, description="candidate shrink factors per group; 0 keeps min-max")
    weighted: bool = Field(False, description="the clip search weighs inputs by their mean square: needs calibration")


class GptqOptions(_Options):
    """GPTQ (arXiv 2210.17323) with act-order and static groups."""

    method: Literal["gptq"] = "gptq"
    damping: float = Field(0.01, gt=0, le=10, description="fraction of the mean Hessian diagonal added to it")
    act_order: bool = True
    block: int = Field(128, ge=1, description="columns per lazy batch")
    clip_steps: int = Field(0, ge=0, le=40, description="as for rtn: the static grid is searched before rounding")


class SmoothQuantOptions(_Options):
    """SmoothQuant (arXiv 2211.10438): scales between each LayerNorm and what reads it, from extremes alone."""

    method: Literal["smoothquant"] = "smoothquant"
    alpha: float = Field(0.5, ge=0, le=1, description="how much of the difficulty moves into the weights")


class AwqOptions(_Options):
    """AWQ (arXiv 2306.00978): scales searched for the least output error, wherever one folds exactly."""

    method: Literal["awq"] = "awq"
    grid: int = Field(20, ge=2, le=100, description="exponents tried, evenly from 0 to 1")


class QepOptions(_Options):
    """QEP (NeurIPS 2025): before a layer is rounded it makes up for the error already in its input."""

    method: Literal["qep"] = "qep"
    alpha: float = Field(0.5, ge=0, le=1, description="share of the correction that is applied")
    damping: float = Field(1.0, gt=0, le=100, description="fraction of the mean Hessian diagonal added to it")


Method = Annotated[RtnOptions | GptqOptions, Field(discriminator="method")]
Scaling = SmoothQuantOptions | AwqOptions
Preparation = Annotated[SmoothQuantOptions | AwqOptions | QepOptions, Field(discriminator="method")]
# By the discriminator's value, which is part of pydantic's locations but not of the user's keys.
METHODS: dict[str, type[BaseModel]] = {
    "rtn": RtnOptions,
    "gptq": GptqOptions,
    "smoothquant": SmoothQuantOptions,
    "awq": AwqOptions,
    "qep": QepOptions,
}
