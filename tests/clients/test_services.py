"""`edge-deploy serve` with the clients that people have: OpenAI's package, Wyoming's, curl. Real model, real speech."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.harness.evaluation.wer import count
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.subtitles import srt, vtt
from tests.support.clients import ROOT
from tests.support.fixtures_real import Exporter
from tests.support.serving import Served, serving

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]
CLIP = "librispeech_test_clean/1089-134686-0000.flac"
MODEL, BITS, NUMBER = "whisper-tiny.en", 5, 8


@dataclass(frozen=True)
class Case:
    """A server with the key `secret`, a clip, and what our runtime hears in it."""

    served: Served
    clip: Path
    text: str


@pytest.fixture(scope="module")
def case(exported: Exporter, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    for package in ("starlette", "uvicorn", "python_multipart", "wyoming"):
        pytest.importorskip(package)
    bundle, clip = exported(MODEL, BITS, NUMBER), data / CLIP
    text = Transcriber.open(bundle).transcribe(clip).text
    options = ("--openai", "0", "--wyoming", "0", "--api-key", "secret", "--vad", "on")
    with serving(bundle, tmp_path_factory.mktemp("served"), *options) as served:
        yield Case(served, clip, text)
        assert served.files() == [] and served.stop() == 0


def python() -> Path:
    """Python of the environment that `make clients` makes, with both packages."""
    found = Path(os.environ.get("EDGE_ASR_CLIENTS", ROOT / ".clients")) / "bin" / "python"
    if not found.exists():
        pytest.skip("no clients here: `make clients` installs them")
    if subprocess.run([found, "-c", "import openai, wyoming"], capture_output=True).returncode:
        pytest.skip("openai and wyoming are not installed: `make clients` installs them")
    return found


def ask(program: str, *words: str) -> Any:
    """Run a client."""
    path = ROOT / "tests" / "clients" / program
    ran = subprocess.run([python(), path, *words], capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def test_openai(case: Case, tmp_path: Path) -> None:
    recording = tmp_path / "long.flac"
    samples = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in sorted(case.clip.parent.glob("*"))])
    soundfile.write(recording, samples[: 150 * 16_000], 16_000)
    found = ask("ask_openai.py", f"{case.served.http}/v1", str(case.clip), "--times", "--long", str(recording))
    check_long(**found["long"])
    name = f"{MODEL}-w{BITS}-{NUMBER}"
    assert found["models"] == [name] and found["retrieved"] == name
    for kind in ("json", "language", "opened", "bytes"):
        assert found[kind] == case.text, kind
    assert found["text"].strip() == case.text and found["seconds"] == 11
    assert "".join(found["deltas"]) == case.text and found["done"] == [case.text]
    assert found["at once"] == [case.text] * 16
    check_times(case, found)
    assert found["failures"] == {
        "key": ["AuthenticationError", "the key is missing or wrong; send `Authorization: Bearer KEY`"],
        "model": ["NotFoundError", f"model: large-v3: this server has {name}, which whisper-1 means, too"],
        "language": ["BadRequestError", found["failures"]["language"][1]],
        "format": [
            "BadRequestError",
            "response_format: diarized_json: choose one of json, text, srt, verbose_json, vtt",
        ],
        "audio": ["BadRequestError", found["failures"]["audio"][1]],
        "prompt": ["BadRequestError", found["failures"]["prompt"][1]],
        "translation": ["BadRequestError", found["failures"]["translation"][1]],
        "stream": ["BadRequestError", found["failures"]["stream"][1]],
    }
    assert "language: de: this model was made for one language" in found["failures"]["language"][1]
    assert "audio: a.wav: is not audio in a supported format" in found["failures"]["audio"][1]
    assert "has 400 tokens; 223 fit: shorten it" in found["failures"]["prompt"][1]
    assert "task: translate: this model can only transcribe" in found["failures"]["translation"][1]
    assert "audio: a.wav: is not audio" in found["failures"]["stream"][1]


def check_long(deltas: list[str], times: list[float], done: str, whole: str) -> None:
    """The text comes window by window, and is the same as the one that comes at once."""
    assert "".join(deltas) == done == whole and len(deltas) > 3
    assert times[0] < 0.7 * times[-1], "the first one waited for the last"


def check_times(case: Case, found: dict[str, Any]) -> None:
    """What is asked with times is what our runtime gives with times."""
    transcriber = Transcriber.open(bundle_of(case))
    verbose, by_segment = found["verbose"], transcriber.transcribe(case.clip, timestamps="segment")
    by_word = transcriber.transcribe(case.clip, timestamps="word")
    words = [word for segment in by_word.segments for word in segment.words]
    assert verbose["text"] == by_word.text and verbose["language"] == "english"
    assert verbose["duration"] == pytest.approx(by_word.seconds, abs=1e-3)
    assert [one["word"] for one in verbose["words"]] == [word.text.strip() for word in words]
    assert [one["start"] for one in verbose["words"]] == pytest.approx([word.start for word in words], abs=1e-3)
    assert [one["text"] for one in verbose["segments"]] == [segment.text for segment in by_word.segments]
    assert found["plain verbose"]["words"] is None
    assert [one["text"] for one in found["plain verbose"]["segments"]] == [one.text for one in by_segment.segments]
    assert found["srt"] == srt(by_segment.segments) and found["vtt"] == vtt(by_segment.segments)
    assert found["prompt"] == transcriber.transcribe(case.clip, prompt="A story of a dinner.").text


@pytest.mark.parametrize(("rate", "subtype"), [(16_000, "PCM_16"), (44_100, "PCM_24")])
def test_wyoming(case: Case, tmp_path: Path, rate: int, subtype: str) -> None:
    import soxr

    samples, own = soundfile.read(case.clip, dtype="float32")
    wav = tmp_path / "command.wav"
    soundfile.write(wav, soxr.resample(samples, own, rate), rate, subtype)
    found = ask("ask_wyoming.py", case.served.wyoming, str(wav), "3")
    [program] = found["info"]["asr"]
    assert program["installed"] and program["models"][0]["languages"] == ["en"]
    expected = case.text if rate == own else Transcriber.open(bundle_of(case)).transcribe(wav).text
    assert [len(found["texts"]), len(found["at once"])] == [3, 3]
    if rate == own:
        assert found["texts"] == found["at once"] == [expected] * 3
    # Resampled piece by piece, and with a pause that is decoded early or not, one of its hard words may differ.
    assert all(is_near(text, expected) for text in (*found["texts"], *found["at once"]))
    check_live(**found["live"], expected=expected)
    assert found["language"].startswith("connection lost: language: de: this model was made for one language")


def check_live(kinds: list[str], early: list[str], chunks: list[str], text: str, expected: str) -> None:
    """Most of the text is there before the end, and nothing of it is taken back."""
    assert kinds == ["transcript-start", *["transcript-chunk"] * len(chunks), "transcript", "transcript-stop"]
    assert "".join(chunks) == text and len("".join(early)) > len(text) / 3
    assert is_near(text, expected)


def is_near(text: str, expected: str) -> bool:
    """Whether most words are the same. The clip's last ones are hard: a file has three errors there, too."""
    normalize = normalizer_for("en")
    return count(normalize(expected), normalize(text)).wer < 0.2


