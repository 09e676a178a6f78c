"""The layout for transformers.js: its names, its graphs beside the bundle's own, and what word times need."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("optimum.exporters.onnx")

import onnx_ir as ir

from edge_asr_deploy.bundle.manifest import read_manifest
from edge_asr_deploy.layouts.transformers_js import DECODER, ENCODER, SUFFIXES, arrange, node_dtype
from edge_asr_deploy.layouts.web_form import four_bit_casts
from edge_asr_deploy.runtime.exact import with_unsigned_operands

WIDTHS = ("float", "mixed", "three", "eight", "several")
HEADS, LAYERS, HEAD_DIM, BEST = 4, 2, 8, 8
# Sums in another order.
CLOSE = 2e-4
# Tensors of weights; shapes and axes are smaller.
LARGE = 64

Export = Callable[[str], Path]


def session(graph: Path | bytes, data: Path | None = None) -> Any:
    """A session; `data` is the folder of the data files of a graph in memory."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # Activations that stay float in the low-bit kernels, as they do in browsers.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if data is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(data))
    return onnxruntime.InferenceSession(graph, options)


def two_steps(decoder: Any, hidden: np.ndarray) -> list[dict[str, np.ndarray]]:
    """What a first call and a cached one give, by name."""
    empty = np.zeros((1, HEADS, 0, HEAD_DIM), np.float32)
    past = {value.name: empty for value in decoder.get_inputs() if value.name.startswith("past_key_values")}
    answers = []
    for tokens, cached in (([[1, 5, 9]], False), ([[7]], True)):
        feeds = {"input_ids": np.array(tokens), "encoder_hidden_states": hidden, "use_cache_branch": np.array([cached])}
        names = [value.name for value in decoder.get_outputs()]
        answers.append(dict(zip(names, decoder.run(None, {**feeds, **past}), strict=True)))
        past = {name: answers[-1][name.replace("past_key_values", "present")] for name in past}
    return answers


@pytest.mark.parametrize("width", WIDTHS)
def test_every_graph_computes_what_the_bundle_computes(export: Export, width: str, tmp_path: Path) -> None:
    bundle, folder = export(width), tmp_path / "layout"
    folder.mkdir()
    arrange(bundle, folder)
    config = json.loads((folder / "config.json").read_text())["transformers.js_config"]
    web = {"float": "fp32"}.get(width, "q8")
    assert config["dtype"] == web
    node = config.get("device_config", {}).get("cpu", {}).get("dtype", {}).get(DECODER)
    assert node == {"float": None, "mixed": "q4", "three": "q4", "eight": "int8", "several": "q4"}[width]
    decoders = [f"{DECODER}{SUFFIXES[dtype]}.onnx" for dtype in (web, node) if dtype]
    encoder = f"{ENCODER}{SUFFIXES[web]}.onnx"
    assert sorted(path.name for path in (folder / "onnx").iterdir()) == sorted([encoder, *decoders])

    features = np.random.default_rng(0).normal(size=(1, 80, 400)).astype(np.float32)
    (hidden,) = session(with_unsigned_operands(bundle / "encoder_model.onnx"), bundle).run(
        None, {"input_features": features}
    )
    (arranged,) = session(folder / "onnx" / encoder).run(None, {"input_features": features})
    np.testing.assert_allclose(arranged, hidden, atol=CLOSE)
    expected = two_steps(session(with_unsigned_operands(bundle / "decoder_model_merged.onnx"), bundle), hidden)
    for name in decoders:
        for call, other in zip(two_steps(session(folder / "onnx" / name), hidden), expected, strict=True):
            # Of a head of two passes only the best logits are exact.
            best = np.argsort(-other["logits"], axis=-1)[..., :BEST]
            logits = (np.take_along_axis(x["logits"], best, axis=-1) for x in (call, other))
            np.testing.assert_allclose(*logits, atol=CLOSE)
            for key in other.keys() - {"logits"}:
                np.testing.assert_allclose(call[key], other[key], atol=CLOSE, err_msg=f"{name} {key}")


def stored(model: ir.Model) -> int:
    """Bytes of all large tensors."""
    tensors = [tensor.const_value for graph in model.graphs() for tensor in graph.initializers.values()]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None and tensor.size >= LARGE)


@pytest.mark.parametrize("width", WIDTHS)
def test_browsers_get_no_operator_that_they_lack(export: Export, width: str, tmp_path: Path) -> None:
    bundle, folder = export(width), tmp_path / "layout"
    folder.mkdir()
    arrange(bundle, folder)
    web = SUFFIXES["fp32" if width == "float" else "q8"]
    for name in (ENCODER, DECODER):
        model = ir.load(folder / "onnx" / f"{name}{web}.onnx")
        assert four_bit_casts(model) == []
        # What is left of DequantizeLinear belongs to integer products.
        assert width in ("mixed", "several") or not [
            n for g in model.graphs() for n in g if n.op_type == "DequantizeLinear"
        ]
        kinds = {tensor.const_value.dtype for g in model.graphs() for tensor in g.initializers.values()}
        assert not kinds & {ir.DataType.INT4, ir.DataType.UINT4}
        assert stored(model) <= stored(ir.load(bundle / f"{name}.onnx")) * 1.01, "codes stay packed"


def test_attention_weights_come_out_for_every_layer_and_head(export: Export, tmp_path: Path) -> None:
    """They are what the attention multiplies the values with: rows that sum to one."""
    folder = tmp_path / "layout"
    folder.mkdir()
    arrange(export("mixed"), folder)
    hidden = np.random.default_rng(0).normal(size=(1, 50, 32)).astype(np.float32)
    for steps, call in zip((3, 1), two_steps(session(folder / "onnx" / f"{DECODER}_q4.onnx"), hidden), strict=True):
        for layer in range(LAYERS):
            weights = call[f"cross_attentions.{layer}"]
            assert weights.shape == (1, HEADS, steps, 50)
            np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
        assert f"cross_attentions.{LAYERS}" not in call


def test_without_alignment_heads_there_are_no_such_outputs(export: Export, tmp_path: Path) -> None:
    bundle, folder = export("mixed"), tmp_path / "layout"
    settings = json.loads((bundle / "generation_config.json").read_text())
    del settings["alignment_heads"]
    (bundle / "generation_config.json").write_text(json.dumps(settings))
    folder.mkdir()
    arrange(bundle, folder)
    names = [value.name for value in session(folder / "onnx" / f"{DECODER}_q4.onnx").get_outputs()]
    assert not [name for name in names if name.startswith("cross_attentions")]


def test_the_name_of_node_decoders_follows_the_decoders_width(export: Export) -> None:
    manifest = read_manifest(export("three"))
    assert node_dtype(manifest) == "q4"
    wide = [layer.model_copy(update={"bits": 5}) for layer in manifest.layers]
    assert node_dtype(manifest.model_copy(update={"layers": wide})) == "int8"
    floats = [layer.model_copy(update={"bits": 32}) for layer in manifest.layers]
    assert node_dtype(manifest.model_copy(update={"layers": floats})) == "fp32"
