"""How much Whisper's encoder is given, and what makes its text doubtful."""

from __future__ import annotations

import math
import shutil
from functools import partial
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.whisper import MARGIN_ENTRY, TAIL_ENTRY
from edge_asr_deploy.runtime.decoding.audio_context import STEP_SECONDS, context_seconds, is_doubtful
from edge_asr_deploy.runtime.decoding.decoder import Decoded
from edge_asr_deploy.runtime.options import AUTO_MARGIN, Margin, parse_audio_context
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.exported import Exported


@pytest.mark.parametrize(("text", "margin"), [("full", None), ("auto", "auto"), ("2", 2.0), ("0.5", 0.5)])
def test_a_margin_is_named_or_given_in_seconds(text: str, margin: Margin) -> None:
    assert parse_audio_context(text) == margin


@pytest.mark.parametrize("text", ["", "0", "-3", "nan", "inf", "all"])
def test_other_margins_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--audio-context"):
        parse_audio_context(text)


@given(samples=st.integers(1, 30 * 16_000), margin=st.floats(0.5, 40))
def test_the_context_holds_clip_and_margin_and_little_more(samples: int, margin: float) -> None:
    seconds, wanted = context_seconds(samples, margin, 30), samples / 16_000 + margin
    assert seconds == 30 if wanted > 30 else wanted <= seconds < wanted + STEP_SECONDS


def decoded(capped: bool = False, ending: float = -0.01) -> Decoded:
    return Decoded((1, 2), capped, (0.1, 0.1), ending)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (decoded(capped=True), "a plain text"),
        (decoded(ending=math.log(0.4)), "a plain text"),
        (decoded(), "Press one. Please call again later. Please call again later."),
        (decoded(), "thank you " * 20),
    ],
    ids=["the limit ended it", "an unlikely end", "the end twice", "a loop"],
)
def test_what_is_doubtful(one: Decoded, text: str) -> None:
    assert is_doubtful(one, text)


@pytest.mark.parametrize("text", ["", "Yes.", "No, no, no!", "I know that you know that I know."])
def test_a_sure_end_of_a_plain_text_is_not(text: str) -> None:
    assert not is_doubtful(decoded(ending=math.log(0.6)), text)


def with_entries(bundle: Path, copy: Path, entries: dict[str, str]) -> Path:
    """A copy of a bundle whose encoder says more of itself."""
    shutil.copytree(bundle, copy)
    path = copy / "encoder_model.onnx"
    model = onnx.load(path, load_external_data=False)
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, path)
    return copy


def test_a_bundle_says_how_much_silence_it_needs(free_whisper: Exported, tmp_path: Path) -> None:
    entries = {MARGIN_ENTRY: "1.2", TAIL_ENTRY: "0.5"}
    bundle = with_entries(free_whisper.bundle, tmp_path / "learned", entries)
    opened = partial(Transcriber.open, bundle, vad=False, verify=False)
    assert opened()._margin == 1.2
    assert opened(audio_context="0.5")._margin == 0.5
    assert opened(audio_context="full")._margin is None
    with pytest.raises(UserError, match=r"--audio-context: clip \+ 0\.4 s: .*needs at least 0\.5 s"):
        opened(audio_context="0.4")


def test_other_bundles_need_three_seconds(free_whisper: Exported) -> None:
    opened = partial(Transcriber.open, free_whisper.bundle, vad=False)
    assert opened()._margin == AUTO_MARGIN == 3
    with pytest.raises(UserError, match="needs at least 2 s"):
        opened(audio_context="1.9")
