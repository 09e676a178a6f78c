"""The stages of an export that compute with the model in PyTorch: load, transcribe, quantize, learn, measure
activations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from edge_asr_deploy.cache import Values, cache_root
from edge_asr_deploy.checkpoints import Checkpoint
from edge_asr_deploy.checkpoints.checkpoint import hash_file
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.progress import Progress
from edge_asr_deploy.recipe.document import Recipe

if TYPE_CHECKING:
    # Both need torch, which is loaded only when there is something to compute.
    from edge_asr_deploy.ptq.calibration.samples import Sample
    from edge_asr_deploy.quantized.model import WindowEnd
    from edge_asr_deploy.quantized.weight import QuantizedWeight


def load_model(checkpoint: Checkpoint) -> Any:
    """The float model in float32, ready to be calibrated. UserError where a weight is not in the files."""
    import torch
    import transformers.utils.logging  # noqa: F401  its import sets the loggers' levels that `quiet` changes

    from edge_asr_deploy.checkpoints.loading import load
    from edge_asr_deploy.graph.onnx_tools.trace import quiet

    _check_rules(checkpoint)
    # Some methods draw at random, after this.
    random.seed(0)
    torch.manual_seed(0)
    with quiet():
        model = load(checkpoint.folder)
    return model.eval()


def _check_rules(checkpoint: Checkpoint) -> None:
    """UserError for settings that the runtime would refuse in the bundle: now, and not after minutes."""
    from edge_asr_deploy.runtime.transcriber import FAMILIES

    try:
        FAMILIES[checkpoint.family](checkpoint.folder)
    except UserError as error:
        said = error.remedy.replace("; export the bundle again", "")
        remedy = "copy the file from the model this one was trained from"
        raise UserError("--model", error.value, f"{said}; {remedy}") from None


def calibration_samples(
    model: Any,
    checkpoint: Checkpoint,
    recipe: Recipe,
    utterances: Sequence[Utterance],
    language: str | None,
    progress: Progress,
) -> list[Sample]:
    """Calibration samples of these utterances; `model` is still the float one. Its transcripts are kept on disk.

    `language` is that of all of them; without one the corpus tells it, or the model hears it (`samples.prompts`).
    """
    from edge_asr_deploy.ptq.calibration.samples import prepare
    from edge_asr_deploy.ptq.calibration.transcripts import TokenCache

    return prepare(
        model,
        family(recipe.family),
        checkpoint.folder,
        utterances,
        recipe.calibration,
        language,
        progress=progress,
        token_cache=TokenCache(cache_root(), *_float_model(checkpoint), "language heard"),
    )


def _float_model(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Everything that decides about what the float model says."""
    settings = checkpoint.folder / "generation_config.json"
    rules = hash_file(settings) if settings.is_file() else "none"
    return checkpoint.sha256, rules, metadata.version("transformers")


def compute_window_end(
    model: Any,
    checkpoint: Checkpoint,
    recipe: Recipe,
    utterances: Sequence[Utterance],
    language: str | None,
    progress: Progress,
) -> WindowEnd | None:
    """What short windows end with, learned for `model`, which is still the float one, as `recipe.encoder.end` says;
    None where it says nothing.

    It is the same for every width of the weights, and kept on disk: only the first export of a checkpoint learns it.
    """
    wanted = recipe.encoder.end
    if wanted is None:
        return None
    import numpy as np

    from edge_asr_deploy.ptq.learning.window_end import learn_window_end
    from edge_asr_deploy.quantized.model import WindowEnd

    speech = [utterance.fingerprint() for utterance in utterances]
    spans = [str(utterance.span) for utterance in utterances]
    key = (*_float_model(checkpoint), wanted.model_dump_json(), language or "heard", *speech, *spans)
    kept, name = Values(cache_root() / "window-ends", *key), "positions"
    if name not in kept:
        kind, folder = family(recipe.family), checkpoint.folder
        made = learn_window_end(model, kind, folder, utterances, wanted, language, progress)
        kept.put(name, None if made is None else made.positions.tolist())
        kept.save()
    positions = kept.get(name)
    return None if positions is None else WindowEnd(np.array(positions, np.float32), wanted.margin)


def compute_weights(
    model: Any, recipe: Recipe, samples: Sequence[Sample], progress: Progress, frees: bool = False
) -> list[QuantizedWeight]:
    """Narrow and quantize `model` in place by the recipe; returns the integer codes.

    With `frees` the model's layers compute from them afterwards, and their float matrices are gone (`ptq.holding`).
    """
    from edge_asr_deploy.ptq.holding import forget_unchanged
    from edge_asr_deploy.ptq.quantize import quantize
    from edge_asr_deploy.ptq.stem import narrow_in_place

    kind = family(recipe.family)
    if frees:
        forget_unchanged(model)
    narrow_in_place(model, kind.structure(model.config).components(), recipe)
    return quantize(model, kind, recipe, samples, progress, frees)


def distill_weights(
    model: Any,
    checkpoint: Checkpoint,
    recipe: Recipe,
    weights: Sequence[QuantizedWeight],
    utterances: Sequence[Utterance],
    language: str | None,
    progress: Progress,
) -> list[QuantizedWeight]:
    """The weights after learning from the float model, which is loaded again; `model` changes with them."""
    from edge_asr_deploy.ptq.learning.distilling import distill

    wanted = recipe.distillation
    if wanted is None:
        return list(weights)
    teacher = load_model(checkpoint)
    kind, folder = family(recipe.family), checkpoint.folder
    return distill(model, teacher, kind, folder, weights, utterances, wanted, language, progress)


def compute_activations(
    model: Any,
    recipe: Recipe,
    weights: Sequence[QuantizedWeight],
    samples: Sequence[Sample],
    progress: Progress,
) -> list[QuantizedWeight]:
    """The weights with what the recipe says of their layers' inputs; fixed ranges are measured on the samples."""
    from edge_asr_deploy.ptq.activations import quantize_activations

    return quantize_activations(
        model, family(recipe.family).structure(model.config), recipe, weights, samples, progress
    )
