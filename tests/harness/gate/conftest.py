"""A small random Whisper as float and 4-bit bundles, sounds that it transcribes, and the record of the good bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from rich.console import Console

from edge_asr_deploy.harness.gate.gate import update
from edge_asr_deploy.harness.gate.options import CheckOptions
from edge_asr_deploy.recipe.document import Recipe, float_recipe, parse
from edge_asr_deploy.runtime.audio.reading import read_audio
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support import tiny
from tests.support.bundles import pack
from tests.support.gated import Gated
from tests.support.voice import voice

CLIPS = 6


@pytest.fixture(scope="session")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Gated:
    pytest.importorskip("optimum.exporters.onnx")
    folder = tmp_path_factory.mktemp("gate")
    bits = {c: {"weights": {"bits": 4}} for c in ("encoder", "cross_attention", "decoder", "embedding")}
    low = parse({"name": "whisper-w4", "family": "whisper", "stem": {"bits": 16}, **bits}, "test")
    bundle, float_bundle = _export(low, folder / "tiny-w4"), _export(float_recipe("whisper"), folder / "tiny-float")
    data = _speech(folder, bundle)
    options = CheckOptions(data=(data,), float_bundle=str(float_bundle))
    [baseline] = update([bundle], options, Console(quiet=True))
    return Gated(bundle, float_bundle, baseline, data)


def _export(recipe: Recipe, folder: Path) -> Path:
    from edge_asr_deploy.families import family
    from edge_asr_deploy.ptq.quantize import quantize
    from edge_asr_deploy.ptq.stem import narrow_in_place
    from tests.support.graphs import build

    model: Any = tiny.sure(tiny.whisper())
    kind = family("whisper")
    narrow_in_place(model, kind.structure(model.config).components(), recipe)

    def graphs(target: Path) -> dict[str, Any]:
        return {"layers": build(model, recipe, quantize(model, kind, recipe, []), target)}

    return pack(folder, folder.name, model, recipe, graphs)


def _speech(folder: Path, bundle: Path) -> Path:
    """Sounds whose text is what the good bundle makes of it: every change of its words is an error."""
    transcriber, rows = Transcriber.open(bundle), []
    for number in range(CLIPS):
        path = folder / f"{number}.wav"
        soundfile.write(path, voice(1 + number / 4, number), 16_000)
        text = transcriber.transcribe(read_audio(path)).text
        rows.append(json.dumps({"id": str(number), "audio": path.name, "text": text, "source": "noise"}))
    manifest = folder / "noise.jsonl"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest
