"""What determines each stage of a cell, as hashes. Two cells with the same key share the stage's result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import onnxruntime

from edge_asr_deploy.checkpoints import Checkpoint
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.experiments.sweep.grid import Cell
from edge_asr_deploy.experiments.sweep.store import key_of
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.harness.machine.environment import cpu_name
from edge_asr_deploy.pipeline import package_versions
from edge_asr_deploy.ptq.methods import needs_statistics
from edge_asr_deploy.recipe.components import Stem
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.recipe.weights import WeightSpec
from edge_asr_deploy.sources import ROOT, imports_of, source_hash

# Keys of a recipe that the weights do not depend on: names, run-time settings, and the corpus's name (the speech itself
# is part of the key).
UNREAD = ("name", "model", "target", "calibration")
ACTIVATIONS, STATIC = "activations", "int8-static"
PLAIN_KEYS = (*UNREAD, *COMPONENTS, "family", "stem")
# Each stage's code is what these modules import. Weights depend on speech by its samples, which are part of the key,
# and neither on devices nor on how a graph is traced.
PTQ_SOURCE, NOT_PTQ = ("stages",), ("runtime", "corpora", "checkpoints", "graph", "bundle")
EXPORT_SOURCE = ("pipeline",)
EVALUATE_SOURCE = ("harness.evaluation.evaluate",)
METHODS = "ptq.methods"
BASIC = ("rtn", "gptq")  # other methods build on them
LEARNING, LEARNING_SOURCE = ("omniquant", "tesseraq"), frozenset({"ptq.learning"})
PTQ_PACKAGES = ("torch", "transformers", "numpy")


@dataclass(frozen=True)
class Keys:
    """A cell's keys, stage by stage.

    `table` is None where the tied table is quantized together with the blocks, `ranges` where nothing is measured on
    calibration speech for the activations.
    """

    weights: str
    table: str | None
    ranges: str | None
    bundle: str
    result: str


def keys_of(cell: Cell, checkpoint: Checkpoint, calibration: Sequence[str], evaluation: Sequence[str]) -> Keys:
    """The keys of a cell. `calibration`, `evaluation`: the speech, as `audio_prints` and `speech_prints` give it."""
    unused = unused_modules(cell.recipe)
    given = {
        "weights": checkpoint.sha256,
        "versions": {package: metadata.version(package) for package in PTQ_PACKAGES},
        "source": source_hash(PTQ_SOURCE, {*NOT_PTQ, *unused}),
    }
    blocks, table = split_table(cell.recipe)
    speech = [*calibration, cell.evaluation.language] if _reads_speech(blocks) else []
    weights = key_of({**given, "calibration": speech, "recipe": _read_by_ptq(blocks)})
    over = None if table is None else key_of({**given, "calibration": [], "recipe": _read_by_ptq(table)})
    ranges = None
    if any(cell.recipe.activations(name).kind == STATIC for name in COMPONENTS):
        spoken = [*calibration, cell.evaluation.language]
        components = {name: getattr(cell.recipe, name).model_dump(mode="json") for name in COMPONENTS}
        ranges = key_of({"weights": weights, "recipe": components, "calibration": spoken})
    bundle = key_of(
        {
            "weights": weights,
            "table": over,
            "ranges": ranges,
            "recipe": cell.recipe.model_dump(mode="json"),
            "proof": list(calibration),
            "versions": package_versions(),
            "source": source_hash(EXPORT_SOURCE, unused),
        }
    )
    settings = cell.evaluation.model_dump(mode="json", include={"language", "threads", "accuracy_level", "limit"})
    result = key_of(
        {
            "bundle": bundle,
            "settings": settings,
            "speech": list(evaluation),
            "onnxruntime": onnxruntime.__version__,
            "cpu": cpu_name(),
            "source": source_hash(EVALUATE_SOURCE),
        }
    )
    return Keys(weights, over, ranges, bundle, result)


def split_table(recipe: Recipe) -> tuple[Recipe, Recipe | None]:
    """The recipe for the blocks alone and the one for the tied table alone, where the two are independent.

    They are independent where the table is rounded without calibration speech: it is rounded last, so that no other
    matrix depends on its codes. Otherwise, and where keys outside the components could concern both, the result is
    (the recipe, None).
    """
    table = recipe.embedding.weights
    if not table.is_integer or needs_statistics(table) or _has_more(recipe):
        return recipe, None
    float_spec = WeightSpec(bits=32)
    others = {name: float_spec for name in COMPONENTS if name != "embedding"}
    # The stem was narrowed with the blocks; that need not give the same values when it is done twice.
    alone = recipe.with_weights(others).model_copy(update={"stem": Stem(bits=32)})
    return recipe.with_weights({"embedding": float_spec}), alone


def recipe_hash(recipe: Recipe) -> str:
    """A hash of the whole recipe as written, for the record."""
    return key_of(recipe.model_dump(mode="json"))


def audio_prints(utterances: Sequence[Utterance]) -> list[str]:
    """A hash of the samples of each clip, which may be cut, in their order."""
    return [hashlib.sha256(utterance.samples().tobytes()).hexdigest() for utterance in utterances]


def speech_prints(utterances: Sequence[Utterance]) -> list[str]:
    """A hash of each clip's samples, its reference text and the corpus that it counts for."""
    prints = zip(audio_prints(utterances), utterances, strict=True)
    return [key_of({"audio": print_, "text": u.text, "source": u.source}) for print_, u in prints]


def unused_modules(recipe: Recipe) -> frozenset[str]:
    """The modules of methods that the recipe does not name: its weights do not depend on them."""
    named = {*BASIC, *_methods(recipe.model_dump(mode="json"))}
    unused = (name for name in imports_of(ROOT, METHODS) if name.startswith(f"{METHODS}."))
    learns = named & set(LEARNING) or recipe.distillation is not None
    learned = frozenset() if learns else LEARNING_SOURCE
    return learned | {name for name in unused if name.rsplit(".", 1)[1] not in named}


def _methods(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (entry for key, entry in value.items() if key == "method" and isinstance(entry, str))
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _methods(entry)


def _read_by_ptq(recipe: Recipe) -> dict[str, Any]:
    document = {key: value for key, value in recipe.model_dump(mode="json").items() if key not in UNREAD}
    return {key: _without_activations(value) for key, value in document.items() if key != ACTIVATIONS}


def _without_activations(value: Any) -> Any:
    return {k: v for k, v in value.items() if k != ACTIVATIONS} if isinstance(value, dict) else value


def _reads_speech(recipe: Recipe) -> bool:
    return _has_more(recipe) or any(needs_statistics(recipe.component(name)) for name in COMPONENTS)


def _has_more(recipe: Recipe) -> bool:
    """True when keys outside the components concern the weights."""
    return any(value for key, value in recipe.model_dump().items() if key not in PLAIN_KEYS)
