"""Tiny random models, exported by Optimum as they are, and noise that stands for speech."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models

from edge_asr_deploy.bundle.manifest import BundleWriter, Manifest, Model
from edge_asr_deploy.runtime.audio.reading import read_audio
from tests import tiny

# A multilingual Whisper's special tokens, in its vocabulary of 320.
SPECIAL = {"<|en|>": 300, "<|de|>": 301, "<|translate|>": 302, "<|transcribe|>": 303, "<|notimestamps|>": 304}
GENERATION = {
    "whisper": {
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": 300, "<|de|>": 301},
        "task_to_id": {"translate": 302, "transcribe": 303},
        "no_timestamps_token_id": 304,
    },
    "moonshine": {},
}


@dataclass(frozen=True)
class Exported:
    """A PyTorch model, and a bundle with Optimum's own graphs of it."""

    model: Any
    bundle: Path

    def with_generation(self, folder: Path, **changes: Any) -> Path:
        """The same bundle with another `generation_config.json`."""
        path = self.bundle / "generation_config.json"
        content = json.dumps({**json.loads(path.read_text()), **changes}).encode()
        return write_bundle(folder, self.bundle, {"generation_config.json": content})


def write_bundle(folder: Path, source: Path, changes: dict[str, bytes]) -> Path:
    """A bundle from the files of `source`, its own or a plain export, some of them changed."""
    family = json.loads((source / "config.json").read_text())["model_type"]
    with BundleWriter(folder) as writer:
        for path in source.iterdir():
            if path.name != "manifest.json":
                os.link(path, writer.folder / path.name)
        for name, content in changes.items():
            (writer.folder / name).unlink(missing_ok=True)
            (writer.folder / name).write_bytes(content)
        writer.commit(
            Manifest(
                name="tiny",
                family=family,
                model=Model(name="tiny", origin="random", sha256="a" * 64),
                recipe={},
                versions={},
                created="2025-01-01T00:00:00+00:00",
            )
        )
    return folder


def tokenizer() -> Tokenizer:
    """One word for each of the first 300 tokens, the special ones after them."""
    vocabulary = {f"▁w{number}": number for number in range(300)} | SPECIAL
    built = Tokenizer(models.WordLevel(vocabulary, unk_token="▁w0"))
    built.decoder = decoders.Metaspace()
    built.add_special_tokens(list(SPECIAL))
    return built


def export(family: str, folder: Path) -> Exported:
    pytest.importorskip("torch")
    exporters = pytest.importorskip("optimum.exporters.onnx")
    model = tiny.MODELS[family]()
    for key, value in GENERATION[family].items():
        setattr(model.generation_config, key, value)
    plain = folder / "plain"
    model.save_pretrained(folder / "model")
    exporters.main_export(
        str(folder / "model"), plain, task="automatic-speech-recognition-with-past", opset=20, do_validation=False
    )
    for name in ("decoder_model.onnx", "decoder_with_past_model.onnx"):
        (plain / name).unlink(missing_ok=True)
    # Optimum writes the file anew, without what only Whisper knows of.
    model.generation_config.save_pretrained(plain)
    tokenizer().save(str(plain / "tokenizer.json"))
    return Exported(model, write_bundle(folder / "bundle", plain, {}))


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export("whisper", tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="session")
def free_whisper(whisper: Exported, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The same Whisper with the graphs of an export, whose encoder takes windows of any length."""
    from edge_asr_deploy.recipe.document import float_recipe
    from tests.support.graphs import build

    folder = tmp_path_factory.mktemp("free")
    build(whisper.model, float_recipe("whisper"), [], folder)
    graphs = {path.name: path.read_bytes() for path in folder.glob("*.onnx")}
    return Exported(whisper.model, write_bundle(folder / "bundle", whisper.bundle, graphs))


@pytest.fixture(scope="session")
def moonshine(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export("moonshine", tmp_path_factory.mktemp("moonshine"))


@pytest.fixture
def noise() -> Callable[..., NDArray[np.float32]]:
    """Samples (16_000 * seconds,) that no two seeds share."""

    def make(seconds: float, seed: int = 0) -> NDArray[np.float32]:
        return (np.random.default_rng(seed).normal(size=round(16_000 * seconds)) * 0.1).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def real_speech() -> list[NDArray[np.float32]]:
    """A clip of every kind below EDGE_ASR_DATA."""
    root = os.environ.get("EDGE_ASR_DATA")
    if not root:
        pytest.skip("EDGE_ASR_DATA is not set: no real speech")
    folders = sorted(path for path in Path(root).iterdir() if path.is_dir())
    return [read_audio(clip) for folder in folders for clip in sorted(folder.glob("*.flac"))[:2]]
