"""`edge-deploy fit` and `analyze` as a user calls them, on a small random Whisper in a Transformers folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

pytest.importorskip("optimum.exporters.onnx")
pytest.importorskip("matplotlib")

from edge_asr_deploy import pipeline
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.cli import app
from edge_asr_deploy.experiments.analysis.sensitivity import Probe
from edge_asr_deploy.experiments.mixed.walk import Score, Scorer
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.recipe.document import Recipe, parse
from edge_asr_deploy.recipe.files import for_bits, load_document
from tests.support.export_command import RECIPE, user_error

EXPERIMENTS = "edge_asr_deploy.experiments"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one test measured, the next one knows."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(checkpoint: Path, speech: Path, tmp_path: Path, cache: Path, monkeypatch: Any) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_ASR_CACHE", str(cache))
    monkeypatch.setattr("edge_asr_deploy.corpora.defaults.evaluation_corpus", lambda: ([], ""))
    monkeypatch.setattr(pipeline, "_check_speech", lambda *args: {"noise": "words"})
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))

    def invoke(command: str, *more: str, given: str = "recipe.yaml") -> Result:
        common = ["--model", str(checkpoint), "--calibration", str(speech), "--recipe", given]
        return CliRunner().invoke(app, [command, *common, *more])

    return invoke


@pytest.fixture
def fit(run: Callable[..., Result]) -> Callable[..., Result]:
    return lambda *more: run("fit", "--clips", "2", "--bits-choices", "3,4,5,8", "--output", "fit.yaml", *more)


def test_a_budget_becomes_a_recipe_that_keeps_it(fit: Callable[..., Result], run: Callable[..., Result]) -> None:
    ran = fit("--max-mb", "0.25", "--json")
    assert ran.exit_code == 0, ran.output
    result = json.loads(ran.stdout)
    assert result["smallest"] < result["size"] <= 250_000
    assert len(set(result["bits"].values())) > 1, "a budget between uniform widths mixes them"
    sizes, costs = ([point[key] for point in result["front"]] for key in ("size", "divergence"))
    assert sizes == sorted(sizes) and costs == sorted(costs, reverse=True) and len(sizes) > 5
    assert json.loads(Path("fit.fit/front.json").read_text()) == result
    assert Path("fit.fit/front.png").read_bytes().startswith(b"\x89PNG")
    chosen = parse(load_document(Path("fit.yaml")), "fit.yaml")
    assert chosen.name == "fit" and chosen.component("encoder").quantizer.method == "gptq"

    assert run("export", "--output", "out", given="fit.yaml").exit_code == 0
    manifest = verify(Path("out"))
    assert {layer.name: layer.bits for layer in manifest.layers if layer.component != "stem"} == result["bits"]
    assert abs(size_of(Path("out")).onnx - result["size"]) < 0.005 * result["size"]
    assert manifest.metrics["agreement_with_pytorch"]["tokens"] == 1


def test_the_shipped_recipe_can_be_fitted(fit: Callable[..., Result], run: Callable[..., Result]) -> None:
    """It multiplies integers, and its matrices have scales in two levels."""
    Path("recipe.yaml").write_text(json.dumps({**for_bits("whisper", 4), "calibration": {"number": 2}}))
    ran = fit("--max-mb", "0.4", "--json")
    assert ran.exit_code == 0, ran.output
    result = json.loads(ran.stdout)
    ran = run("export", "--output", "out", given="fit.yaml")
    assert ran.exit_code == 0, ran.output
    # Not counted are the operators of the head's first look, some 1 kB whatever the model's size, and biases: a random
    # model's are all zero and stored once, until QEP moves them.
    assert abs(size_of(Path("out")).onnx - result["size"]) < 0.015 * result["size"]


def test_a_budget_that_cannot_be_met_says_the_smallest(fit: Callable[..., Result], monkeypatch: Any) -> None:
    monkeypatch.setattr(Probe, "__init__", lambda *args, **kwargs: pytest.fail("measured in vain"))
    message = user_error(fit("--max-mb", "0.1"))
    assert message.startswith("--max-mb: 0.1: the smallest possible with these widths is 0.25 MB")
    assert not Path("fit.yaml").exists()


def test_the_size_that_it_names_can_be_met(fit: Callable[..., Result]) -> None:
    smallest = user_error(fit("--max-mb", "0.1")).split("widths is ")[1].split(" ")[0]
    assert fit("--max-mb", smallest).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "fit: the goal: give one of --max-mb and --max-wer-rise"),
        (["--max-mb", "1", "--max-wer-rise", "1"], "give one of"),
        (["--max-wer-rise", "1", "--trials", "3"], "--trials: 3: goes with --max-mb only"),
        (["--max-wer-rise", "1", "--rule", "myqasr"], "--rule: myqasr: goes with --max-mb only"),
        (["--max-mb", "1", "--bits-choices", "3,9"], "--bits-choices: 9: choose from 2 to 8"),
        (["--max-mb", "1", "--bits-choices", "3,x"], "--bits-choices: 3,x: write numbers"),
        (["--max-mb", "1", "--output", "fit.txt"], "--output: fit.txt: name a .yaml file"),
        (["--max-mb", "1", "--output", "no/fit.yaml"], "--output: no/fit.yaml: its folder does not exist"),
        (["--max-mb", "1", "--output", "recipe.yaml"], "--output: recipe.yaml: exists already; add --overwrite"),
        (["--max-mb", "1", "--target", "moon"], "recipe --target: target 'moon'"),
        (["--max-mb", "1", "--trials", "1", "--clips", "1"], "--clips: 1: the search calibrates on one half"),
    ],
)
def test_bad_input_is_one_line(fit: Callable[..., Result], options: list[str], message: str) -> None:
    assert message in user_error(fit(*options))


def test_a_recipe_without_integers_has_nothing_to_choose(fit: Callable[..., Result]) -> None:
    wide = {"weights": {"bits": 16, "granularity": "channel"}}
    parts = dict.fromkeys(("encoder", "cross_attention", "decoder", "embedding"), wide)
    Path("recipe.yaml").write_text(json.dumps({"name": "wide", "family": "whisper", **parts}))
    assert "recipe: wide: makes no integer codes" in user_error(fit("--max-mb", "1"))


def test_a_second_budget_measures_nothing_again(fit: Callable[..., Result], monkeypatch: Any) -> None:
    assert fit("--max-mb", "0.25").exit_code == 0
    first = Path("fit.yaml").read_text()
    monkeypatch.setattr(Probe, "divergence", lambda *args: pytest.fail("measured again"))
    monkeypatch.setattr(f"{EXPERIMENTS}.mixed.fit.measure_rest", lambda *args: pytest.fail("exported again"))
    assert fit("--max-mb", "0.25", "--overwrite").exit_code == 0
    assert Path("fit.yaml").read_text() == first
    assert fit("--max-mb", "0.26", "--overwrite").exit_code == 0
    assert Path("fit.yaml").read_text() != first


@pytest.mark.parametrize("options", [["--rule", "myqasr"], ["--proxy", "fisher"]])
def test_the_baselines_keep_the_budget_too(fit: Callable[..., Result], options: list[str]) -> None:
    ran = fit("--max-mb", "0.25", "--json", *options)
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["size"] <= 250_000


def test_the_joint_search_goes_on_where_it_was_killed(fit: Callable[..., Result], monkeypatch: Any) -> None:
    pytest.importorskip("optuna")
    from edge_asr_deploy.experiments.mixed import search

    quantize, calls = search.quantize, []

    def counted(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return quantize(*args)

    monkeypatch.setattr(search, "quantize", counted)
    wanted = ["--max-mb", "0.25", "--trials", "4", "--json"]
    assert fit(*wanted).exit_code != 0 and not Path("fit.yaml").exists()
    ran = fit(*wanted)
    assert ran.exit_code == 0, ran.output
    assert len(calls) == 3 + 2, "two of four trials were there already"
    result = json.loads(ran.stdout)
    assert result["searched"]["trials"] == 4 and result["size"] <= 250_000
    # The first trial is the recipe as given, by the knapsack's own bits: the best one is no worse.
    assert parse(load_document(Path("fit.yaml")), "fit.yaml").name == "fit"


def test_a_rise_in_wer_is_walked_to_on_onnxruntime(fit: Callable[..., Result], monkeypatch: Any) -> None:
    """Rises that fall with size, from a scorer that only counts bits: the real one has a test of its own."""
    asked: list[Recipe] = []

    def score(self: Scorer, recipe: Recipe) -> Score:
        asked.append(recipe)
        bits = sum(layer.bits or 0 for layer in recipe.layers.values()) + recipe.component("decoder").bits
        return Score(bits, 100.0 / bits)

    monkeypatch.setattr(Scorer, "prepare", lambda self: None)
    monkeypatch.setattr(Scorer, "score", score)
    monkeypatch.setattr("edge_asr_deploy.experiments.mixed.walk.held_out", lambda *args: [])
    ran = fit("--max-wer-rise", "99", "--json")
    assert ran.exit_code == 0, ran.output
    result = json.loads(ran.stdout)
    assert "held-out calibration clips, against the float bundle's own text" in result["judged_on"]
    assert result["rise"] <= 99 and len(asked) <= 5
    assert any(point["rise"] is not None for point in result["front"])
    message = user_error(fit("--max-wer-rise", "0", "--overwrite"))
    assert message.startswith("--max-wer-rise: 0: the least measured is +") and "allow more" in message


def test_analyze_writes_tables_and_plots(run: Callable[..., Result]) -> None:
    ran = run("analyze", "--clips", "2", "--bits-choices", "2,3,8", "--fisher", "--output", "looked", "--json")
    assert ran.exit_code == 0, ran.output
    result = json.loads(ran.stdout)
    assert result == json.loads(Path("looked/analysis.json").read_text())
    assert len(result["statistics"]) == len(result["sensitivity"]) == len(result["fisher"]) == 33
    assert all(costs["2"] > costs["8"] for costs in result["sensitivity"].values())
    assert sorted(os.listdir("looked")) == ["analysis.json", "sensitivity.png", "statistics.png"]
    assert result["words"] is None
    shown = run("analyze", "--clips", "2", "--bits-choices", "2,3,8").stdout
    assert "kurtosis" in shown and "8 bits" in shown
    assert "--bits-choices: 1: choose from 2 to 8" in user_error(run("analyze", "--bits-choices", "1"))


def test_analyze_says_which_matrices_change_words(run: Callable[..., Result], monkeypatch: Any) -> None:
    wanted = ["--clips", "2", "--bits-choices", "2,8", "--words"]
    ran = run("analyze", *wanted, "--json")
    assert ran.exit_code == 0, ran.output
    words = json.loads(ran.stdout)["words"]
    assert len(words) == 33 and all(set(widths) == {"2"} for widths in words.values()), "8 bits change none"
    assert max(widths["2"] for widths in words.values()) > 0
    monkeypatch.setattr(f"{EXPERIMENTS}.analysis.words.transcribe", lambda *args: pytest.fail("measured again"))
    assert "WER %" in run("analyze", *wanted).stdout


def test_the_recipe_is_yaml_a_person_can_read(fit: Callable[..., Result]) -> None:
    assert fit("--max-mb", "0.25").exit_code == 0
    text = Path("fit.yaml").read_text()
    assert text.startswith("# Written by `edge-deploy fit`: 0.2")
    document = yaml.safe_load(text)
    assert document["calibration"]["number"] == 2 and set(document["layers"].popitem()[1]) == {"bits"}
