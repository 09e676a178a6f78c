"""Differences, the verdict, and what the tables show; without any model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from edge_asr_deploy.bundle.manifest import Layer
from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.experiments.sweep import plots, tables
from edge_asr_deploy.experiments.sweep.cells import Finding
from edge_asr_deploy.experiments.sweep.grid import Cell, Evaluation
from edge_asr_deploy.experiments.sweep.record import (
    OLDER_RESULTS,
    RESULTS,
    CellState,
    SweepResult,
    read_results,
    records,
    to_lines,
)
from edge_asr_deploy.harness.evaluation.bootstrap import difference_interval
from edge_asr_deploy.harness.evaluation.result import Measured, NormalizerName, Result, Settings, Size
from edge_asr_deploy.harness.evaluation.score import score
from edge_asr_deploy.harness.evaluation.speech import Item
from edge_asr_deploy.harness.evaluation.transcripts import Text
from edge_asr_deploy.harness.inspection.cost import GraphCost, OperatorCost
from edge_asr_deploy.harness.machine.environment import environment
from edge_asr_deploy.recipe.document import parse
from tests.support.fakes import speech

COMMITTED = Path(__file__).parents[2] / "docs" / "results"
WORDS = 4
REFERENCE = " ".join(["right"] * WORDS)


def finding(wrong: list[int], bits: int = 4) -> Finding:
    """A bundle that got so many words of each utterance wrong; 100 weights, 1000 MACs a graph."""
    items = [Item(u, REFERENCE, u.id, 1.0) for u in speech({str(i): REFERENCE for i in range(len(wrong))})]
    texts = [Text(" ".join(["wrong"] * n + ["right"] * (WORDS - n)), 1, 1, False) for n in wrong]
    operator = OperatorCost("MatMul", 1, 1000, 4000)
    layer = Layer(name="fc1", component="encoder", method="rtn", bits=bits, shape=[10, 10], bytes=100 * bits // 8 + 10)
    measured = Measured(
        name="b",
        hash="h",
        recipe="r",
        model="m",
        model_sha256="s",
        size=Size(encoder=1, decoder=2, onnx=3_000_000, other=4),
        accuracy=score(items, texts, normalizer("whisper-basic"), 0),
        speed=None,
    )
    result = Result(
        created="now",
        speech="speech",
        corpora={},
        dropped=0,
        normalizer=NormalizerName(name="n", version="1"),
        settings=Settings(threads=1, accuracy_level=1, accuracy_level_note="as asked", language="en", seed=0),
        environment=environment(),
        bundle=measured,
        baseline=None,
        comparison=None,
        notes=[],
    )
    costs = [GraphCost(what, 100, (operator,)) for what in ("encoder", "first call", "step")]
    return Finding(result=result, costs=costs, layers=[layer], versions={}, quantize_seconds=1.0)


def known(method: str, wrong: list[int] | None, setting: str = "w4", error: str | None = None) -> CellState:
    values = {"model": "tiny", "method": method} | ({} if method == "float" else {"setting": setting})
    cell = Cell(values, parse({"name": "t", "family": "whisper"}, "test"), Evaluation(activation_bits=16))
    return CellState(cell, None, None if wrong is None else finding(wrong, 32 if method == "float" else 4), error)


FEW, MANY = [0, 1] * 20, [2, 3] * 20


def result(*states: CellState) -> SweepResult:
    return SweepResult(
        name="s",
        command="edge-deploy sweep",
        created="now",
        speech="speech",
        normalizer=None,
        reference="rtn",
        axes=["model", "method", "setting"],
        cells=records(states, "rtn"),
    )


def test_differences_are_paired_with_the_baseline_and_with_the_reference_of_the_same_setting() -> None:
    found = result(known("float", FEW), known("rtn", MANY), known("awq", FEW), known("awq", FEW, "w3"))
    by_name = {record.name: record.measured for record in found.cells}
    awq = by_name["tiny/awq/w4"]
    assert awq is not None and awq.rise is not None and awq.against_reference is not None
    assert awq.rise.value == 0 and awq.rise.interval == (0, 0)
    assert awq.against_reference.value == pytest.approx(-0.5)
    expected = difference_interval(FEW, MANY, [WORDS] * len(FEW))
    assert awq.against_reference.interval == pytest.approx(expected)
    assert by_name["tiny/awq/w3"].against_reference is None  # type: ignore[union-attr]


def test_the_verdict_names_who_is_worse_by_more_than_noise() -> None:
    noisy = [*MANY[1:], MANY[0] + 1]
    assert "No cell of 1 is worse" in tables.verdict(result(known("rtn", MANY), known("awq", noisy)))
    said = tables.verdict(result(known("rtn", FEW), known("awq", MANY), known("gptq", FEW)))
    assert said == "Worse by more than noise (95 % paired bootstrap), 1 of 2: tiny/awq/w4."
    assert "Nothing to compare" in tables.verdict(result(known("rtn", FEW)))


def test_a_table_shows_values_intervals_and_what_is_missing() -> None:
    found = result(
        known("float", FEW),
        known("rtn", MANY),
        known("rtn", None, "w3", error="ValueError: x"),
        known("awq", None),
    )
    by_name = tables.files(found)
    assert "| tiny | rtn | 12.50 | 62.50 | failed |" in by_name["wer.md"]
    assert "| tiny | awq | 12.50 | pending |  |" in by_name["wer.md"]
    assert "+50.00 (+50.00 to +50.00)" in by_name["rise.md"]
    assert "w4: accuracy level 1, as asked" in by_name["wer.md"]
    assert {Path(name).suffix for name in by_name} == {".md"}
    # Nothing is compared with rtn yet, so there is no such table.
    assert "against-rtn.md" not in by_name
    assert "`tiny/rtn/w3`: ValueError: x" in tables.summary(found)


def test_results_are_a_line_for_each_cell_and_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_results(tmp_path) is None
    found = result(known("float", FEW), known("rtn", MANY), known("awq", None, error="ValueError: a\u2028line"))
    # As one document, which earlier versions wrote.
    (tmp_path / OLDER_RESULTS).write_text(found.model_dump_json(indent=1))
    assert read_results(tmp_path) == found
    newer = found.model_copy(update={"created": "later"})
    (tmp_path / RESULTS).write_text(to_lines(newer))
    assert read_results(tmp_path) == newer
    head, *cells = (json.loads(line) for line in to_lines(newer).removesuffix("\n").split("\n"))
    assert head["created"] == "later" and "cells" not in head
    assert [cell["name"] for cell in cells] == ["tiny/float", "tiny/rtn/w4", "tiny/awq/w4"]


@pytest.mark.parametrize("text", ["", "{", "[]\n", '{"name": "s"}\n'])
def test_a_file_of_other_content_is_no_result(tmp_path: Path, text: str) -> None:
    (tmp_path / RESULTS).write_text(text)
    with pytest.raises(ValueError):
        read_results(tmp_path)


def test_the_papers_figures_follow_its_formulas() -> None:
    found = result(known("float", FEW), known("rtn", MANY)).cells[1].measured
    assert found is not None
    # 100 weights of 4 bits; two graphs of 1000 elements and 1000 MACs each.
    assert found.paper.size == 50
    assert found.paper.memory_io == 50 + 2000 * 16 / 8
    assert found.paper.bops == 2000 * 4 * 16
    assert found.paper.relative_bops == 4 * 16 / 1024
    assert found.effective_bits == found.effective_bits_blocks == pytest.approx(8 * 60 / 100)


def test_the_best_of_each_setting_is_named() -> None:
    found = result(known("float", FEW), known("rtn", MANY), known("awq", FEW), known("rtn", FEW, "w3"))
    assert [record.name for record in tables.best(found)] == ["tiny/awq/w4", "tiny/rtn/w3"]


def test_plots_are_pictures_and_need_a_cell(tmp_path: Path) -> None:
    assert plots.draw(result(known("float", FEW))) == {}
    drawn = plots.draw(result(known("float", FEW), known("rtn", MANY)))
    assert len(drawn) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())


def test_intervals_of_many_pairs_are_those_of_each() -> None:
    from edge_asr_deploy.harness.evaluation.bootstrap import difference_intervals

    generator = np.random.default_rng(1)
    words = generator.integers(1, 20, 30).tolist()
    extra = generator.integers(-3, 4, (3, 30))
    together = difference_intervals(extra, words, resamples=200)
    alone = [difference_interval(row.tolist(), np.zeros(30, np.int64), words, resamples=200) for row in extra]
    np.testing.assert_allclose(together, alone)


@pytest.mark.parametrize("folder", sorted(COMMITTED.iterdir()), ids=lambda folder: folder.name)
def test_committed_tables_are_those_of_the_committed_results(folder: Path) -> None:
    found = read_results(folder)
    assert found is not None
    assert {path.name: path.read_text() for path in (folder / "tables").iterdir()} == tables.files(found)
    assert (folder / "README.md").read_text() == tables.summary(found)
