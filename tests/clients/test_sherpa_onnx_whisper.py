"""The unmodified sherpa-onnx opens the layout and says what the bundle says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.harness.evaluation.wer import WordCounts, count
from edge_asr_deploy.layouts.layouts import LAYOUTS
from edge_asr_deploy.runtime.decoding.whisper import DETECT, Whisper
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.fixtures_layouts import make
from tests.support.fixtures_real import Exporter
from tests.support.sherpa_client import Said, hear, python

WINDOW = 3000
# Of the words of ten clips so many may differ where activations are int8: features that differ in their last bits (the
# engine computes them in float32 with another Fourier transform) now and then move one over a rounding edge, which
# decides between two words that are as likely.
MAY_DIFFER = 0.1


def arranged(bundle: Path, folder: Path) -> Path:
    folder.mkdir()
    LAYOUTS["sherpa-onnx"].arrange(bundle, folder)
    return folder


def said_by_the_bundle(
    bundle: Path, heard: Said, samples: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, language: str = DETECT
) -> str:
    """The bundle's text for the engine's own features, padded with silence to the whole window."""
    frames = min(len(heard.features), WINDOW - 50)
    features = np.full((1, 80, WINDOW), heard.features.max() - 2, np.float32)
    features[0, :, :frames] = heard.features[:frames].T
    with monkeypatch.context() as patch:
        patch.setattr(Whisper, "inputs", lambda *_: {"input_features": features})
        return (
            Transcriber.open(bundle, target="generic", audio_context="full", vad=False)
            .transcribe(samples, language=language)
            .text
        )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small random Whisper of two languages."""
    python()
    folder = tmp_path_factory.mktemp("small")
    bundle = make("whisper", "float", folder / "bundle").folder
    return bundle, arranged(bundle, folder / "arranged")


def noise(seconds: float) -> NDArray[np.float32]:
    return (np.random.default_rng(0).normal(size=int(seconds * 16_000)) * 0.1).astype(np.float32)


@pytest.mark.parametrize("language", ["", "en", "de"])
def test_language_and_task_are_the_engines_options(
    small: tuple[Path, Path], language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, folder = small
    [heard] = hear(folder, [noise(3)], tmp_path, language=language, tail_paddings=WINDOW)
    wanted = said_by_the_bundle(bundle, heard, noise(3), monkeypatch, language or DETECT)
    assert heard.text and wanted.startswith(heard.text), "the engine says at most 6 tokens in a second"
    detected = heard.result["lang"]
    assert detected in ("en", "de") and (not language or detected == language)
    [translated] = hear(folder, [noise(3)], tmp_path, language=language, task="translate", tail_paddings=WINDOW)
    assert translated.text and translated.text != heard.text


def test_word_times_and_segments_work(small: tuple[Path, Path], tmp_path: Path) -> None:
    options = {"enable_token_timestamps": True, "enable_segment_timestamps": True}
    for heard in hear(small[1], [noise(3), noise(12)], tmp_path, language="en", **options):
        times = heard.result["timestamps"]
        assert len(times) == len(heard.result["tokens"]) > 0
        assert times == sorted(times) and times[-1] <= 12


@pytest.mark.parametrize("seconds", [0.1, 1.005, 29.4, 31])
def test_any_length_is_heard(small: tuple[Path, Path], seconds: float, tmp_path: Path) -> None:
    """Odd and even numbers of frames, the shortest and what the engine cuts; with its usual padding and hardly any."""
    for padding in (-1, 7):
        assert hear(small[1], [noise(seconds)], tmp_path, language="en", tail_paddings=padding)


@pytest.fixture(scope="module")
def clips(data: Path) -> list[NDArray[np.float32]]:
    """Ten clips, from every source."""
    names = ("librispeech_test_clean", "librispeech_test_other", "common_voice_en", "asterisk_prompts")
    chosen = [one for name in names for one in read_manifest(data / f"{name}.jsonl")[3:60:20]]
    return [one.samples() for one in chosen if one.seconds is None or one.seconds < 29][:10]


@pytest.mark.real
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("bits", [4, *(pytest.param(bits, marks=pytest.mark.real_full) for bits in (32, 8, 5))])
def test_it_says_the_same_words(
    bits: int,
    clips: list[NDArray[np.float32]],
    exported: Exporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python()
    bundle = exported("whisper-tiny.en", bits, 8)
    folder = arranged(bundle, tmp_path / "arranged")
    heard = hear(folder, clips, tmp_path, tail_paddings=WINDOW)
    wanted = [
        said_by_the_bundle(bundle, said, samples, monkeypatch) for said, samples in zip(heard, clips, strict=True)
    ]
    counted = sum((count(text, said.text) for said, text in zip(heard, wanted, strict=True)), WordCounts())
    assert counted.wer <= (0 if bits == 32 else MAY_DIFFER), [
        (said.text, text) for said, text in zip(heard, wanted, strict=True) if said.text != text
    ]
    # With the padding that it takes by itself.
    assert all(said.text for said in hear(folder, clips, tmp_path))


@pytest.mark.real
def test_words_have_times(clips: list[NDArray[np.float32]], exported: Exporter, tmp_path: Path) -> None:
    python()
    folder = arranged(exported("whisper-tiny.en", 4, 8), tmp_path / "arranged")
    for heard, samples in zip(hear(folder, clips[:3], tmp_path, enable_token_timestamps=True), clips, strict=False):
        times = heard.result["timestamps"]
        assert len(times) == len(heard.result["tokens"])
        assert times == sorted(times) and 0.3 * len(samples) / 16_000 < times[-1] < len(samples) / 16_000
