"""A small random Whisper as a local checkpoint, clips of noise, and a sweep of two methods by two settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.fixtures_checkpoint import checkpoint

__all__ = ["checkpoint"]


def write_speech(path: Path, seeds: range) -> None:
    rows = []
    for seed in seeds:
        samples = np.random.default_rng(seed).normal(size=16_000).astype(np.float32) * 0.1
        soundfile.write(path.parent / f"{seed}.wav", samples, 16_000)
        row = {"id": str(seed), "audio": f"{seed}.wav", "text": "red green blue", "source": f"noise{seed % 2}"}
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture
def document(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The sweep as a document, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGE_ASR_DATA", raising=False)
    write_speech(tmp_path / "judged.jsonl", range(3))
    write_speech(tmp_path / "calibration.jsonl", range(10, 12))
    return {
        "name": "small",
        "base": {
            "embedding": {"weights": {"bits": 8, "granularity": "group:16"}},
            "calibration": {"corpus": "calibration.jsonl", "number": 2},
        },
        "evaluation": {"data": ["judged.jsonl"]},
        "axes": {
            "model": {"tiny": {"model": str(checkpoint), "family": "whisper"}},
            "method": {
                "rtn": {"blocks": {"weights": {"quantizer": {"method": "rtn"}}}},
                "gptq": {"blocks": {"weights": {"quantizer": {"method": "gptq"}}}},
            },
            "setting": {
                "w4": {
                    "blocks": {"weights": {"bits": 4, "granularity": "group:16"}},
                    "evaluation": {"accuracy_level": 1},
                },
                "w3": {"blocks": {"weights": {"bits": 3, "granularity": "group:16"}}},
            },
        },
        "cells": [{"model": ["tiny"]}],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a document where sweeps are read from."""

    def write(document: dict[str, Any]) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.fixture
def own_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of this speech is the default corpus."""
    monkeypatch.setattr("edge_asr_deploy.corpora.defaults.evaluation_corpus", lambda: ([], ""))
