"""Bundles in the unmodified transformers.js in Node: the words of `edge-deploy transcribe`, and times of words."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import soundfile

from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.fixtures_real import Exporter

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
SCRIPT = Path(__file__).parent / "transcribe.mjs"
GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "other-engines.md"
CLIPS = 20
# A word's time may differ where float and low-bit weights hear its edge differently: most differ by nothing.
USUAL_SECONDS = 0.06


def clips(data: Path, number: int = CLIPS) -> list[Any]:
    return read_manifest(data / "librispeech_test_clean.jsonl")[:number]


def word(chunk: dict[str, Any]) -> str:
    return str(chunk["text"]).strip(" ,.").lower()


@pytest.mark.parametrize(
    ("model", "bits"),
    [
        ("whisper-tiny.en", 4),
        *(pytest.param("whisper-tiny.en", bits, marks=pytest.mark.real_full) for bits in (32, 8, 5)),
        *(pytest.param("moonshine-tiny", bits, marks=pytest.mark.real_full) for bits in (32, 8, 5, 4)),
    ],
)
def test_it_hears_the_words_of_transcribe(
    model: str,
    bits: int,
    exported: Exporter,
    arranged: Callable[..., Path],
    raw: Callable[..., list[Path]],
    node: Callable[..., Any],
    data: Path,
) -> None:
    """Its own log-mel differs from ours by 1e-5 in places, as Transformers' does: int8 may then choose another word.

    Its Moonshine stops after 6 tokens a second, ours after 6.5 and 2 more: a text may be cut off.
    """
    results = node(SCRIPT, arranged(model, bits), "{}", "{}", *raw(clips(data)))
    ours, normalize = Transcriber.open(exported(model, bits, 8), audio_context="full"), normalizer("whisper-english")
    differing = []
    for utterance, result in zip(clips(data), results, strict=True):
        theirs, expected = normalize(result["text"]), normalize(ours.transcribe(utterance.samples()).text)
        if theirs != expected and not (model == "moonshine-tiny" and theirs and expected.startswith(theirs)):
            differing.append((utterance.id, theirs, expected))
    assert len(differing) <= (0 if bits == 32 else 2), differing


def test_a_named_dtype_and_none_open_the_same(
    arranged: Callable[..., Path], raw: Callable[..., list[Path]], node: Callable[..., Any], data: Path
) -> None:
    folder, (path,) = arranged("whisper-tiny.en", 4), raw(clips(data, 1))
    apart = '{"dtype": {"encoder_model": "q8", "decoder_model_merged": "q4"}}'
    texts = [node(SCRIPT, folder, loading, "{}", path)[0]["text"] for loading in ("{}", '{"dtype": "q8"}', apart)]
    # Of one graph, but its threads add in an order that is not always the same: a comma can come out or not.
    normalize = normalizer("whisper-english")
    assert len({*map(normalize, texts)}) == 1 and texts[0]


def test_words_have_the_times_of_the_float_model(
    arranged: Callable[..., Path], raw: Callable[..., list[Path]], node: Callable[..., Any], data: Path
) -> None:
    calling = '{"return_timestamps": "word"}'
    paths = raw(clips(data, 5))
    low, full = (node(SCRIPT, arranged("whisper-tiny.en", bits), "{}", calling, *paths) for bits in (4, 32))
    differences = []
    for one, other in zip(low, full, strict=True):
        words = [
            [(chunk["text"].strip(" ,.").lower(), chunk["timestamp"]) for chunk in x["chunks"]] for x in (one, other)
        ]
        begins = {}
        for text, (begin, _) in words[1]:
            begins.setdefault(text, []).append(begin)
        differences += [min(abs(begin - at) for at in begins[text]) for text, (begin, _) in words[0] if text in begins]
    assert len(differences) > 60
    assert median(differences) <= USUAL_SECONDS
    assert np.quantile(differences, 0.9) <= 0.2


def test_the_block_of_the_guide_runs(arranged: Callable[..., Path], clients: Path, data: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"```js\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    folder = arranged("whisper-tiny.en", 4)
    folder.rename(folder.with_name("whisper-tiny.en-w4-transformers.js"))
    samples, rate = soundfile.read(data / "misc" / "jfk.flac", dtype="int16")
    soundfile.write(tmp_path / "audio.wav", samples, rate)
    program = clients / f"guide-{tmp_path.name}.mjs"
    program.write_text(
        block.replace("exported/", f"{folder.parent}/").replace("audio.wav", str(tmp_path / "audio.wav"))
    )
    try:
        ran = subprocess.run(["node", str(program)], capture_output=True, text=True)
    finally:
        program.unlink()
    assert "what you can do for your country" in ran.stdout, ran.stderr[-2000:]
