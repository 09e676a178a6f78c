"""`edge-deploy transcribe` as a user calls it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from edge_asr_deploy import cli
from edge_asr_deploy.boards import remote
from edge_asr_deploy.boards.remote import Answer
from edge_asr_deploy.boards.sync import Files
from edge_asr_deploy.bundle import manifest
from edge_asr_deploy.cli import transcribe
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.runtime.transcript import Segment, Transcript, Word
from tests.support.fakes import transcript


class FakeTranscriber:
    """Hears how long a clip is, and keeps what it was asked. After `patience` clips the user presses Ctrl-C."""

    def __init__(self) -> None:
        self.patience = 99
        self.opened: tuple[Path, dict[str, object]] | None = None
        self.target = "generic"
        self.asked: list[tuple[str | None, str | None]] = []
        self.options: dict[str, Any] = {}

    def open(self, bundle: Path, **options: object) -> FakeTranscriber:
        self.opened = (bundle, options)
        return self

    def transcribe(
        self, samples: NDArray[np.float32], language: str | None, task: str | None, **options: Any
    ) -> Transcript:
        if language == "klingon":
            raise UserError("--language", language, "choose one of en, de")
        if len(self.asked) == self.patience:
            raise KeyboardInterrupt
        self.asked.append((language, task))
        self.options = options
        seconds = len(samples) / 16_000
        text = f"{seconds:g} Sekunden, größer"
        times = options.get("timestamps")
        words = (Word("größer", 0.5, seconds, 0.75),) if times == "word" else ()
        segments = (Segment(0.25, seconds, text, (1, 2), -0.5, None, 1.0, 0.0, words),) if times else ()
        return transcript(text, seconds, segments=segments)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTranscriber:
    fake = FakeTranscriber()
    monkeypatch.setattr(Transcriber, "open", fake.open)
    return fake


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good files and a bad one, where the user stands."""
    monkeypatch.chdir(tmp_path)
    for name, seconds in (("one.wav", 1), ("two.flac", 2)):
        soundfile.write(tmp_path / name, np.zeros(16_000 * seconds), 16_000)
    (tmp_path / "bad.wav").write_text("no audio")
    return tmp_path


def invoke(*arguments: str, charset: str = "utf-8", stdin: bytes | None = None) -> Result:
    app = typer.Typer()
    app.command()(transcribe.command)
    return CliRunner(charset=charset).invoke(app, ["bundle", *arguments], input=stdin)


def test_one_file_is_one_line_of_text(fake: FakeTranscriber, folder: Path) -> None:
    ran = invoke("one.wav")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "1 Sekunden, größer\n", "")


def test_several_files_are_named(fake: FakeTranscriber, folder: Path) -> None:
    ran = invoke("one.wav", "two.flac")
    assert ran.stdout == "one.wav: 1 Sekunden, größer\ntwo.flac: 2 Sekunden, größer\n"


@pytest.mark.parametrize("wish", [["--json"], ["--format", "json"]])
def test_a_machine_gets_a_list(fake: FakeTranscriber, folder: Path, wish: list[str]) -> None:
    ran = invoke("one.wav", "two.flac", *wish)
    rows: list[dict[str, Any]] = json.loads(ran.stdout)
    assert [(row["file"], row["text"], row["seconds"]) for row in rows] == [
        ("one.wav", "1 Sekunden, größer", 1.0),
        ("two.flac", "2 Sekunden, größer", 2.0),
    ]
    assert rows[0]["timings"]["total"] > 0


