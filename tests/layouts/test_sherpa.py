"""sherpa-onnx's layout says what its bundle says, in the calls that the engine makes."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.layouts.layouts import LAYOUTS
from edge_asr_deploy.layouts.sherpa.driving import DECODER, ENCODER
from edge_asr_deploy.layouts.sherpa.metadata import alignment_heads
from edge_asr_deploy.runtime.decoding.whisper import DETECT
from edge_asr_deploy.runtime.session import SessionSettings, open_session
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.fixtures_layouts import FORMS, NEVER, NEVER_FIRST, Bundle, make

SHERPA = LAYOUTS["sherpa-onnx"]


def noise(seconds: float) -> NDArray[np.float32]:
    return (np.random.default_rng(0).normal(size=int(seconds * 16_000)) * 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def arranged(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arranged")
    SHERPA.arrange(small_bundle.folder, folder)
    return folder


@pytest.mark.parametrize("seconds", [0.7, 3, 12.345])
def test_it_says_what_the_bundle_says(small_bundle: Bundle, arranged: Path, seconds: float) -> None:
    first = (FORMS[small_bundle.form] or ("generic",))[0]
    transcriber = Transcriber.open(small_bundle.folder, target=first, vad=False)
    wanted = transcriber.transcribe(noise(seconds), language=DETECT).tokens
    heard = SHERPA.hear(small_bundle.folder, arranged, noise(seconds))
    # Each has its own limit for a model that never ends.
    both = min(len(wanted), len(heard.tokens)) if heard.is_capped else len(wanted)
    assert both and list(heard.tokens)[:both] == list(wanted)[:both]


def test_nothing_is_stored_twice(small_bundle: Bundle, arranged: Path) -> None:
    names = ("encoder_model", "decoder_model_merged")
    before = sum(path.stat().st_size for path in small_bundle.folder.iterdir() if path.name.startswith(names))
    after = sum((arranged / name).stat().st_size for name in (ENCODER, DECODER))
    # A bundle for two targets has graphs for both.
    assert after < before + 25_000


@pytest.fixture(scope="module", params=["float", "int8"])
def whisper(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("whisper")
    bundle = make("whisper", request.param, folder / "bundle").folder
    (folder / "arranged").mkdir()
    SHERPA.arrange(bundle, folder / "arranged")
    return bundle, folder / "arranged"


Call = Callable[..., list[NDArray[Any]]]


def runner(path: Path) -> Call:
    """The graph as a function of its inputs in their order, as the engine gives them."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))


def features(frames: int, padding: int) -> NDArray[np.float32]:
    """Random features of sound, and zeros behind them as the engine pads."""
    sound = np.random.default_rng(1).uniform(-0.9, 1.1, (1, 80, frames)).astype(np.float32)
    return np.concatenate([sound, np.zeros((1, 80, padding), np.float32)], axis=2)


@pytest.mark.parametrize(("frames", "padding"), [(300, 1000), (301, 1000), (2501, 499), (77, 2923), (200, 55)])
def test_keys_and_values_are_those_of_the_bundle(whisper: tuple[Path, Path], frames: int, padding: int) -> None:
    """Of the engine's features, with 3 s of silence instead of its zeros; a whole window stays whole."""
    bundle, arranged = whisper
    given = features(frames, padding)
    keys, values = runner(arranged / ENCODER)(given)
    taken = 3000 if frames + padding == 3000 else frames + min(padding, 300)
    taken += taken % 2
    padded = np.full((1, 80, taken), given[:, :, :frames].max() - 2, np.float32)
    padded[:, :, :frames] = given[:, :, :frames]
    one = SessionSettings(threads=1)
    [hidden] = open_session(bundle / "encoder_model.onnx", one).run(None, {"input_features": padded})
    decoder = open_session(bundle / "decoder_model_merged.onnx", one)
    feeds: dict[str, Any] = {"input_ids": np.array([[1]]), "encoder_hidden_states": hidden}
    feeds["use_cache_branch"] = np.array([False])
    for value in decoder.get_inputs():
        if value.name.startswith("past_key_values"):
            feeds[value.name] = np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
    names = [value.name for value in decoder.get_outputs()]
    outputs = dict(zip(names, decoder.run(None, feeds), strict=True))
    for layer in range(2):
        # Same memory, other shapes.
        assert keys.shape == values.shape == (2, 1, taken // 2, 32)
        np.testing.assert_allclose(keys[layer].ravel(), outputs[f"present.{layer}.encoder.key"].ravel(), atol=2e-3)
        np.testing.assert_allclose(values[layer].ravel(), outputs[f"present.{layer}.encoder.value"].ravel(), atol=2e-3)


# Where a call rounds all its rows on one scale, as int8 layers do, the rows of a call depend on each other.
@pytest.mark.parametrize("whisper", ["float", "low-bit"], indirect=True)
def test_token_by_token_is_the_same_as_all_at_once(whisper: tuple[Path, Path]) -> None:
    _, arranged = whisper
    cross = runner(arranged / ENCODER)(features(300, 1000))
    decode = runner(arranged / DECODER)
    tokens = [1, 300, 303, 304, 17, 80, 211]
    caches = [np.zeros((2, 1, 48, 32), np.float32)] * 2
    whole, *_, shares = decode(np.array([tokens]), *caches, *cross, np.array([0]))
    assert whole.shape == (1, 7, 320) and shares.shape == (1, 3, 7, 300)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, atol=1e-5)
    scores, *caches, first = decode(np.array([tokens[:4]]), *caches, *cross, np.array([0]))
    for offset, token in enumerate(tokens[4:], start=4):
        scores, *caches, later = decode(np.array([[token]]), *caches, *cross, np.array([offset]))
        best = np.argsort(whole[0, offset])[-8:]
        np.testing.assert_allclose(scores[0, -1, best], whole[0, offset, best], atol=2e-2)
        np.testing.assert_allclose(later[:, :, 0], shares[:, :, offset], atol=1e-3)
    np.testing.assert_allclose(first, shares[:, :, :4], atol=1e-3)


