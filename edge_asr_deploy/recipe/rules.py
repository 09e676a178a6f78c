"""Every rule between several keys of a recipe; those within `weights` are in `weight_rules`.

Checks of a single key stand beside that key.

`refusals` needs the recipe alone. `require_matches`, `require_kernels` and `check_skips` need a model's module paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import COMPONENTS, Structure
from edge_asr_deploy.families.whisper import FRAMES_PER_SECOND
from edge_asr_deploy.recipe.activations import ActivationSpec
from edge_asr_deploy.recipe.components import Component, Embedding, RecipeParts, Stem
from edge_asr_deploy.recipe.methods import GptqOptions, Learning, RtnOptions
from edge_asr_deploy.recipe.weight_rules import WEIGHT_RULES
from edge_asr_deploy.recipe.weights import WeightSpec
from edge_asr_deploy.runtime.targets import TARGETS


def refusals(recipe: RecipeParts) -> Iterator[tuple[str, str]]:
    """What does not fit together in a recipe, in the order of its keys: (key with its value, what to do)."""
    for component in COMPONENTS:
        part: Component = getattr(recipe, component)
        for key, weight_rule in WEIGHT_RULES:
            if remedy := weight_rule(part.weights):
                yield f"{component}.weights.{key}{_shown(getattr(part.weights, key))}", remedy
        for component_rule in COMPONENT_RULES:
            if remedy := component_rule(part):
                yield f"{component}.activations{_shown(part.activations)}", remedy
    if remedy := shortlist_reads_codes(recipe.embedding):
        yield f"embedding.shortlist{_shown(recipe.embedding.shortlist)}", remedy
    if (rare := recipe.embedding.rare) and (remedy := rare_rows_share_a_grid(recipe.embedding)):
        yield f"embedding.rare {rare.model_dump()!r}", remedy
    if remedy := convolutions_need_8_bits(recipe.stem):
        yield f"stem.activations{_shown(recipe.stem.activations)}", remedy
    for recipe_rule in RECIPE_RULES:
        yield from recipe_rule(recipe)


def _shown(value: object) -> str:
    """A value behind its key: methods by their names, everything else as Python writes it."""
    if isinstance(value, tuple):
        names = ", ".join(step.method for step in value)
        return f" {names}" if names else ""
    if isinstance(value, ActivationSpec):
        return f" {value.model_dump()!r}"
    return f" {getattr(value, 'method', None) or repr(value)}"


def int8_obstacle(spec: WeightSpec) -> str | None:
    """Why an integer kernel cannot take these codes, and what to do; None where it can.

    onnxruntime's integer kernels multiply int8 and take one scale per output channel.
    """
    if spec.group_size is not None and spec.storage == "plain":
        return (
            f"integer kernels take one scale per output channel, not {spec.granularity}; choose "
            "weights.granularity: channel, or below 8 bits weights.storage: two-level"
        )
    if spec.bits == 8 and spec.storage == "two-level":
        return "8 bits leave int8 no room for multipliers; choose up to 7 bits"
    if spec.bits == 8 and not spec.symmetric:
        return "8-bit codes fit int8 only around zero; set weights.symmetric: true"
    return None


# Between the keys of one part of the model.


def rows_need_dynamic_rounding(part: Component) -> str | None:
    """The scale of a row is taken from the row itself, which is known at run time only."""
    if part.activations.token and part.activations.kind != "int8-dynamic":
        return f"token {list(part.activations.token)} needs kind: int8-dynamic, not {part.activations.kind}"
    return None


def integer_activations_need_integer_weights(part: Component) -> str | None:
    """An integer kernel multiplies integers on both sides."""
    if part.activations.kind == "float":
        return None
    if not part.weights.is_integer:
        return f"weights of {part.weights.bits} bits have no integer kernel; choose bits: 2 to 8, or float"
    return int8_obstacle(part.weights)


COMPONENT_RULES = (rows_need_dynamic_rounding, integer_activations_need_integer_weights)


def shortlist_reads_codes(part: Embedding) -> str | None:
    """The first pass over all tokens multiplies 4-bit codes, which a float table does not have."""
    if part.shortlist and not part.weights.is_integer:
        return f"shortlist reads codes; this table has {part.weights.bits} bits: leave it out"
    return None


def rare_rows_share_a_grid(part: Embedding) -> str | None:
    """Codes of rare tokens are those of the table without their lowest bits, row by row."""
    spec, rare = part.weights, part.rare
    if rare is None:
        return None
    if not rare.bits < spec.bits <= 8:
        return f"must have fewer bits than the table's {spec.bits}, which are integers"
    if spec.storage != "plain":
        return f"{spec.storage} storage has one width for all tokens; leave it out"
    if not isinstance(spec.quantizer, RtnOptions | GptqOptions):
        return f"{spec.quantizer.method} rounds all rows together; use quantizer rtn or gptq"
    return None


def convolutions_need_8_bits(part: Stem) -> str | None:
    """The integer convolution takes 8-bit weights; other stems are stored as floats."""
    if part.activations != "float" and part.bits != 8:
        return f"convolutions of {part.bits} bits have no integer kernel; choose bits: 8, or float"
    return None


# Between parts of the model.

Refusals = Iterator[tuple[str, str]]


def table_is_not_prepared(recipe: RecipeParts) -> Refusals:
    """Steps fold changes into the layer before, but the tied table is also read as embedding: nothing precedes it."""
    if recipe.embedding.weights.steps:
        shown = _shown(recipe.embedding.weights.steps)
        yield f"embedding.weights.steps{shown}", "the tied table is read both ways; leave them out"


def table_has_no_outliers(recipe: RecipeParts) -> Refusals:
    """The vocabulary head's kernels read codes only, without QUIK's float channels or SpQR's finer codes."""
    method = recipe.embedding.weights.quantizer.method
    if method in ("quik", "spqr"):
        yield f"embedding.weights.quantizer {method}", "the tied table has no outliers; use gptq or rtn"


