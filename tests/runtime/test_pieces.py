"""Codes are unpacked one matrix at a time before a graph is optimized: the optimized graph stays what it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

pytest.importorskip("optimum.onnxruntime")

from edge_asr_deploy.bundle.external import external_files
from edge_asr_deploy.graph.build import MERGED
from edge_asr_deploy.graph.onnx_tools.trace import ENCODER
from edge_asr_deploy.progress import silent
from edge_asr_deploy.recipe.document import parse
from edge_asr_deploy.recipe.files import for_bits
from edge_asr_deploy.runtime.session import SessionSettings, open_session
from edge_asr_deploy.runtime.startup.pieces import DATA, unpack_codes
from edge_asr_deploy.stages import compute_activations, compute_weights
from tests.support import tiny_samples
from tests.support.graphs import build
from tests.support.tiny import MODELS

GRAPHS = (ENCODER, MERGED)


@pytest.fixture(scope="module", params=[("whisper", 4), ("whisper", 5), ("moonshine", 3)], ids=str)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graphs of a small model by a shipped recipe."""
    name, bits = request.param
    model, recipe = MODELS[name](), parse(for_bits(name, bits), "test")
    samples = [tiny_samples.sample(name)]
    weights = compute_weights(model, recipe, samples, silent)
    folder = tmp_path_factory.mktemp(f"{name}{bits}")
    build(model, recipe, compute_activations(model, recipe, weights, samples, silent), folder)
    return folder


def optimized(path: Path, folder: Path) -> tuple[list[str], Counter[tuple[int, tuple[int, ...], bytes]]]:
    """The operators of the optimized graph in their order, and its constants: type, shape, bytes."""
    folder.mkdir()
    open_session(path, SessionSettings(threads=1), save_to=folder / "optimized.onnx")
    graph = onnx.load(folder / "optimized.onnx").graph
    constants = Counter((t.data_type, tuple(t.dims), t.raw_data or t.SerializeToString()) for t in _tensors(graph))
    return [node.op_type for node in _nodes(graph)], constants


def _graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return [graph, *(one for branch in inner for one in _graphs(branch))]


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for one in _graphs(graph) for node in one.node]


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    return [tensor for one in _graphs(graph) for tensor in one.initializer]


@pytest.mark.parametrize("name", GRAPHS)
def test_the_optimized_graph_is_the_same(bundle: Path, tmp_path: Path, name: str) -> None:
    unpacked = unpack_codes(bundle / name, tmp_path, worthwhile=1)
    before, after = optimized(bundle / name, tmp_path / "before"), optimized(unpacked, tmp_path / "after")
    assert after[0] == before[0]
    # Constants of text or typed fields (names of operators and numbers of a few bytes) are the same, too.
    assert after[1] == before[1]


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_that_unpacks_is_left_to_fold(bundle: Path, tmp_path: Path, name: str) -> None:
    unpacked = unpack_codes(bundle / name, tmp_path, worthwhile=1)
    packed, graph = (onnx.load(path, load_external_data=False).graph for path in (bundle / name, unpacked))
    constant = {tensor.name for tensor in _tensors(graph)}
    waiting = {
        node.op_type
        for node in _nodes(graph)
        if node.op_type in ("BitShift", "BitwiseAnd", "BitwiseOr", "Sub", "Mul", "Add")
        and all(value in constant for value in node.input)
    }
    assert not waiting
    assert len(_nodes(graph)) < len(_nodes(packed))
    assert external_files(unpacked) == {DATA}


def test_with_a_threshold_small_codes_are_left_to_onnxruntime(bundle: Path, tmp_path: Path) -> None:
    unpacked = unpack_codes(bundle / ENCODER, tmp_path, worthwhile=1 << 30)
    nodes = [
        [n.op_type for n in onnx.load(path, load_external_data=False).graph.node]
        for path in (bundle / ENCODER, unpacked)
    ]
    assert nodes[0] == nodes[1]


def test_weights_outside_the_graph_are_read_where_they_lie(bundle: Path, tmp_path: Path) -> None:
    model = onnx.load(bundle / ENCODER)
    apart = tmp_path / "apart"
    apart.mkdir()
    onnx.save(model, apart / ENCODER, save_as_external_data=True, location="all.bin", size_threshold=64)
    assert external_files(apart / ENCODER) == {"all.bin"}
    written = []
    for place in (bundle, apart):
        folder = tmp_path / f"from-{place.name}"
        folder.mkdir()
        written.append(optimized(unpack_codes(place / ENCODER, folder, worthwhile=1), folder / "optimized"))
    assert written[0] == written[1]


@pytest.mark.parametrize("damage", [b"", b"\x0b", b"\x3a\xff\xff\x03abc"])
def test_what_is_no_model_is_refused(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / ENCODER).write_bytes(damage)
    (tmp_path / "new").mkdir()
    with pytest.raises(ValueError):
        unpack_codes(tmp_path / ENCODER, tmp_path / "new")