def test_tokens_that_are_never_said_have_no_chance(whisper: tuple[Path, Path]) -> None:
    _, arranged = whisper
    cross = runner(arranged / ENCODER)(features(300, 1000))
    decode = runner(arranged / DECODER)
    caches = [np.zeros((2, 1, 48, 32), np.float32)] * 2
    first, *caches, _ = decode(np.array([[1, 300]]), *caches, *cross, np.array([0]))
    later, *_ = decode(np.array([[17]]), *caches, *cross, np.array([2]))
    assert np.flatnonzero(np.isneginf(first[0, -1])).tolist() == sorted({*NEVER, *NEVER_FIRST})
    assert np.flatnonzero(np.isneginf(later[0, -1])).tolist() == sorted(NEVER)


def test_the_encoders_file_says_what_the_engine_asks_for(whisper: tuple[Path, Path]) -> None:
    says = onnxruntime.InferenceSession(whisper[1] / ENCODER).get_modelmeta().custom_metadata_map
    assert says == {
        "model_type": "whisper",
        "n_mels": "80",
        "n_audio_ctx": "1500",
        "n_text_layer": "2",
        "n_text_ctx": "48",
        "n_text_state": "32",
        "n_text_head": "4",
        "n_vocab": "320",
        "sot": "1",
        "eot": "2",
        "blank_id": "0",
        "transcribe": "303",
        "translate": "302",
        "no_timestamps": "304",
        "no_speech": "303",
        "is_multilingual": "1",
        "sot_sequence": "1,300,303",
        "all_language_tokens": "300,301",
        "all_language_codes": "en,de",
        "n_alignment_heads": "3",
    }


def test_the_table_has_the_bytes_of_every_token_that_is_text(arranged: Path) -> None:
    lines = [line.split(" ") for line in (arranged / "tokens.txt").read_text().splitlines()]
    texts = {int(token): base64.b64decode(text).decode() for text, token in lines}
    assert texts == {number: f" w{number}" for number in range(300)}


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", {"d_model": None}, "d_model is None, not a size; export the bundle again"),
        ("config.json", {"num_mel_bins": "80"}, "num_mel_bins is '80', not a size"),
        ("generation_config.json", {"no_timestamps_token_id": None}, "has no no_timestamps_token_id, without which"),
    ],
)
def test_settings_without_which_the_engine_fails_are_refused(
    whisper: tuple[Path, Path], file: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(whisper[0], bundle)
    content = json.loads((bundle / file).read_text())
    (bundle / file).write_text(json.dumps({**content, **change}))
    (tmp_path / "arranged").mkdir()
    with pytest.raises(UserError, match=said):
        SHERPA.arrange(bundle, tmp_path / "arranged")


@pytest.mark.parametrize("heads", [None, [], [[0]], [[2, 0]], [["a", 1]], "all"])
def test_without_alignment_heads_there_are_no_word_times(
    whisper: tuple[Path, Path], heads: object, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(whisper[0], bundle)
    content = json.loads((bundle / "generation_config.json").read_text())
    (bundle / "generation_config.json").write_text(json.dumps({**content, "alignment_heads": heads}))
    assert alignment_heads(bundle) == []


def test_nothing_branches(arranged: Path) -> None:
    """The engine's calls are all alike: an `If` would cost time at every token."""
    graph = onnx.load(arranged / DECODER).graph
    inputs = [value.name for value in graph.input]
    assert ("If" in {node.op_type for node in graph.node}) == ("use_cache_branch" in inputs)
