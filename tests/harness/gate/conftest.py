"""A small random Whisper as float and 4-bit bundles, noise that it transcribes, and the record of the good bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from rich.console import Console

from edge_asr_deploy.bundle.manifest import MANIFEST, BundleWriter, Layer, read_manifest
from edge_asr_deploy.harness.gate.gate import Options, update
from edge_asr_deploy.recipe.document import Recipe, float_recipe, parse
from edge_asr_deploy.runtime.audio.reading import read_audio
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests import tiny
from tests.bundles import pack

CLIPS = 6
ENCODER, DECODER = "encoder_model.onnx", "decoder_model_merged.onnx"


@dataclass(frozen=True)
class Gated:
    """Two bundles in one folder, the 4-bit one's record, and the manifest of the speech."""

    bundle: Path
    float_bundle: Path
    baseline: Path
    data: Path

    def altered(
        self, folder: Path, edit: Callable[[Path], None], layers: list[Layer] | None = None, rehash: bool = True
    ) -> Path:
        """A copy of the 4-bit bundle after `edit`; with `rehash` its manifest vouches for the changed files."""
        destination = folder / self.bundle.name
        if not rehash:
            shutil.copytree(self.bundle, destination)
            edit(destination)
            return destination
        manifest = read_manifest(self.bundle)
        with BundleWriter(destination) as writer:
            for path in self.bundle.iterdir():
                if path.name != MANIFEST:
                    shutil.copyfile(path, writer.folder / path.name)
            edit(writer.folder)
            writer.commit(manifest.model_copy(update={"layers": layers} if layers else {}))
        return destination


@pytest.fixture(scope="session")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Gated:
    pytest.importorskip("optimum.exporters.onnx")
    folder = tmp_path_factory.mktemp("gate")
    bits = {c: {"weights": {"bits": 4}} for c in ("encoder", "cross_attention", "decoder", "embedding")}
    low = parse({"name": "whisper-w4", "family": "whisper", "stem": {"bits": 16}, **bits}, "test")
    bundle, float_bundle = _export(low, folder / "tiny-w4"), _export(float_recipe("whisper"), folder / "tiny-float")
    data = _speech(folder, bundle)
    options = Options(data=[data], float_bundle=str(float_bundle))
    [baseline] = update([bundle], None, options, Console(quiet=True))
    return Gated(bundle, float_bundle, baseline, data)


def _export(recipe: Recipe, folder: Path) -> Path:
    from edge_asr_deploy.families import family
    from edge_asr_deploy.ptq.quantize import quantize
    from edge_asr_deploy.ptq.stem import narrow_in_place
    from tests.support.graphs import build

    model: Any = tiny.whisper()
    kind = family("whisper")
    narrow_in_place(model, kind.structure(model.config).components(), recipe)

    def graphs(target: Path) -> dict[str, Any]:
        return {"layers": build(model, recipe, quantize(model, kind, recipe, []), target)}

    return pack(folder, folder.name, model, recipe, graphs)


def _speech(folder: Path, bundle: Path) -> Path:
    """Noise whose text is what the good bundle makes of it: every change of its words is an error."""
    generator, transcriber, rows = np.random.default_rng(0), Transcriber.open(bundle), []
    for number in range(CLIPS):
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.1 * generator.normal(size=16_000 + 4_000 * number), 16_000)
        text = transcriber.transcribe(read_audio(path)).text
        rows.append(json.dumps({"id": str(number), "audio": path.name, "text": text, "source": "noise"}))
    manifest = folder / "noise.jsonl"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


def edit_graph(name: str, change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    """An edit of one model file of a bundle."""

    def edit(folder: Path) -> None:
        model = onnx.load(folder / name)
        change(model)
        onnx.save(model, folder / name)

    return edit
