"""docs/guide/captions.md, run as it stands, and the times and probabilities that it promises."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.word_times import Timed, clips, differences
from edge_asr_deploy.layouts.exact_head import one_pass
from edge_asr_deploy.layouts.sherpa_onnx import read, write
from edge_asr_deploy.runtime.audio.reading import read_audio
from edge_asr_deploy.runtime.decoding.recording import Wanted
from edge_asr_deploy.runtime.engine import Job
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.clients import ROOT
from tests.support.fixtures_real import Exporter

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]
GUIDE = (ROOT / "docs" / "guide" / "captions.md").read_text()
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL))
PROGRAMS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def bundle(exported: Exporter) -> Path:
    return exported("whisper-tiny.en", 5, 8)


@pytest.fixture
def place(bundle: Path, data: Path, tmp_path: Path) -> Path:
    """A folder as the guide supposes it."""
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "whisper-tiny.en-w5").symlink_to(bundle)
    shutil.copy(next((data / "misc").glob("*cities*.flac")), tmp_path / "talk.flac")
    shutil.copy(data / "librispeech_test_clean" / "1089-134686-0000.flac", tmp_path / "memo.wav")
    return tmp_path


def run(place: Path, *command: str) -> str:
    paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


def test_the_commands_write_captions(place: Path) -> None:
    # The command itself is a wrapper that a test's environment may lack.
    run(place, "bash", "-e", "-c", COMMANDS.replace("edge-deploy ", f"{sys.executable} -m edge_asr_deploy "))
    captions = (place / "captions" / "talk.srt").read_text()
    assert captions.startswith("1\n00:00:0") and "best of times" in captions
    row = json.loads((place / "captions" / "talk.json").read_text())
    words = [word for segment in row["segments"] for word in segment["words"]]
    assert " ".join(word["text"] for word in words) == row["text"]
    assert {path.name for path in (place / "captions").iterdir()} >= {"talk.vtt", "memo.vtt"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_print_times(place: Path, program: str) -> None:
    assert "times" in run(place, sys.executable, "-c", program)


def test_words_are_told_as_exactly_as_the_guide_says(bundle: Path, data: Path) -> None:
    manifest = data / "more" / "words_timing.jsonl"
    if not manifest.exists():
        pytest.skip("EDGE_ASR_DATA has no words with times")
    transcriber = Transcriber.open(bundle, threads=1)
    found = []
    for clip in clips(manifest):
        heard = transcriber.transcribe(clip.path, timestamps="word").segments
        timed = [Timed(word.start, word.end, word.text) for segment in heard for word in segment.words]
        found.append(differences(clip.words, timed))
    off = np.abs(np.concatenate(found))
    assert len(off) > 260 and off.mean() < 0.06 and (off <= 0.1).mean() > 0.85


def test_probabilities_are_as_exact_as_the_guide_says(bundle: Path, data: Path, tmp_path: Path) -> None:
    """Against the same codes in a head of one pass, whose scores are all exact."""
    shutil.copytree(bundle, tmp_path / "exact")
    decoder = read(bundle / "decoder_model_merged.onnx")
    one_pass(decoder.graph)
    write(decoder, tmp_path / "exact" / "decoder_model_merged.onnx")
    engines = [
        Transcriber.open(folder, threads=1, family="whisper", audio_context="full").engine
        for folder in (bundle, tmp_path / "exact")
    ]
    means, tokens = [], []
    for path in sorted((data / "librispeech_test_other").glob("*.flac"))[:20]:
        job = Job(engines[0].family.prompt(None, None), None, wanted=Wanted((), engines[0].family.no_speech))
        ours, exact = (engine.windows([read_audio(path)], job)[0][0].decoded for engine in engines)
        assert ours.recorded is not None and exact.recorded is not None
        if ours.tokens == exact.tokens:
            one, other = (np.array(each.recorded.log_probabilities) for each in (ours, exact) if each.recorded)
            means.append(one.mean() - other.mean())
            tokens += (np.exp(one) - np.exp(other)).tolist()
    assert len(means) > 15
    assert min(means) > -0.05 and max(means) < 0.2 and np.mean(means) < 0.06
    assert max(tokens) < 0.25 and np.mean(np.abs(tokens)) < 0.03