def bundle_of(case: Case) -> Path:
    return Path(str(case.served.process.args[4]))  # type: ignore[index]


def curl(*words: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    ran = subprocess.run(["curl", "--silent", "--show-error", *words], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_curl(case: Case, tmp_path: Path) -> None:
    url, key = f"{case.served.http}/v1/audio/transcriptions", ("-H", "Authorization: Bearer secret")
    assert json.loads(curl(url, *key, "-F", f"file=@{case.clip}"))["text"] == case.text
    assert curl(url, *key, "-F", f"file=@{case.clip}", "-F", "response_format=text").strip() == case.text
    streamed = curl("-N", url, *key, "-F", f"file=@{case.clip}", "-F", "stream=true")
    assert [json.loads(line[6:])["type"] for line in streamed.split("\n") if line] == [
        "transcript.text.delta",
        "transcript.text.done",
    ]
    assert json.loads(curl(f"{case.served.http}/health"))["status"] == "ok"
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(10**9)
    for how in (
        (),
        ("-H", "Expect:"),
        ("-H", "Transfer-Encoding: chunked"),
        ("-H", "Transfer-Encoding: chunked", "-H", "Expect:"),
    ):
        error = json.loads(curl(url, *key, *how, "-F", f"file=@{huge}"))["error"]
        assert error["message"].startswith("the request has more than 100 MB")


@pytest.mark.parametrize("guide", ["openai", "home-assistant"])
def test_the_python_of_the_guides(case: Case, guide: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "guide" / f"{guide}.md").read_text()
    [block] = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    block = block.replace("http://127.0.0.1:8000", case.served.http).replace('"none"', '"secret"')
    block = block.replace("tcp://127.0.0.1:10300", case.served.wyoming)
    samples, rate = soundfile.read(case.clip, dtype="float32")
    soundfile.write(tmp_path / "audio.wav", samples, rate)
    ran = subprocess.run([python(), "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    # Over Wyoming the clip may have been decoded in its last pause, where its hard words can come out otherwise.
    assert ran.stdout == case.text + "\n" if guide == "openai" else is_near(ran.stdout, case.text)
