"""Whisper's encoder takes fewer frames than its window has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("optimum.onnxruntime")

from edge_asr_deploy.graph.onnx_tools.trace import ENCODER  # noqa: E402
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
    session = exported
    features = torch.randn(1, 80, 2 * positions, generator=torch.Generator().manual_seed(1))
    encoder = whisper().get_encoder()
    table = encoder.embed_positions.weight.data
    head = max(0, positions - TAIL)
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(
        torch.cat([table[:head], table[1500 - (positions - head) :]])
    )
    encoder.config.max_source_positions = positions
    with torch.no_grad():
        expected = encoder(features).last_hidden_state.numpy()
    [hidden] = session.run(None, {"input_features": features.numpy()})
    np.testing.assert_allclose(hidden, expected, atol=2e-5)
