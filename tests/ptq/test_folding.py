"""Folding a scale is an identity: whatever the scales, the model computes what it computed before."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch
from transformers import MoonshineConfig, MoonshineForConditionalGeneration

from edge_asr_deploy.families import SharedInput, family
from edge_asr_deploy.ptq.folding import fold, is_foldable
from tests.support import short as models

# By the family, every kind of layer that can be scaled (of decoder block 1, encoder block 1, or all blocks).
FOLDS = {
    "whisper": (
        "model.encoder.layers.1.self_attn.q_proj",
        "model.encoder.layers.1.self_attn.out_proj",
        "model.encoder.layers.1.fc1",
        "model.decoder.layers.0.encoder_attn.k_proj",
        "model.decoder.layers.1.self_attn.q_proj",
        "model.decoder.layers.1.self_attn.out_proj",
        "model.decoder.layers.1.encoder_attn.q_proj",
        "model.decoder.layers.1.encoder_attn.out_proj",
        "model.decoder.layers.1.fc1",
    ),
    "moonshine": (
        "model.encoder.layers.1.self_attn.q_proj",
        "model.encoder.layers.1.self_attn.o_proj",
        "model.encoder.layers.1.mlp.fc1",
        "model.decoder.layers.0.encoder_attn.k_proj",
        "model.decoder.layers.1.self_attn.q_proj",
        "model.decoder.layers.1.self_attn.o_proj",
        "model.decoder.layers.1.encoder_attn.q_proj",
        "model.decoder.layers.1.encoder_attn.o_proj",
        "model.decoder.layers.1.mlp.fc1",
        "model.decoder.layers.1.mlp.fc2",
    ),
}
CASES = [(name, first) for name, firsts in FOLDS.items() for first in firsts]


def shared_inputs(model: Any, name: str) -> dict[str, SharedInput]:
    return {shared.paths[0]: shared for shared in family(name).structure(model.config).shared_inputs()}


def logits(model: Any, name: str) -> torch.Tensor:
    with torch.no_grad():
        rows = [model(s.inputs, decoder_input_ids=s.tokens).logits for s in models.samples(name, 2)]
    return torch.cat(rows, 1)


@pytest.mark.parametrize(("name", "first"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fold_changes_the_layers_but_not_the_model(name: str, first: str, seed: int) -> None:
    model = models.shuffled(name, seed)
    before, weight = logits(model, name), model.get_submodule(first).weight.detach().clone()
    shared = shared_inputs(model, name)[first]
    scales = torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(seed)).exp()
    fold(model, shared, scales)
    assert torch.equal(model.get_submodule(first).weight, weight * scales)
    assert (logits(model, name) - before).abs().max() < 1e-5 * before.abs().max()


@pytest.mark.parametrize("name", FOLDS)
def test_every_other_layer_stands_behind_an_activation(name: str) -> None:
    model = models.model(name)
    kinds = {first.split(".layers.")[0] + first.split(".layers.")[1][1:] for first in FOLDS[name]}
    for first, shared in shared_inputs(model, name).items():
        kind = first.split(".layers.")[0] + first.split(".layers.")[1][1:]
        assert is_foldable(model, shared) == (kind in kinds), first
        if kind not in kinds:
            assert first.endswith("fc2")
            with pytest.raises(ValueError, match="nothing before it can take a scale"):
                fold(model, shared, torch.ones(model.get_submodule(first).in_features))


def test_shared_heads_of_values_are_not_scaled() -> None:
    config = MoonshineConfig(
        vocab_size=models.VOCABULARY,
        hidden_size=36,
        intermediate_size=72,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        decoder_num_key_value_heads=1,
    )
    model = MoonshineForConditionalGeneration(config)
    found = shared_inputs(model, "moonshine")
    assert not is_foldable(model, found["model.decoder.layers.0.self_attn.o_proj"])
    assert is_foldable(model, found["model.encoder.layers.0.self_attn.o_proj"])
