"""Small random models as bundles with the graphs that Optimum exports."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_asr_deploy.bundle.manifest import Manifest, Model
from edge_asr_deploy.bundle.writer import BundleWriter
from tests.support import tiny
from tests.support.vocabulary import GENERATION, tokenizer


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


def export(family: str, folder: Path, sure: bool = False) -> Exported:
    """With `sure` the model's texts pass for speech (`tiny.sure`)."""
    pytest.importorskip("torch")
    exporters = pytest.importorskip("optimum.exporters.onnx")
    model = tiny.MODELS[family]()
    if sure:
        tiny.sure(model)
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
