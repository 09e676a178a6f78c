"""Small random bundles, which layouts are made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_asr_deploy import pipeline
from edge_asr_deploy.cli import app
from tests.support.export_command import RECIPE
from tests.support.fixtures_checkpoint import checkpoint, speech
from tests.support.fixtures_layouts import small_bundle

__all__ = ["checkpoint", "small_bundle", "speech"]

# Low-bit and packed codes, an integer encoder of two levels, a head of two passes.
TWO_LEVEL = {"storage": "two-level", "granularity": "group:16", "bits": 4}
MIXED = {
    **RECIPE,
    "encoder": {"weights": TWO_LEVEL, "activations": {"kind": "int8-dynamic"}},
    "cross_attention": {"weights": TWO_LEVEL, "activations": {"kind": "int8-dynamic"}},
    "embedding": {"weights": {"bits": 5, "granularity": "group:16"}, "shortlist": 16},
}
# For bundles of several targets, whose weights lie in data files.
SEVERAL = {
    **MIXED,
    "decoder": {"weights": TWO_LEVEL},
    "embedding": {"weights": {**TWO_LEVEL, "bits": 5}, "shortlist": 16},
}
RECIPES = {"mixed": MIXED, "several": SEVERAL}

Export = Callable[[str], Path]


@pytest.fixture
def export(checkpoint: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """`export(width)`: a small bundle. Its generation settings name alignment heads, as real ones do."""
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("edge_asr_deploy.corpora.defaults.evaluation_corpus", lambda: ([], ""))
    monkeypatch.setattr(pipeline, "_check_speech", lambda *args: {"noise": "words"})

    def make(width: str) -> Path:
        (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPES.get(width, RECIPE)))
        chosen = ["--bits", "32"] if width == "float" else ["--recipe", str(tmp_path / "recipe.yaml")]
        if width == "several":
            chosen += ["--target", "x86,pi4"]
        if width == "eight":
            for component in ("encoder", "cross_attention", "decoder", "embedding"):
                chosen += ["--set", f"{component}.weights.bits=8"]
        out = tmp_path / "out"
        arguments = ["export", "--model", str(checkpoint), "--calibration", str(speech), "--output", str(out), *chosen]
        ran = CliRunner().invoke(app, arguments)
        assert ran.exit_code == 0, (ran.output, ran.exception)
        settings = out / "generation_config.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "alignment_heads": [[0, 1], [1, 3]]}))
        return out

    return make
