"""Layer by layer: does a graph compute on a layer's own rounded input what PyTorch computes on that very input?

Whole models cannot be compared so closely where activations are rounded. A sum that differs in its last bit falls on
the other side of a rounding edge now and then, and after some layers the two are as far apart as rounding itself is
coarse; layer by layer nothing of that adds up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray

from edge_asr_deploy.bundle import Graphs
from edge_asr_deploy.graph.build import EMBEDDING
from edge_asr_deploy.graph.feeds import decoder_feeds, encoder_inputs
from edge_asr_deploy.graph.integer import product_name
from edge_asr_deploy.ptq.activations import rounded_input
from edge_asr_deploy.ptq.calibration import Sample
from edge_asr_deploy.ptq.weight import QuantizedWeight
from edge_asr_deploy.runtime.session import SessionSettings, open_session

# Layers whose inputs and outputs are held at a time: those of a whole encoder would be gigabytes.
TOGETHER = 8
ROUNDING = ("DynamicQuantizeLinear", "QuantizeLinear")


def layer_distance(
    model: Any, folder: Path, sample: Sample, weights: Sequence[QuantizedWeight], graphs: Graphs
) -> float:
    """The largest difference of an int8 layer from PyTorch, relative to its largest output; 0 without such layers.

    The key and value projections inside the decoder's branches are compared by the K/V that the decoder hands out.
    """
    wanted = {weight.name: weight for weight in weights if weight.activation is not None}
    if not wanted:
        return 0.0
    settings = SessionSettings(accuracy_level=1)
    with tempfile.TemporaryDirectory() as scratch:
        encoder, heard = _exposed(folder / graphs.encoder, Path(scratch), wanted, settings)
        decoder, said = _exposed(folder / graphs.decoder, Path(scratch), wanted, settings)
        feeds = {name: value.numpy() for name, value in encoder_inputs(model, encoder, sample).items()}
        hidden = encoder.run(["last_hidden_state"], feeds)[0]
        found = _distances(encoder, heard, feeds, wanted)
        common = {"encoder_hidden_states": hidden, "encoder_attention_mask": feeds.get("attention_mask")}
        feeds = decoder_feeds(decoder, common, sample.tokens.numpy())
        found |= _distances(decoder, said, feeds, wanted)
        found |= _cross_distances(model, decoder, feeds, hidden, wanted)
    assert found.keys() == wanted.keys(), wanted.keys() - found.keys()
    return max(found.values())


def _exposed(
    path: Path, scratch: Path, wanted: Iterable[str], settings: SessionSettings
) -> tuple[onnxruntime.InferenceSession, dict[str, tuple[str, str]]]:
    """A session that also gives what the layers in the main graph read and their products; both names, by layer."""
    model = ir.load(path)
    values = {value.name: value for node in model.graph for value in node.outputs}
    exposed: dict[str, ir.Value] = {}
    names = {}
    for layer in wanted:
        # The head's product is the graph's output, where no shortlist is scored again.
        product = values.get(product_name(layer)) or (values.get("logits") if layer == EMBEDDING else None)
        if product is None:
            continue
        node = product.producer()
        while node is not None and node.op_type not in ROUNDING:
            before = node.inputs[0]
            node = None if before is None else before.producer()
        read = None if node is None else node.inputs[0]
        assert read is not None and read.name is not None and product.name is not None
        names[layer] = (read.name, product.name)
        exposed |= {read.name: read, product.name: product}
    present = {value.name for value in model.graph.outputs}
    for name, value in exposed.items():
        value.type = ir.TensorType(ir.DataType.FLOAT)
        if name not in present:
            model.graph.outputs.append(value)
    ir.save(model, scratch / path.name, external_data=f"{path.name}_data")
    return open_session(scratch / path.name, settings), names


def _distances(
    session: onnxruntime.InferenceSession,
    names: Mapping[str, tuple[str, str]],
    feeds: dict[str, Any],
    wanted: Mapping[str, QuantizedWeight],
) -> dict[str, float]:
    found = {}
    layers = list(names)
    for start in range(0, len(layers), TOGETHER):
        chunk = layers[start : start + TOGETHER]
        outputs = list(dict.fromkeys(name for layer in chunk for name in names[layer]))
        arrays = dict(zip(outputs, session.run(outputs, feeds), strict=True))
        for layer in chunk:
            read, product = names[layer]
            found[layer] = _distance(arrays[product], _expected(wanted[layer], arrays[read]))
    return found


def _cross_distances(
    model: Any,
    decoder: onnxruntime.InferenceSession,
    feeds: dict[str, Any],
    hidden: NDArray[np.float32],
    wanted: Mapping[str, QuantizedWeight],
) -> dict[str, float]:
    found = {}
    for layer, weight in wanted.items():
        if weight.component != "cross_attention":
            continue
        number, kind = layer.split(".")[-3], {"k_proj": "key", "v_proj": "value"}[layer.rsplit(".", 1)[1]]
        (heads,) = decoder.run([f"present.{number}.encoder.{kind}"], feeds)
        product = heads.transpose(0, 2, 1, 3).reshape(*hidden.shape[:2], -1)
        bias = model.get_submodule(layer).bias
        expected = _expected(weight, hidden)
        found[layer] = _distance(product, expected if bias is None else expected + bias.detach().numpy())
    return found


def _expected(weight: QuantizedWeight, read: NDArray[np.float32]) -> NDArray[np.float32]:
    values = rounded_input(torch.from_numpy(read), weight)
    product: NDArray[np.float32] = (values @ torch.from_numpy(weight.dequantize()).T).numpy()
    return product


def _distance(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
