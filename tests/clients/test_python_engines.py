"""onnx-asr and sherpa-onnx open bundles unchanged and say what our runtime says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.runtime.session import SessionSettings, open_session
from edge_asr_deploy.runtime.transcriber import DECODER, ENCODER, FAMILIES, Transcriber
from tests.support.clients import hear
from tests.support.fixtures_real import Exporter

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]
NUMBER = 8
# Clips of twenty that may differ: the engines' features differ from ours in their last bits, which decides between two
# words now and then.
MAY_DIFFER = 2


def bundle_of(exported: Exporter, model: str, bits: int) -> Path:
    return exported(model, bits, NUMBER)


def differing(texts: list[str], clips: list[Utterance], ours: Callable[[Utterance], str]) -> list[tuple[str, str]]:
    pairs = [(text.strip(), ours(clip)) for text, clip in zip(texts, clips, strict=True)]
    return [(theirs, expected) for theirs, expected in pairs if theirs != expected]


def as_onnx_asr(bundle: Path, language: str) -> Callable[[Utterance], str]:
    """Our graphs with onnx-asr's decoding: no token is suppressed, and the prompt is that of multilingual checkpoints.

    English-only ones were not trained on it, so that this engine's words are not those of `edge-deploy transcribe`.
    """
    encoder, decoder = (open_session(bundle / name, SessionSettings(threads=1)) for name in (ENCODER, DECODER))
    prepare, words = FAMILIES["whisper"](bundle), Tokenizer.from_file(str(bundle / "tokenizer.json"))
    start, task, end = (words.token_to_id(f"<|{name}|>") for name in ("startoftranscript", "transcribe", "endoftext"))

    def decode(states: NDArray[np.float32], prompt: Sequence[int], number: int) -> list[int]:
        past = {
            value.name: np.zeros((0, value.shape[1], 0, value.shape[3]), np.float32)
            for value in decoder.get_inputs()
            if value.name.startswith("past")
        }
        tokens, feed, is_cached = [*prompt], [*prompt], False
        while len(tokens) < number and (len(tokens) == len(prompt) or tokens[-1] != end):
            common = {"input_ids": np.array([feed], np.int64), "encoder_hidden_states": states}
            logits, *present = decoder.run(None, {**common, **past, "use_cache_branch": np.array([is_cached])})
            names = [value.name.replace("present", "past_key_values") for value in decoder.get_outputs()[1:]]
            given = zip(names, present, strict=True)
            past |= {name: value for name, value in given if name.startswith("past") and value.shape[0]}
            tokens.append(int(logits[0, -1].argmax()))
            feed, is_cached = tokens[-1:], True
        return tokens

    def hear(clip: Utterance) -> str:
        inputs: dict[str, Any] = prepare.inputs(clip.samples())
        states = encoder.run(None, {value.name: inputs[value.name] for value in encoder.get_inputs()})[0]
        spoken = words.token_to_id(f"<|{language}|>") if language else decode(states, [start], 3)[1]
        prompt = [start, spoken, task, words.token_to_id("<|notimestamps|>")]
        return str(words.decode(decode(states, prompt, 448), skip_special_tokens=True)).strip()

    return hear


@pytest.mark.parametrize(
    ("model", "bits"),
    [
        ("whisper-tiny.en", 4),
        *(pytest.param("whisper-tiny.en", bits, marks=pytest.mark.real_full) for bits in (32, 8, 5)),
        *(pytest.param("whisper-base", bits, marks=pytest.mark.real_full) for bits in (32, 5, 4)),
    ],
)
def test_onnx_asr(
    model: str, bits: int, exported: Exporter, exact: Callable[[Path], Path], clips: list[Utterance]
) -> None:
    bundle = bundle_of(exported, model, bits)
    is_multilingual = json.loads((bundle / "generation_config.json").read_text())["is_multilingual"]
    language = "en" if is_multilingual else ""
    texts = hear("onnx-asr", exact(bundle), clips, language)
    found = differing(texts, clips, as_onnx_asr(bundle, language))
    assert len(found) <= MAY_DIFFER, found
    if is_multilingual:
        runtime = Transcriber.open(bundle, audio_context="full")
        found = differing(texts, clips, lambda clip: runtime.transcribe(clip.samples(), language="en").text)
        assert len(found) <= MAY_DIFFER, found


@pytest.mark.parametrize("bits", [4, *(pytest.param(bits, marks=pytest.mark.real_full) for bits in (32, 8, 5))])
def test_sherpa_onnx_runs_moonshine(
    bits: int, exported: Exporter, exact: Callable[[Path], Path], clips: list[Utterance]
) -> None:
    bundle = bundle_of(exported, "moonshine-tiny", bits)
    runtime = Transcriber.open(bundle, audio_context="full")
    texts = hear("sherpa-onnx", exact(bundle), clips)
    found = differing(texts, clips, lambda clip: runtime.transcribe(clip.samples()).text)
    assert len(found) <= MAY_DIFFER, found
