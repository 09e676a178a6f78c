"""The options of every quantization method and preparing step, as recipes write them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from edge_asr_deploy.recipe.spec_model import SpecModel

# Which narrower ranges a clip search tries: shares of min-max, or percentiles of a group's weights.
Clip = Literal["mse", "percentile"]


class RtnOptions(SpecModel):
    """Round to nearest, on a grid whose range is shrunk where that lowers the squared error."""

    method: Literal["rtn"] = "rtn"
    clip_steps: int = Field(0, ge=0, le=40, description="candidate shrink factors per group; 0 keeps min-max")
    clip: Clip = Field("mse", description="ranges tried: mse, shares of min-max; percentile, those of the group")
    weighted: bool = Field(False, description="the clip search weighs inputs by their mean square: needs calibration")


class GptqOptions(SpecModel):
    """GPTQ (arXiv 2210.17323) with act-order and static groups:

        quantizer: {method: gptq, damping: 0.1, clip_steps: 10, passes: 4}

    With `passes` the codes are chosen again (`ptq.methods.refining`).
    """

    defaults_left_out: ClassVar[dict[str, object]] = {"passes": 0}

    method: Literal["gptq"] = "gptq"
    damping: float = Field(0.01, gt=0, le=10, description="fraction of the mean Hessian diagonal added to it")
    act_order: bool = True
    block: int = Field(128, ge=1, description="columns per lazy batch")
    clip_steps: int = Field(0, ge=0, le=40, description="as for rtn: the static grid is searched before rounding")
    clip: Clip = Field("mse", description="as for rtn")
    passes: int = Field(0, ge=0, le=50, description="over all columns again, before and after the scales are fitted")


class OmniQuantOptions(SpecModel):
    """OmniQuant (arXiv 2308.13137): clipping, and scales where they fold, learned block by block."""

    method: Literal["omniquant"] = "omniquant"
    epochs: int = Field(10, ge=1, le=200)
    rate: float = Field(0.05, gt=0, le=1, description="learning rate of the clipping")
    equivalent: bool = Field(False, description="learn the scales and shifts that fold exactly, too")
    equivalent_rate: float = Field(5e-3, gt=0, le=1, description="learning rate of those")
    positions: int = Field(8192, ge=16, description="frames or tokens that a part of a block learns from")
    seed: int = Field(0, description="of the choice of positions and the order of batches")


class TesseraqOptions(SpecModel):
    """TesseraQ (arXiv 2410.19103): rounding learned block by block, hardened in rounds."""

    method: Literal["tesseraq"] = "tesseraq"
    rounds: int = Field(10, ge=1, le=50, description="times a share of the weights is hardened")
    iterations: int = Field(25, ge=1, le=1000, description="optimizer steps per round")
    rate: float = Field(0.1, gt=0, le=1, description="learning rate of the rounding")
    scale_rate: float = Field(1e-3, gt=0, le=1, description="learning rate of the scales' factors")
    clip_steps: int = Field(10, ge=0, le=40, description="as for rtn: the grid it starts from")
    positions: int = Field(8192, ge=16, description="as for omniquant")
    seed: int = Field(0, description="as for omniquant")


class QuikOptions(SpecModel):
    """QUIK (arXiv 2310.09259): the input channels with the largest activations stay float, GPTQ rounds the rest."""

    method: Literal["quik"] = "quik"
    share: float = Field(0.01, gt=0, le=0.5, description="input channels kept, as a share of all; at least one is")
    last_bits: Literal[8] | None = Field(None, description="8: the last layer of each MLP gets 8 bits, as in the paper")
    damping: float = Field(0.01, gt=0, le=10, description="as for gptq")
    clip_steps: int = Field(0, ge=0, le=40, description="as for gptq")


class SpqrOptions(SpecModel):
    """SpQR (arXiv 2306.03078): single weights that cost most stay finer, GPTQ rounds the rest on narrow statistics."""

    method: Literal["spqr"] = "spqr"
    threshold: float = Field(0.2, gt=0, le=100, description="lower keeps more weights")
    share: float = Field(0.01, gt=0, le=0.2, description="most weights kept, as a share of all")
    damping: float = Field(0.01, gt=0, le=10, description="as for gptq")
    clip_steps: int = Field(0, ge=0, le=40, description="as for gptq")
    statistics_bits: int = Field(3, ge=2, le=8, description="bits of each scale, between two that 16 channels share")


class RotationOptions(SpecModel):
    """A rotation of the residual stream that LayerNorm does not notice: spreads outliers over all channels."""

    method: Literal["rotation"] = "rotation"
    seed: int = Field(0, ge=0)
    heads: bool = Field(True, description="rotate the values inside each attention head, too: free when it runs")


class RsqOptions(SpecModel):
    """RSQ (arXiv 2503.01820): calibration positions count by the attention they receive."""

    method: Literal["rsq"] = "rsq"
    floor: float = Field(0.005, ge=0, le=1, description="weight of the position that receives least, of 1")


class SmoothQuantOptions(SpecModel):
    """SmoothQuant (arXiv 2211.10438): scales between each LayerNorm and what reads it, from extremes alone."""

    method: Literal["smoothquant"] = "smoothquant"
    alpha: float = Field(0.5, ge=0, le=1, description="how much of the difficulty moves into the weights")


class AwqOptions(SpecModel):
    """AWQ (arXiv 2306.00978): scales searched for the least output error, wherever one folds exactly."""

    method: Literal["awq"] = "awq"
    grid: int = Field(20, ge=2, le=100, description="exponents tried, evenly from 0 to 1")


class QepOptions(SpecModel):
    """QEP (NeurIPS 2025): before a layer is rounded it makes up for the error already in its input."""

    defaults_left_out: ClassVar[dict[str, object]] = {"residual": False}

    method: Literal["qep"] = "qep"
    alpha: float = Field(0.5, ge=0, le=1, description="share of the correction that is applied")
    damping: float = Field(1.0, gt=0, le=100, description="fraction of the mean Hessian diagonal added to it")
    residual: bool = Field(False, description="make up for the residual stream's error, too, and correct the biases")


Method = Annotated[
    RtnOptions | GptqOptions | OmniQuantOptions | TesseraqOptions | QuikOptions | SpqrOptions,
    Field(discriminator="method"),
]
Scaling = SmoothQuantOptions | AwqOptions
Learning = OmniQuantOptions | TesseraqOptions
Preparation = Annotated[
    SmoothQuantOptions | AwqOptions | QepOptions | RotationOptions | RsqOptions, Field(discriminator="method")
]
# By the discriminator's value, which is part of pydantic's locations but not of the user's keys.
METHODS: dict[str, type[BaseModel]] = {
    "rtn": RtnOptions,
    "gptq": GptqOptions,
    "omniquant": OmniQuantOptions,
    "tesseraq": TesseraqOptions,
    "quik": QuikOptions,
    "spqr": SpqrOptions,
    "smoothquant": SmoothQuantOptions,
    "awq": AwqOptions,
    "qep": QepOptions,
    "rotation": RotationOptions,
    "rsq": RsqOptions,
}
