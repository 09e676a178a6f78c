"""Small random models in the shapes of other checkpoints: distil-whisper, large-v3, other Moonshines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("optimum.onnxruntime")

import torch
from transformers import (
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from edge_asr_deploy.families import family
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.proof.verify import check_agreement, check_files, check_operators
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.recipe.document import parse
from tests.support.graphs import agreement_of, build
from tests.support.tiny import moonshine, whisper

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    # distil-whisper keeps the first and the last layer of the decoder.
    "distil-whisper": ("whisper", {"encoder_layers": 4, "decoder_layers": 2}),
    # distil-large-v3.5 and turbo: 128 mel bands, shallow decoder.
    "turbo": (
        "whisper",
        {
            "encoder_layers": 3,
            "decoder_layers": 1,
            "num_mel_bins": 128,
            "decoder_ffn_dim": 96,
        },
    ),
    "deep decoder": ("whisper", {"encoder_layers": 1, "decoder_layers": 3}),
    # Moonshine in other languages: tiny's layers with another vocabulary.
    "other vocabulary": ("moonshine", {"vocab_size": 416}),
    # Moonshine base: other widths, less of a head is rotated.
    "moonshine base": ("moonshine", {"hidden_size": 52, "intermediate_size": 208, "partial_rotary_factor": 0.62}),
}


def model_of(kind: str, changes: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    base = {"whisper": whisper, "moonshine": moonshine}[kind]()
    settings = {**base.config.to_dict(), **changes}
    if kind == "whisper":
        model: Any = WhisperForConditionalGeneration(WhisperConfig.from_dict(settings))
    else:
        model = MoonshineForConditionalGeneration(MoonshineConfig.from_dict(settings))
    model.generation_config.max_length = 24
    return model.eval()


def sample_of(model: Any, kind: str) -> Sample:
    generator = torch.Generator().manual_seed(1)
    shape = (1, model.config.num_mel_bins, 3000) if kind == "whisper" else (1, 20_000)
    inputs = torch.randn(shape, generator=generator)
    tokens = torch.randint(3, model.config.vocab_size, (1, 7), generator=generator)
    return Sample(inputs, 400 if kind == "whisper" else 48, tokens)


@pytest.mark.parametrize("name", SHAPES)
def test_other_shapes_export_and_agree(name: str, tmp_path: Path) -> None:
    kind, changes = SHAPES[name]
    model = model_of(kind, changes)
    part = {"weights": {"bits": 4, "granularity": "group:16"}}
    recipe = parse({"name": "shape", "family": kind, **dict.fromkeys(COMPONENTS, part)}, "test")
    layers = build(model, recipe, quantize(model, family(kind), recipe, []), tmp_path)
    check_files(tmp_path)
    check_operators(tmp_path, layers)
    check_agreement(agreement_of(model, tmp_path, [sample_of(model, kind)]))
