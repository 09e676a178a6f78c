"""The layout `page`: a folder that stands alone, packed, and says what is in it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("optimum.exporters.onnx")

from edge_asr_deploy.layouts import page
from edge_asr_deploy.layouts.page import PAGE_FILES, arrange
from edge_asr_deploy.layouts.page_runtime import WASM

ENGINE = {WASM: b"\0asm" * 99, "transformers.min.js": b"js", "ort-wasm-simd-threaded.mjs": b"mjs", "x.LICENSE": b"MIT"}


def test_a_page_is_complete_and_says_what_it_loads(
    export: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "runtime_files", lambda folder: ENGINE)
    bundle, folder, again = export("mixed"), tmp_path / "page", tmp_path / "again"
    for place in (folder, again):
        place.mkdir()
        arrange(bundle, place, tmp_path)
    index = json.loads((folder / "files.json").read_text())
    assert (index["name"], index["languages"], index["tokens"]) == ("out", [], None)
    for name, entry in index["files"].items():
        packed = (folder / entry["path"]).read_bytes()
        assert len(packed) == entry["bytes"]
        if name.endswith(".json"):
            assert json.loads(gzip.decompress(packed)) is not None
    assert index["bytes"] == sum(entry["bytes"] for entry in index["files"].values())
    assert {"config.json", "tokenizer.json", "onnx/decoder_model_merged_quantized.onnx", WASM} <= index["files"].keys()
    assert not [name for name in index["files"] if "_q4" in name], "only Node takes that one"
    assert gzip.decompress((folder / f"runtime/{WASM}.gz").read_bytes()) == ENGINE[WASM]
    assert (folder / "runtime" / "x.LICENSE").is_file()
    written = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert all((again / name).read_bytes() == content for name, content in written.items()), "the same bytes each time"


@pytest.mark.parametrize("name", PAGE_FILES)
def test_the_page_names_no_other_server(name: str) -> None:
    text = (Path(page.__file__).parent / "page_files" / name).read_text()
    assert not re.findall(r"https?://", text)
