"""A bundle is closed: every byte that runs or is read is a plain name below its folder, and hashed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr_deploy.bundle.external import external_files
from edge_asr_deploy.bundle.manifest import Graphs, bundle_hash, earlier_hash
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.errors import Note, UserError
from tests.support.small_bundles import FILES, manifest, write


def test_the_hash_covers_what_runs(tmp_path: Path) -> None:
    """Another graph for a target, another family, another recipe: all of it is another bundle."""
    written = write(tmp_path / "a")
    graphs = Graphs(encoder="decoder_model_merged.onnx")
    changes: list[dict[str, Any]] = [{"targets": {"generic": graphs}}, {"family": "moonshine"}, {"metrics": {}}]
    hashes = {bundle_hash(written.model_copy(update=change)) for change in changes}
    assert len(hashes | {bundle_hash(written)}) == 4
    assert {earlier_hash(written.model_copy(update=change)) for change in changes} == {earlier_hash(written)}


def commit(folder: Path, files: dict[str, bytes], **changes: Any) -> None:
    with BundleWriter(folder) as made:
        for name, content in files.items():
            (made.folder / name).write_bytes(content)
        made.commit(manifest().model_copy(update=changes))


def test_a_target_may_only_run_what_is_hashed(tmp_path: Path) -> None:
    """A bundle whose hashes are right, and which names a graph that is in none of them."""
    commit(tmp_path / "tiny", FILES, targets={"generic": Graphs(), "pi4": Graphs(encoder="other.onnx")})
    (tmp_path / "tiny" / "other.onnx").write_bytes(FILES["encoder_model.onnx"])
    with pytest.raises(UserError, match=r"target pi4 runs other\.onnx, which is not among its hashed files"):
        verify(tmp_path / "tiny")


def with_weights_in(location: str, nested: bool) -> bytes:
    """A graph whose one weight lies in another file, at the top or in the branch of an `If`."""
    from onnx import TensorProto, helper

    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [value], [tensor])
    if nested:
        flag = helper.make_tensor("flag", TensorProto.BOOL, [1], [True])
        node = helper.make_node("If", ["flag"], ["y"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "outer", [], [value], [flag])
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/tmp/weights.bin", "./encoder.data", ""])
def test_a_graph_may_only_read_what_is_hashed(tmp_path: Path, location: str, nested: bool) -> None:
    files = {**FILES, "encoder_model.onnx": with_weights_in(location, nested), "encoder.data": b"1234"}
    commit(tmp_path / "tiny", files)
    (tmp_path / "tiny" / "weights.bin").write_bytes(b"1234")
    with pytest.raises(UserError, match=r"encoder_model\.onnx: reads weights from .* not among"):
        verify(tmp_path / "tiny")


@pytest.mark.parametrize("nested", [False, True])
def test_weights_that_are_hashed_may_be_read(tmp_path: Path, nested: bool) -> None:
    graph = with_weights_in("encoder.data", nested)
    commit(tmp_path / "tiny", {**FILES, "encoder_model.onnx": graph, "encoder.data": b"1234"})
    verify(tmp_path / "tiny")
    (tmp_path / "graph.onnx").write_bytes(graph)
    assert external_files(tmp_path / "graph.onnx") == {"encoder.data"}


@given(content=st.binary(max_size=200))
def test_any_bytes_are_walked_or_refused(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(content)
        with suppress(ValueError):
            external_files(path)


def test_a_manifest_of_version_1_is_read_with_a_note(tmp_path: Path) -> None:
    commit(tmp_path / "tiny", FILES, schema_version=1)
    with pytest.warns(Note, match="its manifest is of version 1"):
        old = verify(tmp_path / "tiny")
    assert bundle_hash(old) != earlier_hash(old)
