"""RSQ: the attention that positions get, as Transformers itself computes it, becomes their weight in the statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr_deploy.families import family
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.calibration.stream import Stream
from edge_asr_deploy.ptq.methods.gptq import gptq
from edge_asr_deploy.ptq.methods.rsq import importance
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.recipe.document import Recipe, parse
from edge_asr_deploy.recipe.methods import RsqOptions
from tests.support import short as models

NAMES = ("whisper", "moonshine")


def recipe(name: str, *steps: dict[str, Any], bits: int = 3) -> Recipe:
    same = {"bits": bits, "granularity": "group:16", "quantizer": {"method": "gptq"}, "steps": list(steps)}
    table = {"bits": 32, "granularity": "channel"}
    chosen = {c: {"weights": table if c == "embedding" else same} for c in COMPONENTS}
    return parse({"name": "test", "family": name, **chosen}, "test")


def rsq(floor: float) -> dict[str, Any]:
    return {"method": "rsq", "floor": floor}


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30), st.integers(0, 5), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_weights_run_from_the_floor_to_one_and_have_mean_one(got: list[float], padding: int, floor: float) -> None:
    received = torch.tensor(got + [1000.0] * padding)
    real = (torch.arange(len(received)) < len(got)).float()
    weights = importance(received, real, RsqOptions(floor=floor))
    assert (weights[len(got) :] == 0).all()
    inside = weights[: len(got)]
    assert inside.mean().item() == pytest.approx(1, rel=1e-4)
    if max(got) > min(got):
        assert inside.min().item() == pytest.approx(floor * inside.max().item(), rel=1e-3)
        assert inside[received[: len(got)].argmax()] == inside.max()
    else:
        assert (inside == 1).all()
    assert torch.equal(importance(received, real, RsqOptions(floor=1)), real)


def reference(model: Any, name: str, sample: Sample) -> dict[str, torch.Tensor]:
    """Probabilities of every attention module by its path, (heads, queries, keys), from Transformers' own outputs."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(sample.inputs, decoder_input_ids=sample.tokens, output_attentions=True, use_cache=False)
    found = {}
    for index in range(2):
        found[f"model.encoder.layers.{index}.self_attn"] = output.encoder_attentions[index][0]
        found[f"model.decoder.layers.{index}.self_attn"] = output.decoder_attentions[index][0]
        found[f"model.decoder.layers.{index}.encoder_attn"] = output.cross_attentions[index][0]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_attention_received_is_what_transformers_reports(name: str) -> None:
    sample = models.samples(name, 1)[0]
    expected = reference(models.shuffled(name, 0), name, sample)
    model = models.shuffled(name, 0)
    structure = family(name).structure(model.config)

    def whole() -> object:
        return model(sample.inputs, decoder_input_ids=sample.tokens, use_cache=False)

    for blocks, real in ((structure.encoder, sample.frames), (structure.decoder, 12)):
        stream = Stream.enter(model.get_submodule(blocks[0].path), [whole], [real])
        for block in blocks:
            for attention in (step.closes for step in block.inputs if step.closes):
                module = model.get_submodule(attention)
                (received,) = stream.received(model.get_submodule(block.path), module, stream.weights)
                wanted = expected[attention][:, :real].sum((0, 1))
                assert torch.allclose(received, wanted, rtol=1e-3, atol=1e-4), attention
            stream.pass_through(model.get_submodule(block.path))
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", NAMES)
def test_with_floor_one_it_is_the_plain_method(name: str) -> None:
    found = []
    for steps in ((), (rsq(1),), (rsq(0.005),)):
        weights = quantize(models.shuffled(name, 0), family(name), recipe(name, *steps), models.samples(name))
        found.append([w.codes for w in weights])
    plain, one, low = found
    assert all(np.array_equal(a, b) for a, b in zip(plain, one, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(plain, low, strict=True))


@pytest.fixture
def hessians(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}

    def spy(weight: Any, spec: Any, options: Any, hessian: torch.Tensor, name: str) -> Any:
        seen[name] = hessian.clone()
        return gptq(weight, spec, options, hessian, name)

    monkeypatch.setattr("edge_asr_deploy.ptq.methods.gptq", spy)
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_weighted_by_attention(name: str, hessians: dict[str, torch.Tensor]) -> None:
    """First blocks by their own attention; the frames that keys and values read by that of the whole decoder."""
    samples, floor = models.samples(name, 3), 0.1
    wide = recipe(name, rsq(floor), bits=8)
    quantize(models.shuffled(name, 0), family(name), wide, samples)
    plain = models.shuffled(name, 0)
    structure = family(name).structure(plain.config)
    cross = [s.closes for b in structure.decoder for s in b.inputs if s.source in structure.cross.paths]
    cases: list[tuple[tuple[str, ...], Callable[[dict[str, torch.Tensor]], torch.Tensor]]] = [
        (structure.encoder[0].inputs[0].paths, lambda found: found["model.encoder.layers.0.self_attn"]),
        (structure.decoder[0].inputs[0].paths, lambda found: found["model.decoder.layers.0.self_attn"]),
        (structure.cross.paths, lambda found: torch.cat([found[path] for path in cross if path])),
    ]
    for paths, choose in cases:
        statistics = Statistics(plain.get_submodule(paths[0]).in_features)
        for sample in samples:
            probabilities = choose(reference(plain, name, sample))
            frames = min(sample.frames, probabilities.shape[2]) if "encoder" in paths[0] else probabilities.shape[2]
            asking = frames if probabilities.shape[1] == probabilities.shape[2] else None
            real = (torch.arange(probabilities.shape[2]) < frames).float()
            weights = importance(probabilities[:, :asking].sum((0, 1)), real, RsqOptions(floor=floor))
            inputs: list[torch.Tensor] = []
            layer = plain.get_submodule(paths[0])
            handle = layer.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0][0]))
            with torch.no_grad():
                plain(sample.inputs, decoder_input_ids=sample.tokens)
            handle.remove()
            statistics.add(inputs[0], weights)
        found = hessians[" / ".join(paths)]
        # Layers before are rounded to 8 bits.
        assert (found - statistics.hessian).norm() < 0.03 * found.norm(), paths
        uniform = quantize_plainly(name, samples, hessians)[" / ".join(paths)]
        assert (found - uniform).norm() > 0.05 * found.norm(), paths


def quantize_plainly(name: str, samples: list[Sample], hessians: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    kept = dict(hessians)
    quantize(models.shuffled(name, 0), family(name), recipe(name, bits=8), samples)
    plain = dict(hessians)
    hessians.update(kept)
    return plain


def test_the_table_is_not_weighted(hessians: dict[str, torch.Tensor]) -> None:
    weights = {"bits": 8, "granularity": "group:16", "quantizer": {"method": "gptq"}}
    found = []
    for steps in ([], [rsq(0.005)]):
        chosen = {c: {"weights": weights} for c in ("encoder", "cross_attention", "embedding")}
        decoder = {"weights": weights | {"steps": steps}}
        parsed = parse({"name": "test", "family": "whisper", **chosen, "decoder": decoder}, "test")
        quantize(models.shuffled("whisper", 0), family("whisper"), parsed, models.samples("whisper"))
        found.append(hessians["model.decoder.embed_tokens"])
    assert torch.allclose(*found, rtol=0.05, atol=0.01 * float(found[0].abs().max()))
