"""Rules between the keys of one component's `weights`: each gives what to do, or None where nothing is wrong."""

from __future__ import annotations

from collections.abc import Callable

from edge_asr_deploy.recipe.methods import GptqOptions, Learning, OmniQuantOptions, RtnOptions, Scaling
from edge_asr_deploy.recipe.weights import WeightSpec


def floats_are_not_prepared(spec: WeightSpec) -> str | None:
    """Steps reduce the damage of rounding, and float weights are not rounded."""
    if spec.steps and not spec.is_integer:
        return f"nothing is rounded at {spec.bits} bits; leave them out or choose 2 to 8 bits"
    return None


def one_step_scales(spec: WeightSpec) -> str | None:
    """AWQ and SmoothQuant choose scales of the same input channels: the second would undo the first."""
    scalings = [step.method for step in spec.steps if isinstance(step, Scaling)]
    return f"{' and '.join(scalings)} both scale the inputs; keep one" if len(scalings) > 1 else None


def correction_comes_once_and_last(spec: WeightSpec) -> str | None:
    """QEP computes its correction from the matrix that is then rounded: no later step may change that matrix."""
    names = [step.method for step in spec.steps]
    if names.count("qep") > 1:
        return "qep corrects once; keep one"
    if "qep" in names and names[-1] != "qep":
        return f"qep corrects what is then rounded: put it behind {names[-1]}"
    return None


def steps_without_a_second_time(spec: WeightSpec) -> str | None:
    """Two rotations are another rotation, and positions have one weight: a second such step is a mistake."""
    names = [step.method for step in spec.steps]
    return next((f"{name} applies once; keep one" for name in ("rotation", "rsq") if names.count(name) > 1), None)


def rotation_comes_first(spec: WeightSpec) -> str | None:
    """A rotation changes every channel, so that scales and statistics of unrotated channels would be wrong."""
    names = [step.method for step in spec.steps]
    if "rotation" in names and names[0] != "rotation":
        return f"rotation changes what all others see: put it before {names[0]}"
    return None


def learning_replaces_correction(spec: WeightSpec) -> str | None:
    """Methods that learn read inputs of the quantized model: QEP would correct the same error a second time."""
    if isinstance(spec.quantizer, Learning) and spec.correction:
        return f"{spec.quantizer.method} learns from inputs that carry the error; leave out qep"
    return None


def learned_scales_replace_searched_ones(spec: WeightSpec) -> str | None:
    """OmniQuant with `equivalent` learns the scales that AWQ or SmoothQuant would choose."""
    if isinstance(spec.quantizer, OmniQuantOptions) and spec.quantizer.equivalent and spec.scaling:
        return f"equivalent learns scales of its own; leave out {spec.scaling.method}"
    return None


def two_levels_fit_int8(spec: WeightSpec) -> str | None:
    """A code times its group's multiplier must fit int8, there must be groups, and the method must keep the grid."""
    if spec.storage == "plain":
        return None
    if not 2 <= spec.bits <= 7:
        return f"{spec.bits} bits leave int8 no room for multipliers; choose bits: 2 to 7, or storage: plain"
    if spec.granularity == "channel":
        return "one scale per channel needs no second level; choose granularity: group:32, or plain"
    if not isinstance(spec.quantizer, RtnOptions | GptqOptions):
        return f"{spec.quantizer.method} fits its own grid; use quantizer rtn or gptq"
    return None


WEIGHT_RULES: tuple[tuple[str, Callable[[WeightSpec], str | None]], ...] = (
    ("steps", floats_are_not_prepared),
    ("steps", one_step_scales),
    ("steps", correction_comes_once_and_last),
    ("steps", steps_without_a_second_time),
    ("steps", rotation_comes_first),
    ("quantizer", learning_replaces_correction),
    ("quantizer", learned_scales_replace_searched_ones),
    ("storage", two_levels_fit_int8),
)