@pytest.mark.parametrize("wish", ["txt", "json", "jsonl"])
def test_escapes_of_a_tokenizer_do_not_reach_the_terminal(
    fake: FakeTranscriber, folder: Path, wish: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a\x1b[2J\x9b31mb\nc\x7f"
    monkeypatch.setattr(fake, "transcribe", lambda *arguments, **options: transcript(text, 1.0))
    monkeypatch.setattr(Transcriber, "open", lambda *arguments, **options: fake)
    ran = invoke("one.wav", "--format", wish)
    assert not {"\x1b", "\x9b", "\x7f"} & set(ran.stdout)
    if wish == "txt":
        assert ran.stdout == "a\\x1b[2J\\x9b31mb\\nc\\x7f\n"
    else:
        found = json.loads(ran.stdout)
        assert (found[0] if wish == "json" else found)["text"] == text, "JSON keeps the text"


def test_a_bad_file_does_not_stop_the_good_ones(fake: FakeTranscriber, folder: Path) -> None:
    ran = invoke("bad.wav", "one.wav", "absent.wav", "two.flac")
    assert ran.exit_code == 2
    assert ran.stdout.splitlines() == ["one.wav: 1 Sekunden, größer", "two.flac: 2 Sekunden, größer"]
    first, second = ran.stderr.splitlines()
    assert "bad.wav: is not audio" in first and "absent.wav: no such file" in second
    assert len(json.loads(invoke("bad.wav", "one.wav", "--json").stdout)) == 1


def test_options_are_passed_on(fake: FakeTranscriber, folder: Path) -> None:
    invoke(
        "one.wav",
        "--language",
        "de",
        "--task",
        "translate",
        "--threads",
        "3",
        "--accuracy-level",
        "1",
        "--target",
        "pi4",
    )
    assert fake.opened == (
        Path("bundle"),
        {"threads": 3, "accuracy_level": 1, "audio_context": "auto", "target": "pi4", "vad": True},
    )
    assert fake.asked == [("de", "translate")]


def test_a_language_that_cannot_be_ends_it_at_once(fake: FakeTranscriber, folder: Path) -> None:
    with pytest.raises(UserError, match="--language: klingon"):
        raise invoke("one.wav", "two.flac", "--language", "klingon").exception or AssertionError


@pytest.mark.parametrize("board", [[], ["--on", "nobody@127.0.0.1:1"]], ids=["here", "on a board"])
def test_an_audio_context_that_cannot_be_ends_it_before_anything_runs(
    fake: FakeTranscriber, folder: Path, board: list[str]
) -> None:
    ran = invoke("one.wav", "--audio-context", "most", *board)
    assert isinstance(ran.exception, UserError)
    assert "most: give full, auto, or seconds of silence" in str(ran.exception)
    assert fake.opened is None


def test_a_folder_that_is_no_bundle_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="bundle: no such folder"):
        raise invoke("one.wav").exception or AssertionError


@pytest.mark.parametrize("wish", [["--threads", "0"], ["--format", "xml"], ["--accuracy-level", "7"]])
def test_wishes_that_cannot_be_are_usage_errors(fake: FakeTranscriber, folder: Path, wish: list[str]) -> None:
    assert invoke("one.wav", *wish).exit_code == 2


def test_the_help_has_an_example(fake: FakeTranscriber) -> None:
    app = typer.Typer()
    app.command()(transcribe.command)
    assert "edge-deploy transcribe exported/" in CliRunner().invoke(app, ["--help"]).stdout


def test_a_json_line_is_written_for_each_file_as_it_is_done(fake: FakeTranscriber, folder: Path) -> None:
    ran = invoke("one.wav", "bad.wav", "two.flac", "--format", "jsonl")
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(row["file"], row["text"]) for row in rows] == [
        ("one.wav", "1 Sekunden, größer"),
        ("two.flac", "2 Sekunden, größer"),
    ]
    assert ran.exit_code == 2


@pytest.mark.parametrize("form", ["txt", "json", "jsonl"])
@pytest.mark.parametrize("patience", [0, 1])
def test_what_is_finished_is_kept_after_ctrl_c(fake: FakeTranscriber, folder: Path, form: str, patience: int) -> None:
    fake.patience = patience
    ran = invoke("one.wav", "two.flac", "--format", form)
    assert ran.exit_code == 130
    assert ran.stderr == f"edge-deploy: interrupted; {patience} of 2 files were transcribed\n"
    assert ran.stdout.count("1 Sekunden, größer") == patience
    if form == "json":
        assert len(json.loads(ran.stdout)) == patience


