"""`edge-deploy evaluate` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation import measure
from edge_asr_deploy.harness.evaluation.evaluate import language_options
from edge_asr_deploy.harness.evaluation.result import Result
from tests.support.fakes import Workers, speech, write_bundle


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A w4 bundle, its float baseline and a manifest of two clips; the w4 bundle mishears the second."""
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "cache"))
    hears = Workers(lambda name, seconds: "wrong word" if name == "w4" and seconds > 1 else "right word")
    monkeypatch.setattr(measure, "Worker", hears)
    write_bundle(tmp_path / "w4")
    write_bundle(tmp_path / "float", bits=32)
    rows = []
    for utterance in speech({"one": "right word", "two": "right word"}):
        soundfile.write(tmp_path / f"{utterance.id}.wav", utterance.samples() * 0.1, 16_000)
        row = {"id": utterance.id, "audio": f"{utterance.id}.wav", "text": utterance.text, "source": "test"}
        rows.append(json.dumps(row))
    (tmp_path / "speech.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    return ["evaluate", str(folder / "w4"), "--data", str(folder / "speech.jsonl"), *more]


def test_a_person_sees_both_bundles_and_their_difference(folder: Path) -> None:
    ran = CliRunner().invoke(app, arguments(folder), env={"COLUMNS": "200"})
    assert ran.exit_code == 0, ran.output
    for shown in ("float", "w4", "WER %", "+25.00", "+0.00 to +50.00", "50.0%", "test (2)", "tokens per second"):
        assert shown in ran.stdout
    assert "speech.jsonl" in ran.stderr
    assert "rough" in ran.stderr


def test_a_machine_gets_json_and_a_file_holds_the_same(folder: Path) -> None:
    ran = CliRunner().invoke(app, arguments(folder, "--json", "--output", str(folder / "result.json")))
    result = Result.model_validate_json(ran.stdout)
    assert result.comparison is not None
    assert result.comparison.wer_difference == 0.25
    assert Result.model_validate_json((folder / "result.json").read_text()) == result


def test_the_float_bundle_is_measured_alone(folder: Path) -> None:
    run = ["evaluate", str(folder / "float"), "--data", str(folder / "speech.jsonl"), "--json"]
    result = Result.model_validate_json(CliRunner().invoke(app, run).stdout)
    assert result.baseline is result.comparison is None
    table = CliRunner().invoke(app, run[:-1])
    assert table.exit_code == 0, table.output


def test_speed_can_be_left_out(folder: Path) -> None:
    ran = CliRunner().invoke(app, arguments(folder, "--no-speed", "--json"))
    result = Result.model_validate_json(ran.stdout)
    assert result.bundle.speed is None
    assert CliRunner().invoke(app, arguments(folder, "--no-speed")).exit_code == 0


def test_manifests_may_follow_each_other(folder: Path) -> None:
    other = (folder / "speech.jsonl").read_text().replace('"source": "test"', '"source": "other"')
    (folder / "other.jsonl").write_text(other)
    ran = CliRunner().invoke(app, arguments(folder, str(folder / "other.jsonl"), "--json"))
    assert Result.model_validate_json(ran.stdout).corpora == {"test": 2, "other": 2}


def test_the_mean_of_the_corpora_weighs_them_alike(folder: Path) -> None:
    """As the Open ASR leaderboard averages; the pooled figure weighs words alike."""
    alone = Result.model_validate_json(CliRunner().invoke(app, arguments(folder, "--json")).stdout)
    assert alone.bundle.accuracy.mean_of_corpora is None
    row = (folder / "speech.jsonl").read_text().splitlines()[0].replace('"source": "test"', '"source": "easy"')
    (folder / "easy.jsonl").write_text(row)
    more = arguments(folder, str(folder / "easy.jsonl"))
    both = Result.model_validate_json(CliRunner().invoke(app, [*more, "--json"]).stdout)
    assert both.bundle.accuracy.mean_of_corpora == (0.25 + 0) / 2
    assert both.bundle.accuracy.pooled.wer == 1 / 6
    ran = CliRunner().invoke(app, more, env={"COLUMNS": "200"})
    assert "mean of 2 corpora" in ran.stdout and "12.50" in ran.stdout


def test_the_result_says_which_command_made_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/edge-deploy", "evaluate", "my bundle"])
    result = Result.model_validate_json(CliRunner().invoke(app, arguments(folder, "--json")).stdout)
    assert result.command == "edge-deploy evaluate 'my bundle'"


def test_a_limit_takes_fewer(folder: Path) -> None:
    ran = CliRunner().invoke(app, arguments(folder, "--limit", "1", "--json"))
    assert Result.model_validate_json(ran.stdout).corpora == {"test": 1}


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--baseline", "absent"], "absent"),
        (["--data", "absent.jsonl"], r"absent\.jsonl"),
        (["--data", "open-asr:amy"], "open-asr:amy: no such set; choose one of ami, "),
        (["--output", "absent/result.json"], "its folder does not exist"),
        (["--output", "."], "is a folder"),
    ],
)
def test_bad_input_is_named(folder: Path, more: list[str], named: str) -> None:
    ran = CliRunner().invoke(app, arguments(folder, *more))
    assert isinstance(ran.exception, UserError)
    assert ran.exception.args[0].count("\n") == 0
    with pytest.raises(UserError, match=named):
        raise ran.exception


