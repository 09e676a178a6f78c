"""Candidates scored on onnxruntime, and the walk to the smallest that is good enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("optimum.exporters.onnx")

from edge_asr_deploy import pipeline
from edge_asr_deploy.corpora.defaults import calibration_corpus
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.mixed import walk
from edge_asr_deploy.experiments.mixed.walk import Scorer, held_out, smallest_within
from edge_asr_deploy.export_options import ExportOptions
from edge_asr_deploy.pipeline import TooCoarse
from edge_asr_deploy.recipe.document import Recipe, parse
from tests.support.export_command import RECIPE


def recipe(speech: Path, number: int = 2) -> Recipe:
    return parse({**RECIPE, "calibration": {"corpus": str(speech), "number": number}}, "test")


def test_what_calibrates_does_not_score(speech: Path) -> None:
    used = held_out(recipe(speech), 5)
    drawn, _ = calibration_corpus(str(speech), 2, 0, None)
    assert len(used) == 1 and used[0].id not in {utterance.id for utterance in drawn}
    with pytest.raises(UserError, match="all of it calibrates; give --data"):
        held_out(recipe(speech, 3), 5)


def test_a_candidate_is_exported_and_compared_with_the_float_bundles_text(
    checkpoint: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("edge_asr_deploy.corpora.defaults.evaluation_corpus", lambda: ([], ""))
    monkeypatch.setattr(pipeline, "_check_speech", lambda *args: {"noise": "words"})
    request = ExportOptions(model=str(checkpoint), calibration=str(speech))
    chosen = recipe(speech)

    def scorer() -> Scorer:
        scoring = Scorer(request, chosen, (), 5, tmp_path / "aside", Console(quiet=True))
        scoring.prepare()
        return scoring

    first = scorer()
    assert len(first.utterances) == 1 and first.utterances[0].text
    found = first.score(chosen)
    assert found.size > 200_000 and found.rise is not None and found.rise >= 0
    assert sorted(path.name for path in (tmp_path / "aside").iterdir() if path.is_dir()) == ["float"]

    def refuse(*args: Any) -> Any:
        raise TooCoarse("export", "noise", "became '': this recipe is too coarse; use more bits")

    monkeypatch.setattr(walk, "export", refuse)
    assert scorer().score(chosen) == found, "after a kill nothing is exported again"
    assert scorer().score(chosen.model_copy(update={"name": "coarser"})).rise is None


def test_references_are_used_where_there_are_some(speech: Path, tmp_path: Path) -> None:
    scoring = Scorer(ExportOptions(), recipe(speech), (speech,), 5, tmp_path, Console(quiet=True))
    assert [u.text for u in scoring.utterances] == [u.text for u in read_manifest(speech)]
    assert "own text" not in scoring.speech


def test_bisection_finds_the_first_within() -> None:
    for number in range(1, 9):
        for first in range(number + 1):
            asked: list[int] = []

            def rise(index: int, first: int = first, asked: list[int] = asked) -> float | None:
                asked.append(index)
                return None if index < first // 2 else (0.1 if index >= first else 9.0)

            assert smallest_within(number, rise, 0.5) == (first if first < number else None)
            assert len(asked) <= 4