def test_texts_are_kept_when_a_later_file_ends_it(
    fake: FakeTranscriber, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = fake.transcribe

    def fail_later(samples: NDArray[np.float32], **options: Any) -> Transcript:
        if fake.asked:
            raise ValueError("a bug")
        return good(samples, **options)

    monkeypatch.setattr(fake, "transcribe", fail_later)
    ran = invoke("one.wav", "two.flac", "--json")
    assert isinstance(ran.exception, ValueError)
    assert len(json.loads(ran.stdout)) == 1


@pytest.mark.parametrize("charset", ["utf-8", "ascii", "latin-1"])
def test_names_that_the_output_cannot_show_are_escaped(fake: FakeTranscriber, folder: Path, charset: str) -> None:
    odd = os.fsdecode(b"caf\xe9.wav")
    for name in (odd, "日本.wav", "a\nb.wav"):
        (folder / name).write_bytes((folder / "one.wav").read_bytes())
    ran = invoke(odd, "日本.wav", "a\nb.wav", charset=charset)
    japanese = "日本.wav" if charset == "utf-8" else r"\u65e5\u672c.wav"
    text = r"1 Sekunden, gr\u00f6\u00dfer" if charset == "ascii" else "1 Sekunden, größer"
    assert ran.output.splitlines() == [rf"caf\xe9.wav: {text}", f"{japanese}: {text}", rf"a\nb.wav: {text}"]
    for form in ("json", "jsonl"):
        ran = invoke(odd, "日本.wav", "a\nb.wav", "--format", form, charset=charset)
        rows = json.loads(ran.output) if form == "json" else [json.loads(line) for line in ran.output.splitlines()]
        assert [row["file"] for row in rows] == [r"caf\xe9.wav", "日本.wav", "a\nb.wav"]
        assert rows[0]["text"] == "1 Sekunden, größer"


def test_standard_input_is_named_by_a_dash(fake: FakeTranscriber, folder: Path) -> None:
    ran = invoke("-", "two.flac", stdin=(folder / "one.wav").read_bytes())
    assert ran.stdout.splitlines()[0] == "-: 1 Sekunden, größer"


def test_what_is_sent_to_boards_from_a_pipe_keeps_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeTranscriber
) -> None:
    sent: list[Any] = []

    def run_on(boards: list[str], arguments: list[Any], messages: object, keep_audio: bool) -> list[Answer]:
        sent.extend(argument for argument in arguments if isinstance(argument, Path | Files))
        assert sent[1].contents["0/stream"].read_bytes() == (folder / "one.wav").read_bytes()
        row = {"file": "-", "text": "größer"}
        return [Answer(board, 0, [row], ()) for board in boards]

    monkeypatch.setattr(remote, "run_on", run_on)
    monkeypatch.setattr(manifest, "read_manifest", lambda bundle: None)
    boards = ["--on", "pi@a", "--on", "pi@b"]
    ran = invoke("-", "two.flac", *boards, "--format", "jsonl", stdin=(folder / "one.wav").read_bytes())
    assert [json.loads(line)["board"] for line in ran.stdout.splitlines()] == ["pi@a", "pi@b"]
    assert (sent[1].shown, sent[2]) == ("-", Path("two.flac"))


def test_subtitles_have_the_times_of_segments(fake: FakeTranscriber, folder: Path) -> None:
    assert invoke("one.wav", "--format", "srt").stdout == "1\n00:00:00,250 --> 00:00:01,000\n1 Sekunden, größer\n"
    assert fake.options["timestamps"] == "segment"
    assert invoke("one.wav", "--format", "tsv").stdout == "start\tend\ttext\n250\t1000\t1 Sekunden, größer\n"


