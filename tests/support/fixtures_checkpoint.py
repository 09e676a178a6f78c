"""Fixtures: a small random Whisper in a Transformers folder, and clips to calibrate on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import tiny
from tests.support.vocabulary import tokenizer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Transformers folder with everything that the Hub's have."""
    pytest.importorskip("optimum.exporters.onnx")
    from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny-random"
    model = tiny.sure(tiny.whisper())
    model.generation_config.no_timestamps_token_id = 304
    # Otherwise Transformers makes it anew from config.json, which has no such key.
    model.generation_config._from_model_config = False
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer()).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A manifest of three clips."""
    rows = []
    for number in range(3):
        samples = np.random.default_rng(number).normal(size=16_000).astype(np.float32) * 0.1
        soundfile.write(tmp_path / f"{number}.wav", samples, 16_000)
        rows.append(json.dumps({"id": str(number), "audio": f"{number}.wav", "text": "noise", "source": "noise"}))
    (tmp_path / "speech.jsonl").write_text("\n".join(rows))
    return tmp_path / "speech.jsonl"
