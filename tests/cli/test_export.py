"""`edge-deploy export` as a user calls it, on a small random Whisper in a Transformers folder."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

pytest.importorskip("optimum.exporters.onnx")

from edge_asr_deploy import pipeline, selection
from edge_asr_deploy.bundle.manifest import Manifest, bundle_hash, read_manifest
from edge_asr_deploy.bundle.verification import verify, verify_files
from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from tests.support.export_command import RECIPE, user_error


@pytest.fixture
def run(checkpoint: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "cache"))
    # The default evaluation speech, which calibration must not overlap: none of it here.
    monkeypatch.setattr("edge_asr_deploy.corpora.defaults.evaluation_corpus", lambda: ([], ""))
    # What a random model says is not speech; the check itself has a test of its own below.
    monkeypatch.setattr(pipeline, "_check_speech", lambda *args: {"noise": "words"})
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))

    def invoke(*more: str, recipe: bool = True) -> Result:
        chosen = ["--recipe", "recipe.yaml"] if recipe else []
        return CliRunner().invoke(
            app, ["export", "--model", str(checkpoint), "--calibration", str(speech), "--output", "out", *chosen, *more]
        )

    return invoke


@pytest.mark.parametrize("shown", [False, True])
def test_a_bundle_tells_what_the_speech_says_only_when_asked(
    run: Callable[..., Result], shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_check_speech", lambda *args: {"noise": "a private word"})
    ran = run("--show-transcripts") if shown else run()
    assert ran.exit_code == 0, ran.output
    assert "onnxruntime agrees with PyTorch" in ran.stdout
    texts = {path.name: path.read_text() for path in Path("out").iterdir() if path.suffix in (".json", ".md")}
    told = {name for name, text in texts.items() if "private word" in text}
    assert told == ({"manifest.json", "README.md"} if shown else set())
    assert read_manifest(Path("out")).metrics["heard"] == {"noise": 3}


def leftovers(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".out") or name == "out"]


def test_an_export_writes_a_whole_bundle(run: Callable[..., Result], checkpoint: Path) -> None:
    ran = run("--json")
    assert ran.exit_code == 0, ran.output
    manifest = verify(Path("out"))
    assert Manifest.model_validate_json(ran.stdout) == manifest
    assert manifest.model.name == checkpoint.name
    assert manifest.recipe["decoder"]["weights"]["bits"] == 3
    assert manifest.calibration is not None and manifest.calibration.number == 2
    assert set(selection.PACKAGES) <= manifest.versions.keys()
    assert manifest.metrics["agreement_with_pytorch"]["tokens"] == 1
    assert manifest.metrics["heard"] == {"noise": 1}
    calibrated = [layer for layer in manifest.layers if layer.method == "gptq"]
    assert calibrated and all(layer.error is not None and 0 < layer.error < 1 for layer in calibrated)
    card = Path("out/README.md").read_text()
    assert "whisper-test" in card and manifest.model.sha256 in card


def test_settings_override_the_recipe(run: Callable[..., Result]) -> None:
    assert run("--set", "decoder.weights.bits=8", "--number", "1").exit_code == 0
    manifest = verify(Path("out"))
    assert {layer.bits for layer in manifest.layers if layer.component == "decoder"} == {8}
    assert manifest.calibration is not None and manifest.calibration.number == 1


def test_what_learned_from_the_float_model_passes_the_same_proof(run: Callable[..., Result]) -> None:
    assert run().exit_code == 0
    plain = read_manifest(Path("out"))
    ran = run("--set", "distillation={pieces: 4, steps: 6, rate: 0.01}", "--output", "learned")
    assert ran.exit_code == 0, ran.output
    assert "onnxruntime agrees with PyTorch" in ran.stdout
    learned = read_manifest(Path("learned"))
    assert learned.recipe["distillation"] == {"pieces": 4, "steps": 6, "rate": 0.01}
    stored = [[(layer.bits, layer.effective_bits) for layer in one.layers] for one in (plain, learned)]
    assert stored[0] == stored[1], "the same bytes"
    assert {layer.error is None for layer in learned.layers if layer.component != "embedding"} == {True}
    assert bundle_hash(learned) != bundle_hash(plain)


def test_the_float_baseline_needs_no_calibration(run: Callable[..., Result]) -> None:
    assert run("--bits", "32", recipe=False).exit_code == 0
    manifest = verify(Path("out"))
    assert manifest.calibration is None
    assert {layer.bits for layer in manifest.layers} == {32}


def test_the_same_input_gives_the_same_files(run: Callable[..., Result]) -> None:
    run()
    first = verify(Path("out"))
    run("--overwrite")
    graphs = {name: entry for name, entry in first.files.items() if ".onnx" in name}
    second = verify(Path("out")).files
    assert graphs == {name: second[name] for name in graphs}


def test_an_existing_output_is_refused_before_any_work(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out").mkdir()
    monkeypatch.setattr(pipeline, "make", lambda *args: pytest.fail("work was done"))
    assert "--overwrite" in user_error(run())


def fails(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))], ids=["Ctrl-C", "disk full"]
)
def test_an_export_that_ends_early_keeps_the_old_bundle_and_leaves_nothing(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    run("--bits", "32", recipe=False)
    old = verify(Path("out"))
    monkeypatch.setattr("edge_asr_deploy.graph.deployment.deploy", fails(error))
    ran = run("--overwrite")
    assert ran.exit_code != 0
    if isinstance(error, OSError):
        assert "disk full" in user_error(ran)
    assert leftovers(Path()) == ["out"]
    assert verify(Path("out")) == old


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--set", "decoder.weights.bits=9"], "decoder.weights.bits 9"),
        (["--set", "decoder.weights.granularity=group:48"], "group:48"),
        (["--set", "decoder.weights.colour=red"], "decoder.weights.colour"),
        (["--set", "family=moonshine"], "another family"),
        (["--set", "nonsense"], "key.path=value"),
        (["--calibration", "absent.jsonl"], "absent.jsonl"),
        (["--bits", "4"], "not both"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    run: Callable[..., Result], more: list[str], named: str
) -> None:
    assert named in user_error(run(*more))
    assert leftovers(Path()) == []


@pytest.mark.parametrize("bits", ["1", "9", "16"])
def test_bits_that_no_recipe_has_are_named(run: Callable[..., Result], bits: str) -> None:
    assert f"--bits: {bits}" in user_error(run("--bits", bits, recipe=False))


def test_a_model_that_is_nowhere_is_named(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    ran = CliRunner().invoke(app, ["export", "--model", "no-such-model"])
    assert "no-such-model" in user_error(ran)


def test_calibration_on_evaluation_speech_is_refused(
    run: Callable[..., Result], speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_asr_deploy.corpora.manifest import read_manifest

    monkeypatch.setattr("edge_asr_deploy.corpora.defaults.evaluation_corpus", lambda: (read_manifest(speech), ""))
    assert "evaluation" in user_error(run())
    assert leftovers(Path()) == []


@pytest.mark.parametrize(("text", "loops"), [("", 0), ("and so " * 10, 0), ("cut off", 1)])
def test_an_export_that_cannot_speak_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, loops: int
) -> None:
    from types import SimpleNamespace

    from edge_asr_deploy.bundle.manifest import Graphs
    from edge_asr_deploy.corpora.utterance import Utterance
    from edge_asr_deploy.runtime.transcriber import Transcriber

    transcriber = SimpleNamespace(transcribe=lambda samples: SimpleNamespace(text=text, loops=loops))
    monkeypatch.setattr(Transcriber, "open", lambda *args, **options: transcriber)
    clip = Utterance("clip", np.zeros(10, np.float32), None, "test")
    with pytest.raises(UserError, match="use more bits"):
        pipeline._check_speech(tmp_path, "whisper", [clip], Graphs())
    transcripts = pipeline._check_speech(tmp_path, "whisper", [clip], Graphs(), refuses_coarse=False)
    assert transcripts == {"clip": text}


def test_transformers_5_is_named_at_once(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.metadata, "version", lambda package: "5.0.0")
    assert "below 4.58" in user_error(run())


def test_a_bundle_is_arranged_for_an_engine_as_well(run: Callable[..., Result]) -> None:
    ran = run("--layout", "sherpa-onnx")
    assert ran.exit_code == 0, ran.output
    bundle, arranged = verify(Path("out")), verify_files(Path("out-sherpa-onnx"))
    assert arranged.layout == "sherpa-onnx" and arranged.metrics["made_from"] == bundle_hash(bundle)
    assert arranged.metrics["agreement_with_bundle"]["agreement"] == 1
    assert {"encoder.onnx", "decoder.onnx", "tokens.txt"} < arranged.files.keys()
    again = run("--layout", "sherpa-onnx", "--output", "other")
    assert again.exit_code == 0, "the folder is named after the bundle"


@pytest.mark.parametrize(
    ("name", "said"),
    [("sherpa", "no such layout; choose optimum, sherpa-onnx"), ("sherpa-onnx", "exists already; add --overwrite")],
)
def test_a_layout_that_cannot_be_is_refused_before_any_work(run: Callable[..., Result], name: str, said: str) -> None:
    Path("out-sherpa-onnx").mkdir()
    assert said in user_error(run("--layout", name))
    assert leftovers(Path()) == []