def test_a_folder_gets_a_file_for_each_audio_file(fake: FakeTranscriber, folder: Path) -> None:
    ran = invoke("one.wav", "bad.wav", "two.flac", "--format", "vtt", "--output-dir", "out")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert sorted(path.name for path in Path("out").iterdir()) == ["one.vtt", "two.vtt"]
    assert Path("out/two.vtt").read_text() == "WEBVTT\n\n00:00.250 --> 00:02.000\n2 Sekunden, größer\n\n"
    invoke("one.wav", "--format", "json", "--timestamps", "word", "--output-dir", "out")
    row = json.loads(Path("out/one.json").read_text())
    assert row["segments"][0]["words"] == [{"text": "größer", "start": 0.5, "end": 1.0, "probability": 0.75}]
    invoke("one.wav", "--output-dir", "out")
    assert Path("out/one.txt").read_text() == "1 Sekunden, größer\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["one.wav", "two.flac", "--format", "srt"], "is for one file; give --output-dir"),
        (["one.wav", "other/one.wav", "--output-dir", "out"], "two files would be written to one.txt"),
        (["one.wav", "--output-dir", "two.flac"], "is a file; name a folder"),
        (["one.wav", "--timestamps", "letter"], "choose one of segment, word"),
        (["one.wav", "--temperature", "0,2"], "give numbers from 0 to 1"),
        (["one.wav", "--temperature", "hot"], "write numbers separated by commas"),
        (["one.wav", "--previous-text", "yes"], "give on or off"),
        (["one.wav", "--clip-timestamps", "3,1"], "each after the last"),
    ],
)
def test_what_cannot_be_written_or_meant_is_refused_before_anything_runs(
    fake: FakeTranscriber, folder: Path, arguments: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        raise invoke(*arguments).exception or AssertionError
    assert fake.opened is None


def test_prompts_and_parts_are_passed_on(fake: FakeTranscriber, folder: Path) -> None:
    given = {"--prompt": "Hello", "--hotwords": "Ada,Bab", "--temperature": "0,0.4", "--clip-timestamps": "1,2.5"}
    invoke("one.wav", *(word for pair in given.items() for word in pair), "--previous-text", "on")
    assert fake.options == {
        "timestamps": None,
        "prompt": "Hello",
        "hotwords": ("Ada", "Bab"),
        "previous_text": True,
        "temperature": (0.0, 0.4),
        "clip_timestamps": (1.0, 2.5),
    }


def test_boards_give_segments_to_subtitles(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeTranscriber
) -> None:
    def run_on(boards: list[str], arguments: list[Any], messages: object, keep_audio: bool) -> list[Answer]:
        assert arguments[-2:] == ["--timestamps", "segment"]
        segment = {**vars(Segment(0.25, 1.0, "größer", (1,), -0.5, None, 1.0, 0.0)), "tokens": [1], "words": []}
        row = {"file": "one.wav", "text": "größer", "segments": [segment]}
        return [Answer(board, 0, [row], ()) for board in boards]

    monkeypatch.setattr(remote, "run_on", run_on)
    monkeypatch.setattr(manifest, "read_manifest", lambda bundle: None)
    boards = ["--on", "pi@a", "--on", "pi@b"]
    invoke("one.wav", *boards, "--format", "srt", "--output-dir", "out")
    assert {path.name for path in Path("out").iterdir()} == {"one.pi@a.srt", "one.pi@b.srt"}
    assert Path("out/one.pi@a.srt").read_text() == "1\n00:00:00,250 --> 00:00:01,000\ngrößer\n\n"


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr("sys.argv", ["edge-deploy", "transcribe", "bundle", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_a_note_is_one_line_on_standard_error(
    fake: FakeTranscriber, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (folder / "one.wav").read_bytes()
    (folder / "off.wav").write_bytes(content[:40] + bytes(4) + content[44:])
    assert run_main(monkeypatch, "off.wav") == 0
    ended = capsys.readouterr()
    assert ended.out == "1 Sekunden, größer\n"
    assert ended.err == "Note: off.wav: its header promises no samples; the 32000 bytes behind it were read.\n"


def test_ctrl_c_before_the_first_file_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Transcriber, "open", interrupt)
    assert run_main(monkeypatch, "one.wav") == 130
    assert capsys.readouterr().err == "edge-deploy: interrupted; no file was left half-written\n"
