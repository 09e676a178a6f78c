"""Multiply-accumulates and bytes, counted from a run, against what pen and paper say."""

from __future__ import annotations

import pytest

from edge_asr_deploy.bundle.manifest import Manifest, Model
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.harness.inspection.cost import GraphCost, cost_of, paper_memory_io, paper_size, relative_bops
from tests.support import tiny

# d, heads, ffn, layers and vocabulary of `tests.support.tiny.whisper`.
D, HEADS, FFN, LAYERS, VOCABULARY, FRAMES = 32, 4, 64, 2, tiny.VOCABULARY, 1500


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> list[GraphCost]:
    pytest.importorskip("optimum.exporters.onnx")
    from edge_asr_deploy.recipe.document import float_recipe
    from tests.support.graphs import build

    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    recipe = float_recipe("whisper")
    with BundleWriter(folder) as writer:
        layers = build(tiny.whisper(), recipe, [], writer.folder)
        model = Model(name="tiny", origin="random", sha256="a" * 64)
        created = "2025-01-01T00:00:00+00:00"
        writer.commit(
            Manifest(name="t", family="whisper", model=model, recipe={}, versions={}, layers=layers, created=created)
        )
    return cost_of(folder)


def test_the_encoder_is_its_convolutions_linears_and_attention(costs: list[GraphCost]) -> None:
    convolutions = 2 * FRAMES * D * 80 * 3 + FRAMES * D * D * 3
    linears = LAYERS * FRAMES * (4 * D * D + 2 * D * FFN)
    attention = LAYERS * 2 * FRAMES * FRAMES * D
    assert costs[0].macs == convolutions + linears + attention


def test_a_step_projects_no_encoder_frames(costs: list[GraphCost]) -> None:
    own = LAYERS * (4 * D * D + 2 * D * D + 2 * D * FFN) + D * VOCABULARY
    cross = LAYERS * 2 * FRAMES * D
    # The second token attends to itself and to the first.
    assert costs[2].macs == own + cross + LAYERS * 2 * 2 * D
    keys_and_values = LAYERS * 2 * FRAMES * D * D
    assert costs[1].macs == own + cross + LAYERS * 2 * 1 * D + keys_and_values


def test_a_step_reads_its_weights_and_the_cached_keys_and_values(costs: list[GraphCost]) -> None:
    cached = LAYERS * 2 * FRAMES * D * 4
    weights = 4 * (LAYERS * (6 * D * D + 2 * D * FFN) + D * VOCABULARY)
    # Of the cross-attention, written and read before the softmax and behind it.
    scores = 4 * LAYERS * HEADS * FRAMES * 4
    assert costs[2].bytes_moved > cached + weights + scores
    assert costs[2].bytes_moved < 1.1 * (cached + weights + scores)


@pytest.mark.parametrize(
    ("half", "megabytes", "activations", "bits", "expected"),
    [
        # Whisper base, the paper's table: encoder 79.29 MB at 32 bits, I/O 2143.21; decoder 208.01 and 294.69.
        ("encoder", 79.29, 515.98e6, (32, 32), 2143.21),
        ("encoder", 79.29, 515.98e6, (4, 8), 525.89),
        ("encoder", 79.29, 515.98e6, (8, 16), 1051.78),
        ("decoder", 208.01, 21.67e6, (32, 32), 294.69),
        ("decoder", 208.01, 21.67e6, (4, 16), 69.34),
        # Moonshine base.
        ("encoder", 80.61, 72.70e6, (4, 8), 82.77),
        ("decoder", 165.44, 8.42e6, (8, 8), 49.78),
    ],
)
def test_the_formulas_give_the_papers_tables(
    half: str, megabytes: float, activations: float, bits: tuple[int, int], expected: float
) -> None:
    parameters = round(megabytes * 1e6 / 4)
    assert paper_size(parameters, 32) / 1e6 == pytest.approx(megabytes)
    found = paper_memory_io(parameters, round(activations), *bits) / 1e6
    assert found == pytest.approx(expected, rel=0.005), half


@pytest.mark.parametrize(("bits", "percent"), [((32, 32), 100), ((4, 8), 3.13), ((8, 8), 6.25), ((8, 16), 12.5)])
def test_relative_bit_operations(bits: tuple[int, int], percent: float) -> None:
    assert 100 * relative_bops(*bits) == pytest.approx(percent, abs=0.01)
