"""OmniQuant and TesseraQ on whole small models: what the model holds after, and recipes that make no sense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.ptq import folding
from edge_asr_deploy.ptq.calibration.stream import Stream
from edge_asr_deploy.ptq.learning.blockwise import learn_part, parts
from edge_asr_deploy.ptq.needs import needs_samples
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.quantized.scales import PlainScales
from edge_asr_deploy.recipe.document import Recipe
from tests.support import short as models
from tests.support.block_streams import enter

NAMES = ("whisper", "moonshine")
OMNIQUANT = {"method": "omniquant", "epochs": 1, "rate": 0.05, "positions": 64}
EQUIVALENT = {**OMNIQUANT, "equivalent": True}
TESSERAQ = {"method": "tesseraq", "rounds": 2, "iterations": 4, "rate": 0.1, "positions": 64}
FLOAT = {"bits": 32, "granularity": "channel"}
AWQ = {"method": "awq", "grid": 3}


def recipe(name: str, quantizer: dict[str, Any], steps: Any = (), bits: int = 3, **components: Any) -> Recipe:
    same = {"bits": bits, "granularity": "group:16", "quantizer": quantizer, "steps": list(steps)}
    chosen = {c: same for c in ("encoder", "cross_attention", "decoder")} | {"embedding": FLOAT} | components
    return models.recipe(name, quantizer, **chosen)


def run(name: str, chosen: Recipe) -> tuple[Any, list[Any]]:
    model = models.shuffled(name, 0)
    return model, quantize(model, family(name), chosen, models.samples(name, 3))


def logits(model: Any, name: str) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(s.inputs, decoder_input_ids=s.tokens).logits for s in models.samples(name, 3)], 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("quantizer", "steps", "method"),
    [
        (OMNIQUANT, [], "omniquant"),
        (EQUIVALENT, [], "omniquant"),
        (TESSERAQ, [], "tesseraq"),
        (OMNIQUANT, [AWQ], "awq+omniquant"),
        (TESSERAQ, [AWQ], "awq+tesseraq"),
    ],
)
def test_the_model_computes_with_the_very_values_of_the_codes(
    name: str, quantizer: dict[str, Any], steps: Any, method: str
) -> None:
    model, found = run(name, recipe(name, quantizer, steps))
    structure = family(name).structure(model.config)
    assert [w.name for w in found] == [p for p in structure.components() if p != structure.table]
    for weight in found:
        assert weight.method == method
        assert weight.codes.max() < 8 and isinstance(weight.scales, PlainScales)
        assert weight.scales.values.dtype == np.float16 and (weight.scales.values > 0).all()
        assert np.array_equal(weight.dequantize(), model.get_submodule(weight.name).weight.detach().numpy())
        assert weight.error is not None and 0 < weight.error < 0.5
    assert model.proj_out.weight is model.get_decoder().embed_tokens.weight
    assert all(parameter.grad is None for parameter in model.parameters())
    expected = logits(models.shuffled(name, 0), name)
    assert (logits(model, name) - expected).norm() < expected.norm()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quantizer", [EQUIVALENT, TESSERAQ])
def test_the_same_seed_gives_the_same_codes(name: str, quantizer: dict[str, Any]) -> None:
    only = recipe(name, quantizer, encoder=FLOAT, cross_attention=FLOAT)
    (_, first), (_, second) = run(name, only), run(name, only)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.codes, b.codes) and np.array_equal(a.scales.by_group(), b.scales.by_group())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("quantizer", [OMNIQUANT, EQUIVALENT, TESSERAQ])
def test_each_parts_learned_error_is_what_the_rounded_part_has_and_less_than_that_of_nearest(
    name: str, side: str, quantizer: dict[str, Any]
) -> None:
    """Also with scales and shifts folded into norms and neighbours, at the places where the part leaves off."""
    spec = recipe(name, {**quantizer, "positions": 10_000, "epochs": 4} if "epochs" in quantizer else quantizer)
    chosen = spec.component(side)
    if quantizer is TESSERAQ:
        chosen = recipe(name, {**quantizer, "positions": 10_000, "iterations": 15}).component(side)
    nearest = recipe(name, {"method": "rtn"}).component(side)
    before, after = 0.0, 0.0
    with torch.no_grad():
        for index in range(3 if side == "decoder" else 2):
            errors = {}
            for method, weights in (("learned", chosen), ("nearest", nearest)):
                model = models.shuffled(name, 0)
                block, stream = enter(model, name, side)
                errors[method] = _part_error(model, name, block, index, stream, weights)
            learned, actual = errors["learned"]
            assert actual == pytest.approx(learned, rel=0.02)
            assert actual <= errors["nearest"][1]
            before, after = before + errors["nearest"][1], after + actual
    assert after < 0.95 * before


def _part_error(model: Any, name: str, block: Any, index: int, stream: Stream, spec: Any) -> tuple[float, float]:
    """What was learned and what the part's outputs say once it is rounded, relative to the float part's, squared."""
    module = model.get_submodule(block.path)
    steps = list(parts(block))[index]
    for earlier in list(parts(block))[:index]:
        linear = model.get_submodule(earlier[-1].paths[0])
        outputs = [linear(values) for values in stream.inputs(module, linear)]
        stream.replay(model.get_submodule(earlier[-1].closes), outputs)
    place = model.get_submodule(steps[-1].closes) if steps[-1].closes else module

    def outputs_of_part() -> torch.Tensor:
        caught: list[torch.Tensor] = []
        handle = place.register_forward_hook(
            lambda _, __, out: caught.append((out[0] if isinstance(out, tuple) else out)[0])
        )
        list(stream.outputs(module))
        handle.remove()
        return torch.cat([rows[w > 0] for rows, w in zip(caught, stream.weights, strict=True)])

    target, error = outputs_of_part(), 0.0
    if spec.quantizer.method == "rtn":
        from edge_asr_deploy.ptq.methods import rtn

        for step in steps:
            for path in step.paths:
                weight = model.get_submodule(path).weight
                grid, codes = rtn(weight, spec, spec.quantizer)
                weight.copy_(grid.decode(codes))
    else:
        fixed = family(name).structure(model.config).cross.paths
        learned = learn_part(model, block, steps, stream, spec, fixed)
        error = learned.error
        for path, (grid, codes) in learned.rounded.items():
            model.get_submodule(path).weight.copy_(grid.decode(codes))
    return error, float((outputs_of_part() - target).square().sum() / target.square().sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_shift_changes_norm_and_layers_but_not_the_model(seed: int) -> None:
    model = models.shuffled("whisper", seed)
    before, generator = logits(model, "whisper"), torch.Generator().manual_seed(seed)
    shifted = 0
    for block in (*(structure := family("whisper").structure(model.config)).encoder, *structure.decoder):
        for step in block.inputs:
            if folding.is_shiftable(model, step):
                folding.shift(model, step, torch.randn(32, generator=generator))
                shifted += 1
    # Keys, queries and values; the feed-forward part; in the decoder also the queries of cross-attention.
    assert shifted == 2 * 2 + 2 * 3
    assert (logits(model, "whisper") - before).abs().max() < 1e-4 * before.abs().max()


def test_without_biases_nothing_is_shifted() -> None:
    model = models.shuffled("moonshine", 0)
    for step in family("moonshine").structure(model.config).shared_inputs():
        assert not folding.is_shiftable(model, step)
        with pytest.raises(ValueError, match="no biases that could take a shift"):
            folding.shift(model, step, torch.zeros(36))


def test_learned_methods_look_at_speech() -> None:
    for quantizer in (OMNIQUANT, TESSERAQ):
        assert needs_samples(recipe("whisper", quantizer))
        with pytest.raises(UserError, match="calibration: no clips"):
            quantize(models.whisper(), family("whisper"), recipe("whisper", quantizer))


@pytest.mark.parametrize(
    ("quantizer", "steps", "message"),
    [
        (OMNIQUANT, [{"method": "qep"}], "omniquant learns from inputs that carry the error; leave out qep"),
        (TESSERAQ, [AWQ, {"method": "qep"}], "tesseraq learns from inputs that carry the error; leave out qep"),
        (EQUIVALENT, [AWQ], "equivalent learns scales of its own; leave out awq"),
    ],
)
def test_steps_that_a_learned_method_does_not_take_are_named(quantizer: Any, steps: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"encoder\.weights\.quantizer .*: {message}"):
        recipe("whisper", quantizer, steps)


@pytest.mark.parametrize("quantizer", [OMNIQUANT, TESSERAQ])
def test_the_tied_table_is_in_no_block(quantizer: dict[str, Any]) -> None:
    table = {"bits": 4, "granularity": "group:16", "quantizer": quantizer}
    with pytest.raises(UserError, match=r"embedding\.weights\.quantizer .*: learns on blocks.*choose rtn or gptq"):
        recipe("whisper", quantizer, embedding=table)


@pytest.mark.parametrize("name", NAMES)
def test_other_components_may_correct_behind_a_learned_one(name: str) -> None:
    corrected = {
        "bits": 3,
        "granularity": "group:16",
        "quantizer": {"method": "gptq"},
        "steps": [{"method": "qep"}],
    }
    model, found = run(name, recipe(name, TESSERAQ, cross_attention=corrected, decoder=corrected))
    assert {w.method for w in found} == {"tesseraq", "qep+gptq"}
    expected = logits(models.shuffled(name, 0), name)
    assert (logits(model, name) - expected).norm() < expected.norm()
