"""The second score: the leaderboard's text rules, and words that are written together or apart are no errors."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_asr_deploy.bundle.manifest import CARD
from edge_asr_deploy.cli import app
from edge_asr_deploy.corpora import leaderboard as rules
from edge_asr_deploy.corpora.leaderboard import leaderboard_normalizer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation import evaluate, leaderboard
from edge_asr_deploy.harness.evaluation.leaderboard import count, require_scorer, with_leaderboard
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.evaluation.wer import WordCounts
from edge_asr_deploy.harness.reporting.tables import evaluation_table
from tests.support.results import make_result
from tests.support.tables import shown

needs_extra = pytest.mark.skipif(
    find_spec("kaldialign") is None or find_spec("num2words") is None,
    reason="the extra is not installed: pip install edge-asr-deploy[leaderboard]",
)


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """The float bundle is right; w4 writes one word as two, which the leaderboard forgives, and another wrongly."""
    heard = {"short": "open the do or", "long": "and then she was gone"}
    return make_result(tmp_path, monkeypatch, heard)


@needs_extra
@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a white paper", "a whitepaper", WordCounts(0, 0, 0, 3)),
        ("a whitepaper", "a white paper", WordCounts(0, 0, 0, 2)),
        ("the cat sat", "the dog", WordCounts(1, 1, 0, 3)),
        ("the cat", "the cat sat", WordCounts(0, 0, 1, 2)),
        ("uh", "no", WordCounts()),
        ("the cat", "", WordCounts(0, 2, 0, 2)),
    ],
)
def test_errors(reference: str, hypothesis: str, expected: WordCounts) -> None:
    assert count(reference, hypothesis, leaderboard_normalizer("en")) == expected


@needs_extra
def test_other_languages_join_words_before_they_are_counted() -> None:
    assert count("ein white paper", "ein whitepaper", leaderboard_normalizer("de")) == WordCounts(0, 0, 0, 2)


@needs_extra
def test_a_result_carries_both_scores_named_and_versioned(result: Result) -> None:
    both = with_leaderboard(result)
    score = both.bundle.accuracy.leaderboard
    assert score is not None and score.pooled is not None
    # 14 words; "do or" is a substitution and an insertion for jiwer, and nothing for kaldialign.
    assert 14 * result.bundle.accuracy.pooled.wer == pytest.approx(3)
    assert 14 * score.pooled.wer == pytest.approx(1)
    assert score.name == "open-asr-en"
    assert "kaldialign" in score.version and "whisper-normalizer" in score.version
    assert score.by_corpus["desk"].wer == 0 and score.by_corpus["street"].wer == 0.2
    assert score.mean_of_corpora == pytest.approx(0.1)
    assert both.baseline is not None and both.baseline.accuracy.leaderboard is not None
    assert both.comparison is not None and both.comparison.leaderboard is not None
    difference = both.comparison.leaderboard
    assert difference.wer_difference == pytest.approx(1 / 14)
    assert difference.interval[0] <= difference.wer_difference <= difference.interval[1]
    assert both.bundle.accuracy.pooled == result.bundle.accuracy.pooled
    assert Result.model_validate_json(both.model_dump_json()) == both
    assert with_leaderboard(both) == both


@needs_extra
def test_a_bundle_alone_is_scored_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = with_leaderboard(make_result(tmp_path, monkeypatch, baseline=False))
    assert alone.bundle.accuracy.leaderboard is not None
    assert alone.comparison is None


@needs_extra
def test_characters_have_no_second_score(result: Result) -> None:
    accuracy = result.bundle.accuracy.model_copy(update={"rate": "CER"})
    by_characters = result.model_copy(update={"bundle": result.bundle.model_copy(update={"accuracy": accuracy})})
    same = with_leaderboard(by_characters)
    assert same.bundle.accuracy.leaderboard is None
    assert "no second score" in same.notes[-1]


@needs_extra
def test_references_of_fillers_are_not_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_result(tmp_path, monkeypatch)
    rows = [row.model_copy(update={"reference": "uh huh"}) for row in made.bundle.accuracy.rows]
    accuracy = made.bundle.accuracy.model_copy(update={"rows": rows})
    bundle = made.bundle.model_copy(update={"accuracy": accuracy})
    score = with_leaderboard(made.model_copy(update={"bundle": bundle})).bundle.accuracy.leaderboard
    assert score is not None and (score.pooled, score.by_corpus, score.mean_of_corpora) == (None, {}, None)


@needs_extra
def test_summary_report_and_card_show_it(tmp_path: Path, result: Result) -> None:
    path, page = tmp_path / "result.json", tmp_path / "report.html"
    path.write_text(result.model_dump_json())
    plain, both = (CliRunner().invoke(app, ["summary", str(path), *more]).stdout for more in ([], ["--leaderboard"]))
    assert "leaderboard" not in plain
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in both.splitlines()]
    assert rows[0][-2:] == ["leaderboard WER %", "rise (95 % interval)"]
    assert rows[2][-2:] == ["0.00", ""] and rows[3][-2] == "7.14" and rows[3][-1].startswith("+7.14 (")
    assert len({len(row) for row in rows}) == 1
    pytest.importorskip("jinja2", reason="the extra is not installed: pip install edge-asr-deploy[report]")
    ran = CliRunner().invoke(app, ["report", str(path), "--output", str(page), "--leaderboard"])
    assert ran.exit_code == 0, ran.output
    assert "Counted as the Open ASR leaderboard does" in page.read_text() and "7.14 %" in page.read_text()
    path.write_text(with_leaderboard(result).model_dump_json())
    assert CliRunner().invoke(app, ["card", str(tmp_path / "w4"), str(path)]).exit_code == 0
    assert "WER 7.14 %, float 0.00 %" in (tmp_path / "w4" / CARD).read_text()


@needs_extra
def test_the_table_shows_it(result: Result) -> None:
    text = shown([evaluation_table(with_leaderboard(result))], 120)
    assert "leaderboard WER %" in text and "+7.14" in text


def test_a_missing_package_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaderboard, "find_spec", lambda name: None)
    monkeypatch.setattr(evaluate, "baseline_folder", lambda *_: pytest.fail("work began"))
    with pytest.raises(UserError, match=r"kaldialign.*pip install") as caught:
        evaluate.run(tmp_path / "w4", EvaluateOptions(leaderboard=True))
    assert "\n" not in str(caught.value)


def test_num2words_is_needed_for_other_languages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaderboard, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "num2words", None)
    rules.leaderboard_normalizer.cache_clear()
    assert require_scorer("english").name == "open-asr-en"
    with pytest.raises(UserError, match=r"num2words.*pip install"):
        require_scorer("german")
