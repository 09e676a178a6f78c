"""Whisper's encoder takes fewer frames than its window has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("optimum.onnxruntime")

from edge_asr_deploy.families import family  # noqa: E402
from edge_asr_deploy.families.whisper import MARGIN_ENTRY, TAIL_ENTRY  # noqa: E402
from edge_asr_deploy.graph.deployment import deploy  # noqa: E402
from edge_asr_deploy.graph.onnx_tools.trace import ENCODER  # noqa: E402
from edge_asr_deploy.progress import silent  # noqa: E402
from edge_asr_deploy.ptq.forms import quantized_models  # noqa: E402
from edge_asr_deploy.quantized.model import WindowEnd  # noqa: E402
from edge_asr_deploy.recipe.document import float_recipe  # noqa: E402
from tests.support.graphs import build  # noqa: E402
from tests.support.tiny import whisper  # noqa: E402

TAIL = 100


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    folder: Path = tmp_path_factory.mktemp("frames")

    build(whisper(), float_recipe("whisper"), [], folder)
    return onnxruntime.InferenceSession(folder / ENCODER)


@pytest.mark.parametrize("positions", [60, 100, 101, 700, 1499, 1500])
def test_a_shorter_window_is_one_with_a_piece_of_the_positions_cut_out(
    exported: onnxruntime.InferenceSession, positions: int
) -> None:
    table = whisper().get_encoder().embed_positions.weight.data
    head = max(0, positions - TAIL)
    assert_is_one_with(exported, torch.cat([table[:head], table[1500 - (positions - head) :]]))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[onnxruntime.InferenceSession, NDArray[np.float32]]:
    """An encoder whose short windows end with 25 positions of their own, and these (25, channels)."""
    folder: Path = tmp_path_factory.mktemp("learned")
    model, recipe = whisper(), float_recipe("whisper")
    positions = np.random.default_rng(2).standard_normal((25, 32)).astype(np.float16).astype(np.float32)
    components = family("whisper").structure(model.config).components()
    deploy(model, quantized_models([], recipe, components, WindowEnd(positions, 1.2)), folder, silent)
    return onnxruntime.InferenceSession(folder / ENCODER), positions


@pytest.mark.parametrize("positions", [20, 25, 60, 1499])
def test_a_shorter_window_ends_with_what_was_learned(
    learned: tuple[onnxruntime.InferenceSession, NDArray[np.float32]], positions: int
) -> None:
    session, end = learned
    table = whisper().get_encoder().embed_positions.weight.data
    head = max(0, positions - len(end))
    assert_is_one_with(session, torch.cat([table[:head], torch.from_numpy(end)[len(end) - (positions - head) :]]))


def test_a_full_window_has_nothing_of_it(
    learned: tuple[onnxruntime.InferenceSession, NDArray[np.float32]],
) -> None:
    assert_is_one_with(learned[0], whisper().get_encoder().embed_positions.weight.data)


def test_the_encoder_says_how_much_silence_it_needs(
    learned: tuple[onnxruntime.InferenceSession, NDArray[np.float32]], exported: onnxruntime.InferenceSession
) -> None:
    assert learned[0].get_modelmeta().custom_metadata_map == {MARGIN_ENTRY: "1.2", TAIL_ENTRY: "0.5"}
    assert exported.get_modelmeta().custom_metadata_map == {}


def assert_is_one_with(session: onnxruntime.InferenceSession, table: torch.Tensor) -> None:
    """The session computes what Transformers' encoder does with this positional table, a window of its length."""
    features = torch.randn(1, 80, 2 * len(table), generator=torch.Generator().manual_seed(1))
    encoder = whisper().get_encoder()
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(table)
    encoder.config.max_source_positions = len(table)
    with torch.no_grad():
        expected = encoder(features).last_hidden_state.numpy()
    [hidden] = session.run(None, {"input_features": features.numpy()})
    np.testing.assert_allclose(hidden, expected, atol=2e-5)