@pytest.mark.parametrize("more", [["--threads", "0"], ["--accuracy-level", "5"], ["--limit", "0"]])
def test_numbers_that_cannot_be_are_usage_errors(folder: Path, more: list[str]) -> None:
    assert CliRunner().invoke(app, arguments(folder, *more)).exit_code == 2


def test_an_output_that_is_a_folder_is_refused_before_any_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(lambda name, seconds: "right word")
    monkeypatch.setattr(measure, "Worker", workers)
    for command in ("evaluate", "bench"):
        ran = CliRunner().invoke(app, [command, *arguments(folder, "--output", str(folder))[1:]])
        assert isinstance(ran.exception, UserError) and "is a folder" in str(ran.exception)
    assert not workers.opened


def with_rows(folder: Path, *rows: dict[str, object]) -> list[str]:
    """Arguments for the two good clips and these."""
    lines = (folder / "speech.jsonl").read_text() + "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "more.jsonl").write_text(lines)
    return ["evaluate", str(folder / "w4"), "--data", str(folder / "more.jsonl")]


def test_utterances_without_a_reference_are_counted_where_people_look(folder: Path) -> None:
    rows = [{"id": text, "audio": "one.wav", "text": text} for text in ("", "[noise]")]
    ran = CliRunner().invoke(app, with_rows(folder, *rows), env={"COLUMNS": "200"})
    assert ran.exit_code == 0, ran.output
    assert "Note: 2 of 4 utterances have no reference text and are left out." in ran.stderr
    assert "WER %, 2 utterances" in ran.stdout and "left out: no text" in ran.stdout


BAD = [
    {"id": "gone", "audio": "gone.wav", "text": "right word"},
    {"id": "empty", "audio": "empty.wav", "text": "right word"},
    {"id": "text", "audio": "more.jsonl", "text": "right word"},
]


def test_clips_that_cannot_be_read_may_be_left_out_and_are_counted(folder: Path) -> None:
    (folder / "empty.wav").touch()
    command = with_rows(folder, *BAD)
    assert isinstance(CliRunner().invoke(app, command).exception, UserError), "unless asked, one ends all"
    ran = CliRunner().invoke(app, [*command, "--skip-unreadable", "--json"])
    assert ran.exit_code == 0, ran.output
    result = Result.model_validate_json(ran.stdout)
    assert [clip.id for clip in result.unreadable] == ["gone", "empty", "text"]
    assert "no such file" in result.unreadable[0].reason and "0 bytes" in result.unreadable[1].reason
    assert (result.corpora, result.dropped) == ({"test": 2}, 0)
    ran = CliRunner().invoke(app, [*command, "--skip-unreadable"], env={"COLUMNS": "200"})
    assert "3 of 5 clips cannot be read and are left out; the first: audio: " in ran.stderr.replace("\n", " ")
    assert "left out: unreadable" in ran.stdout


def test_where_nothing_can_be_read_there_is_no_result(folder: Path) -> None:
    (folder / "bad.jsonl").write_text(json.dumps(BAD[0]) + "\n")
    command = ["evaluate", str(folder / "w4"), "--data", str(folder / "bad.jsonl"), "--skip-unreadable"]
    ran = CliRunner().invoke(app, command)
    assert isinstance(ran.exception, UserError) and "none can be used" in str(ran.exception)


def test_characters_are_counted_where_words_have_no_spaces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "Worker", Workers(lambda name, seconds: "今日は学校に行きました"))
    (folder / "ja.jsonl").write_text(json.dumps({"audio": "one.wav", "text": "今日は学校に行きます。"}) + "\n")
    write_bundle(folder / "multi" / "w4", files={"generation_config.json": b'{"lang_to_id": {}}'})
    for language in ("ja", "ja-JP", "en"):
        command = ["evaluate", str(folder / "multi" / "w4"), "--baseline", "none", "--data", str(folder / "ja.jsonl")]
        command += ["--language", language, "--no-speed"]
        result = Result.model_validate_json(CliRunner().invoke(app, [*command, "--json"]).stdout)
        assert (result.rate, result.bundle.accuracy.rate, result.normalizer.name) == (
            "CER",
            "CER",
            "whisper-characters",
        )
        assert (result.bundle.accuracy.pooled.wer, result.bundle.accuracy.pooled.words) == (0.2, 10)
        ran = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
        assert "CER %, 1 utterance " in ran.stdout and "WER" not in ran.stdout
        assert ("check --language" in ran.stderr) == (language == "en")


def test_a_moonshine_is_never_asked_for_a_language(folder: Path) -> None:
    """It has one, does not say which, and refuses to be told."""
    write_bundle(folder / "ja" / "w4", files={"config.json": b'{"model_type": "moonshine"}'})
    assert language_options(folder / "ja" / "w4", "ja") == {}
    assert language_options(folder / "w4", "ja") == {"language": "ja"}
    assert language_options(folder / "w4", "en-US") == {}