def table_is_not_learned(recipe: RecipeParts) -> Refusals:
    """Methods that learn minimize the error of a transformer block's output, and the table is in no block."""
    spec = recipe.embedding.weights
    if spec.is_integer and isinstance(spec.quantizer, Learning):
        remedy = "learns on blocks, and the tied table is in none; choose rtn or gptq"
        yield f"embedding.weights.quantizer {spec.quantizer.method}", remedy


def readers_of_one_stream_share_its_rotation(recipe: RecipeParts) -> Refusals:
    """The cross-attention reads the encoder's output, which is rotated exactly when the encoder is.

    A cross-attention that stays float names no steps; its matrices follow the encoder.
    """
    encoder, cross_attention = recipe.encoder.weights, recipe.cross_attention.weights
    if encoder.rotation != cross_attention.rotation and (cross_attention.is_integer or encoder.rotation is None):
        yield (
            "cross_attention.weights.steps",
            "reads the encoder's output: give encoder and cross_attention the same rotation, or neither",
        )


def target_decides_on_the_head(recipe: RecipeParts) -> Refusals:
    """Each target has one form for the vocabulary head, so that a recipe has nothing to say about its inputs."""
    kind = recipe.embedding.activations.kind
    if kind != "float":
        remedy = "leave it float: the target decides how the vocabulary head multiplies"
        yield f"embedding.activations {kind!r}", remedy


def moonshine_rounds_windows_apart(recipe: RecipeParts) -> Refusals:
    """Loud and quiet parts of a waveform differ too much for the one scale of `int8-dynamic`."""
    if recipe.family == "moonshine" and recipe.stem.activations == "int8-dynamic":
        yield (
            f"stem.activations {recipe.stem.activations!r}",
            "on one scale Moonshine's convolutions lose too much (docs/log/performance.md); choose int8-token or float",
        )


def window_end_is_of_a_window(recipe: RecipeParts) -> Refusals:
    """Only Whisper pads clips to a window, and what is learned is a part of the padding."""
    end = recipe.encoder.end
    if end is None:
        return
    if recipe.family != "whisper":
        yield "encoder.end", "is for Whisper's window; Moonshine takes clips as they are: leave it out"
    most = int(end.margin * FRAMES_PER_SECOND)
    if end.frames > most:
        yield f"encoder.end.frames {end.frames}", f"the margin of {end.margin:g} s has {most} frames; give at most that"


def distillation_has_codes(recipe: RecipeParts) -> Refusals:
    """What is learned are the scales of codes."""
    if recipe.distillation is not None and recipe.is_float:
        yield "distillation", "a float model has nothing to learn: leave it out"


def targets_have_kernels(recipe: RecipeParts) -> Refusals:
    """A target that multiplies a component as int8 needs codes that its integer kernel takes."""
    for name in recipe.target:
        for component, form in TARGETS[name].forms.items():
            spec = recipe.component(component)
            if form == "int8" and spec.is_integer and (obstacle := int8_obstacle(spec)):
                yield f"{component}, int8 on {name}", obstacle


RECIPE_RULES = (
    table_is_not_prepared,
    table_has_no_outliers,
    table_is_not_learned,
    readers_of_one_stream_share_its_rotation,
    target_decides_on_the_head,
    moonshine_rounds_windows_apart,
    window_end_is_of_a_window,
    distillation_has_codes,
    targets_have_kernels,
)


# Between a recipe and a model.


def require_matches(recipe: RecipeParts, paths: Iterable[str]) -> None:
    """UserError for a key of `layers` that matches none of a model's module paths: most likely a typing error."""
    names = list(paths)
    for pattern in recipe.layers:
        if not any(fnmatchcase(path, pattern) for path in names):
            remedy = f"matches no matrix of this model; they are called like {names[0]} or {names[-1]}"
            raise UserError(f"recipe {recipe.name}", f"layers.{pattern}", remedy)


def require_kernels(recipe: RecipeParts, components: Mapping[str, str]) -> None:
    """UserError for a matrix in `components` (module path -> component) that a target's int8 kernel cannot take.

    `targets_have_kernels` has checked whole components; which matrices `layers` changes is known with the model.
    """
    for name in recipe.target:
        for path, component in components.items():
            activations = recipe.activations(component)
            is_skipped = activations.kind != "float" and not activations.covers(path)
            if TARGETS[name].forms[component] != "int8" or is_skipped:
                continue
            spec = recipe.weights(path, component)
            if spec.is_integer and (obstacle := int8_obstacle(spec)):
                raise UserError(f"recipe {recipe.name}", f"layers: {path}, int8 on {name}", obstacle)


def check_skips(recipe: RecipeParts, structure: Structure) -> None:
    """UserError for a pattern in `activations` that matches no layer of its component: most likely a typing error."""
    components = structure.components()
    for component in COMPONENTS:
        paths = [path for path, part in components.items() if part == component]
        spec = recipe.activations(component)
        for key, patterns in (("skip", spec.skip), ("token", spec.token)):
            for pattern in patterns:
                if not any(fnmatchcase(path, pattern) for path in paths):
                    raise UserError(
                        f"recipe {recipe.name}",
                        f"{component}.activations.{key} {pattern!r}",
                        f"matches no layer of this model; a layer there is called {paths[0]}",
                    )
