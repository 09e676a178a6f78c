"""`edge-deploy bench` on boards: the times are the board's, the audio is the one that would be timed here."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from typer.testing import CliRunner

from edge_asr_deploy.boards import benchmark as module
from edge_asr_deploy.boards.benchmark import lengths_as_corpus
from edge_asr_deploy.boards.remote import Answer
from edge_asr_deploy.boards.results import results_of
from edge_asr_deploy.boards.speech import MANIFEST, write_corpus
from edge_asr_deploy.bundle.manifest import bundle_hash, read_manifest
from edge_asr_deploy.cli import app
from edge_asr_deploy.corpora import manifest
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.harness.benchmark.fixed_lengths import fixed_lengths
from edge_asr_deploy.harness.benchmark.result import Benchmark
from tests.support.loopback import Loopback, files_there


def command(bundle: Path, folder: Path, *more: str) -> list[str]:
    audio = ["--data", str(folder / "noise.jsonl"), "--lengths", "0.5,2.5", "--rounds", "1", "--threads", "1"]
    return ["bench", str(bundle), *audio, *more]


def test_two_boards_at_once(
    prepared: Loopback, there: Path, there_too: Path, bundle: Path, clips: list[Path], tmp_path: Path
) -> None:
    boards, output = (prepared.address, prepared.second), tmp_path / "bench.json"
    more = [word for board in boards for word in ("--on", board)]
    ran = CliRunner().invoke(app, [*command(bundle, tmp_path), "--json", "--output", str(output), *more])
    assert ran.exit_code == 0, ran.output
    answered = json.loads(ran.stdout)
    assert list(answered) == list(boards)
    for board, cache in zip(boards, (there, there_too), strict=True):
        found = Benchmark.model_validate(answered[board])
        assert Benchmark.model_validate_json((tmp_path / f"bench.{board}.json").read_text()) == found
        assert found.bundle.hash == bundle_hash(read_manifest(bundle))
        assert [row.name for row in found.runs[0].bundle.by_length] == ["0.5 s", "2.5 s"]
        assert found.runs[0].bundle.by_length[0].total_ms.p50 > 0
        assert [[piece.source for piece in clip.pieces] for clip in found.audio] == [["noise"], ["noise"] * 3]
        left = files_there(cache)
        assert {name.split("/")[0] for name in left} >= {"files", "packages"}
        assert not any("jobs" in name for name in left), "the job's folder is removed"
    assert not output.exists() and not list(tmp_path.glob(".*"))


def test_a_person_sees_what_is_shown_here_led_by_the_board(
    prepared: Loopback, bundle: Path, clips: list[Path], tmp_path: Path
) -> None:
    boards = ["--on", "pi@board.invalid", "--on", prepared.address]
    ran = CliRunner().invoke(app, command(bundle, tmp_path, "--baseline", str(bundle), *boards), env={"COLUMNS": "200"})
    assert ran.exit_code == 2, "the highest code of any board"
    assert ran.stdout.startswith(f"{prepared.address}\n") and "ratio" in ran.stdout
    assert "edge-deploy: --on: pi@board.invalid: there is no host of this name" in ran.stderr


def test_how_the_bundle_is_run_goes_along(
    bundle: Path, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[object]] = []

    def run_on(boards: object, arguments: list[object], messages: object, keep_audio: bool) -> list[Answer]:
        asked.append(arguments)
        return [Answer("pi", 2, None, ())]

    monkeypatch.setattr(module, "run_on", run_on)
    how = ["--audio-context", "full", "--target", "generic", "--accuracy-level", "1"]
    CliRunner().invoke(app, [*command(bundle, tmp_path), *how, "--on", "pi"])
    words = [str(word) for word in asked[0]]
    passed_on = {name: words[words.index(name) + 1] for name in ("--audio-context", "--target", "--accuracy-level")}
    assert passed_on == {"--audio-context": "full", "--target": "generic", "--accuracy-level": "1"}


class Small(BaseModel):
    """A result of any command."""

    figure: int
    command: str | None = None


def test_a_result_counts_although_its_command_ended_with_code_1(tmp_path: Path) -> None:
    """So it does when the board throttled meanwhile: its times are shown, but not compared."""
    answers = [Answer("a", 1, {"figure": 1}, ()), Answer("b", 2, None, ("no board",))]
    measured = results_of(answers, Small, {"command": "bench"}, tmp_path / "bench.json")
    assert [one.result for one in measured] == [Small(figure=1, command="bench"), None]
    assert [path.name for path in tmp_path.iterdir()] == ["bench.a.json"]


def test_what_is_added_here_is_in_the_file(tmp_path: Path) -> None:
    def doubled(one: Small) -> Small:
        return one.model_copy(update={"figure": 2 * one.figure})

    [measured] = results_of([Answer("a", 0, {"figure": 1}, ())], Small, {}, tmp_path / "bench.json", doubled)
    assert measured.result == Small(figure=2)
    assert Small.model_validate_json((tmp_path / "bench.json").read_text()) == measured.result


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 40_000), min_size=1, max_size=4),
    st.lists(st.floats(0.1, 4.0), min_size=1, max_size=4, unique_by=lambda length: f"{length:g}"),
)
@example([3], [1.0, 2.0302042184344127])
def test_a_board_finds_the_samples_that_are_timed_here(sizes: list[int], lengths: list[float]) -> None:
    generator = np.random.default_rng(0)
    speech = [
        Utterance(str(number), generator.normal(size=size).astype(np.float32), None, "noise")
        for number, size in enumerate(sizes)
    ]
    here = fixed_lengths(speech, lengths)
    with TemporaryDirectory() as folder:
        copied = lengths_as_corpus(here, Path(folder))
        lying = {name.removeprefix("speech/"): path for name, path in copied.contents.items()}
        for name, path in lying.items():
            if path.name != name:
                path.rename(Path(folder) / name)
        there = fixed_lengths(manifest.read_manifest(Path(folder) / "speech.jsonl"), lengths)
    assert [clip.fingerprint for _, clip in there] == [clip.fingerprint for _, clip in here]


def test_a_missing_clip_stays_a_row_that_the_board_counts(tmp_path: Path) -> None:
    gone = Utterance("gone", tmp_path / "gone.wav", "text", "test")
    files = write_corpus([gone], tmp_path)
    assert list(files.contents) == [MANIFEST]
    assert json.loads(files.contents[MANIFEST].read_text())["id"] == "gone"
