"""A bundle beside its baseline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_asr_deploy import progress
from edge_asr_deploy.bundle.manifest import bundle_hash, read_manifest
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation import measure
from edge_asr_deploy.harness.evaluation.evaluate import evaluate, find_baseline
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.evaluation.score import score
from edge_asr_deploy.harness.evaluation.speech import Item
from edge_asr_deploy.harness.evaluation.transcripts import Text
from tests.support.fakes import Workers, speech, write_bundle

TEXTS = {
    "one": "Colour television",
    "two": "The cat sat down.",
    "three": "Green leaves",
    "four": None,
    "five": "[noise]",
}
TRUTH = {1.0: "color television", 2.0: "the cat sat down", 3.0: "green leaves"}


def hears(bundle: str, seconds: float) -> str:
    """The float bundle is right; the w4 bundle loops on the second clip and hears nothing on the third."""
    if bundle == "float" or seconds < 2:
        return TRUTH[seconds]
    return "the cat " * 60 if seconds == 2 else ""


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workers:
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "cache"))
    workers = Workers(hears, step={"float": 0.02, "w4": 0.005})
    monkeypatch.setattr(measure, "Worker", workers)
    return workers


def run(folder: Path, **changes: object) -> Result:
    write_bundle(folder / "w4")
    write_bundle(folder / "float", bits=32)
    options = EvaluateOptions(**{"rounds": 1, "clips": 3, **changes})  # type: ignore[arg-type]
    return evaluate(folder / "w4", folder / "float", speech(TEXTS), "a test", options, progress.silent)


def test_errors_are_counted_after_normalization_and_pooled(tmp_path: Path, workers: Workers) -> None:
    result = run(tmp_path)
    assert result.baseline is not None
    assert result.baseline.accuracy.pooled.wer == 0
    pooled = result.bundle.accuracy.pooled
    assert (pooled.words, pooled.utterances) == (2 + 4 + 2, 3)
    assert (pooled.substitutions, pooled.deletions, pooled.insertions) == (2, 2, 116)
    assert pooled.wer == 120 / 8


def test_utterances_without_a_reference_are_dropped_and_counted(tmp_path: Path, workers: Workers) -> None:
    result = run(tmp_path)
    assert result.dropped == 2
    assert result.corpora == {"corpus": 3}
    assert [row.id for row in result.bundle.accuracy.rows] == ["one", "two", "three"]


def test_outputs_that_are_wrong_as_a_whole_are_counted(tmp_path: Path, workers: Workers) -> None:
    accuracy = run(tmp_path).bundle.accuracy
    assert (accuracy.runaway, accuracy.empty) == (1, 1)
    assert [(row.runaway, row.empty) for row in accuracy.rows] == [(False, False), (True, False), (False, True)]


def test_a_loop_counts_though_the_runtime_cut_it() -> None:
    [utterance] = speech({"one": "some words"})
    texts = [Text("some words", tokens=100, windows=1, hit_length_cap=True, loops=1)]
    accuracy = score([Item(utterance, "some words", "p", 1.0)], texts, normalizer("whisper-basic"), 0)
    assert (accuracy.pooled.wer, accuracy.runaway) == (0, 1)


def test_the_comparison_is_by_utterance_and_speed_by_ratio(tmp_path: Path, workers: Workers) -> None:
    result = run(tmp_path)
    comparison = result.comparison
    assert comparison is not None and comparison.speed is not None
    assert comparison.wer_difference == result.bundle.accuracy.pooled.wer
    assert comparison.interval[0] <= comparison.wer_difference <= comparison.interval[1]
    assert comparison.no_worse_share == comparison.same_text_share == pytest.approx(1 / 3)
    assert comparison.size_ratio == pytest.approx((300 * 4 + 10) / (300 * 32 + 10))
    assert comparison.speed.tokens_per_second == pytest.approx(4.0)


def test_size_counts_data_files_with_their_graph(tmp_path: Path, workers: Workers) -> None:
    size = run(tmp_path).bundle.size
    assert (size.encoder, size.decoder, size.onnx) == (400, 810, 1210)
    assert size.total == sum(path.stat().st_size for path in (tmp_path / "w4").iterdir())


def test_the_result_names_everything_a_number_depends_on(tmp_path: Path, workers: Workers) -> None:
    result = run(tmp_path, threads=1)
    assert result.normalizer.name == "whisper-english"
    assert result.settings.threads == 1
    assert result.settings.accuracy_level == 4
    assert "int8" in result.settings.accuracy_level_note
    assert result.environment.onnxruntime and result.environment.cpu
    assert result.bundle.hash == bundle_hash(read_manifest(tmp_path / "w4"))
    assert any("rough" in note for note in result.notes)
    assert Result.model_validate_json(result.model_dump_json()) == result


def test_an_accuracy_level_below_four_is_not_called_int8(tmp_path: Path, workers: Workers) -> None:
    result = run(tmp_path, accuracy_level=1)
    assert result.settings.accuracy_level == 1
    assert "not int8" in result.settings.accuracy_level_note
    assert {settings.accuracy_level for settings in workers.settings} == {1}


def test_texts_come_from_the_cache_the_second_time_but_speed_never_does(tmp_path: Path, workers: Workers) -> None:
    first = run(tmp_path)
    calls = len(workers.calls)
    second = evaluate(
        tmp_path / "w4",
        tmp_path / "float",
        speech(TEXTS),
        "a test",
        EvaluateOptions(rounds=1, clips=3),
        progress.silent,
    )
    timed = 2 * (3 + 1)
    assert calls == 2 * 3 + timed
    assert len(workers.calls) - calls == timed
    assert second.bundle.accuracy == first.bundle.accuracy


def test_a_model_that_says_nothing_at_all_is_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "Worker", Workers(lambda bundle, seconds: ""))
    result = run(tmp_path)
    assert result.bundle.speed is not None and result.comparison is not None and result.comparison.speed is not None
    assert result.bundle.accuracy.pooled.wer == 1
    assert result.bundle.speed.tokens_per_second is result.bundle.speed.per_token_ms is None
    assert result.comparison.speed.tokens_per_second is None


@pytest.mark.parametrize(
    ("generation", "language", "asked"),
    [({}, "en", {}), ({"lang_to_id": {}}, "en", {"language": "en"}), ({"lang_to_id": {}}, "de", {"language": "de"})],
)
def test_only_multilingual_models_are_asked_for_a_language(
    tmp_path: Path, workers: Workers, generation: dict[str, object], language: str, asked: dict[str, str]
) -> None:
    write_bundle(tmp_path / "w4", files={"generation_config.json": json.dumps(generation).encode()})
    options = EvaluateOptions(language=language, speed=False, cache=False)
    texts = {"one": "Colour television"}
    evaluate(tmp_path / "w4", None, speech(texts), "", options, progress.silent)
    assert workers.options == [asked]


def test_a_bundle_calibrated_on_the_evaluation_speech_is_refused(tmp_path: Path, workers: Workers) -> None:
    utterances = speech(TEXTS)
    write_bundle(tmp_path / "w4", calibrated_on=["other", utterances[1].fingerprint()])
    with pytest.raises(UserError, match=r"two.*calibrated on"):
        evaluate(tmp_path / "w4", None, utterances, "", EvaluateOptions(cache=False), progress.silent)
    assert workers.calls == []


def test_a_damaged_bundle_is_refused_before_any_work(tmp_path: Path, workers: Workers) -> None:
    write_bundle(tmp_path / "w4")
    (tmp_path / "w4" / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config\.json"):
        evaluate(tmp_path / "w4", None, speech(TEXTS), "", EvaluateOptions(cache=False), progress.silent)
    assert workers.calls == []


def test_speech_without_any_text_is_refused(tmp_path: Path, workers: Workers) -> None:
    write_bundle(tmp_path / "w4")
    silent = speech({"four": None, "five": "[noise]"})
    with pytest.raises(UserError, match="none has a reference text"):
        evaluate(tmp_path / "w4", None, silent, "", EvaluateOptions(cache=False), progress.silent)


def test_the_baseline_is_the_newest_float_sibling_of_the_same_weights(tmp_path: Path) -> None:
    write_bundle(tmp_path / "w4")
    write_bundle(tmp_path / "w8", bits=8)
    write_bundle(tmp_path / "half", bits=16)
    write_bundle(tmp_path / "another-model", bits=32, weights="b" * 64, created="2026-01-01T00:00:00+00:00")
    write_bundle(tmp_path / "a-new", bits=32, created="2025-06-01T00:00:00+00:00")
    write_bundle(tmp_path / "b-old", bits=32)
    (tmp_path / "not-a-bundle").mkdir()
    (tmp_path / "file").touch()
    with BundleWriter(tmp_path / "a-new-arranged") as writer:
        later = {"layout": "sherpa-onnx", "targets": {}, "created": "2025-06-01T00:00:01+00:00"}
        writer.commit(read_manifest(tmp_path / "a-new").model_copy(update=later))
    assert find_baseline(tmp_path / "w4") == tmp_path / "a-new"
    assert find_baseline(tmp_path / "a-new") is None


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_what_cannot_be_read_beside_a_bundle_is_no_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    """`lost+found`, another user's folder, a share that is gone."""
    write_bundle(tmp_path / "w4")
    write_bundle(tmp_path / "float", bits=32)
    (tmp_path / "lost+found").mkdir()
    unpatched = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if "lost+found" in path.parts:
            raise error
        return unpatched(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert find_baseline(tmp_path / "w4") == tmp_path / "float"


def test_no_baseline_says_how_to_make_one(tmp_path: Path) -> None:
    write_bundle(tmp_path / "w4")
    with BundleWriter(tmp_path / "unfinished"), pytest.raises(UserError, match="--bits 32"):
        find_baseline(tmp_path / "w4")
