"""Layer by layer: whether a graph computes the same as PyTorch on the same input of each int8 layer.

Whole models cannot be compared so closely where activations are rounded. Sums that differ in their last bit are
sometimes rounded to different codes, and after some layers the two models differ as much as rounding errors do. With
the same input for every layer these differences do not add up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_asr_deploy.bundle.manifest import Graphs
from edge_asr_deploy.families import family
from edge_asr_deploy.families.structure import TABLE, AttentionShape
from edge_asr_deploy.graph.storing.integer import product_name
from edge_asr_deploy.proof.fake_int8 import attend
from edge_asr_deploy.proof.feeds import decoder_feeds, encoder_inputs
from edge_asr_deploy.ptq.activations import rounded_input
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.stem import convolve
from edge_asr_deploy.quantized.inputs import InputRounding
from edge_asr_deploy.quantized.model import QuantizedModel
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.runtime.session import SessionSettings, open_session

# So many layers' inputs and outputs are in memory at a time: those of a whole encoder would be gigabytes.
TOGETHER = 8
Expected = Callable[..., Tensor]
ROUNDING = ("DynamicQuantizeLinear", "QuantizeLinear")


def layer_distances(
    model: Any,
    folder: Path,
    sample: Sample,
    quantized: QuantizedModel,
    graphs: Graphs,
) -> dict[str, float]:
    """By module path the largest difference of an int8 layer from PyTorch, relative to its largest output.

    The encoder's convolutions and attention are among them where these multiply integers. The key and value
    projections inside the decoder's branches are compared by the K/V that the decoder hands out.
    """
    wanted = _expectations(model, quantized)
    if not wanted:
        return {}
    settings = SessionSettings(accuracy_level=1)
    with tempfile.TemporaryDirectory() as scratch:
        encoder, encoder_names = _exposed(folder / graphs.encoder, Path(scratch), wanted, settings)
        decoder, decoder_names = _exposed(folder / graphs.decoder, Path(scratch), wanted, settings)
        feeds = {name: value.numpy() for name, value in encoder_inputs(model, encoder, sample).items()}
        hidden = encoder.run(["last_hidden_state"], feeds)[0]
        distances = _distances(encoder, encoder_names, feeds, wanted)
        common = {"encoder_hidden_states": hidden, "encoder_attention_mask": feeds.get("attention_mask")}
        feeds = decoder_feeds(decoder, common, sample.tokens.numpy())
        distances |= _distances(decoder, decoder_names, feeds, wanted)
        crossed = [w.name for w in quantized.weights if w.inputs is not None and w.component == "cross_attention"]
        distances |= _cross_distances(model, decoder, feeds, hidden, {name: wanted[name] for name in crossed})
    assert distances.keys() == wanted.keys(), wanted.keys() - distances.keys()
    return distances


def _expectations(model: Any, quantized: QuantizedModel) -> dict[str, Expected]:
    """Functions from a layer's input to PyTorch's output, by the layer's module path."""
    wanted: dict[str, Expected] = {
        weight.name: partial(_linear, weight=weight) for weight in quantized.weights if weight.inputs is not None
    }
    wanted |= {
        path: partial(_convolved, module=model.get_submodule(path), rounding=rounding)
        for path, rounding in quantized.convolutions.items()
    }
    if quantized.attention is not None:
        shape = family(quantized.family).attention(model.config.to_dict(), "encoder")
        layers = range(shape.layers)
        attended = partial(_attended, shape=shape, blocks=quantized.attention.blocks)
        wanted |= {f"model.encoder.layers.{layer}.self_attn": attended for layer in layers}
    return wanted


def _exposed(
    path: Path, scratch: Path, wanted: Iterable[str], settings: SessionSettings
) -> tuple[onnxruntime.InferenceSession, dict[str, list[str]]]:
    """A session with the inputs and products of the main graph's layers as outputs, and their names by layer."""
    model = ir.load(path)
    values = {value.name: value for node in model.graph for value in node.outputs}
    exposed: dict[str, ir.Value] = {}
    names = {}
    for layer in wanted:
        # Without a shortlist the head's product is the graph's output.
        product = values.get(product_name(layer)) or (values.get("logits") if layer == TABLE else None)
        if product is None:
            continue
        shown = [*(_operands(product) if layer.endswith(".self_attn") else [_read(product)]), product]
        names[layer] = [str(value.name) for value in shown]
        exposed |= zip(names[layer], shown, strict=True)
    present = {value.name for value in model.graph.outputs}
    for name, value in exposed.items():
        value.type = ir.TensorType(ir.DataType.FLOAT)
        if name not in present:
            model.graph.outputs.append(value)
    ir.save(model, scratch / path.name, external_data=f"{path.name}_data")
    return open_session(scratch / path.name, settings), names


def _operands(product: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Queries, keys and values of an attention with integer products."""
    shares, values = _node_before(product, "MatMulInteger").inputs[:2]
    queries, keys = _node_before(shares, "MatMulInteger").inputs[:2]
    return _before(queries, "Split"), _before(keys, *ROUNDING), _before(values, "Sub")


def _read(product: ir.Value) -> ir.Value:
    """The input that a layer rounds. For a convolution that rounds gathered windows: the frames that it gathers."""
    rounded = _before(product, *ROUNDING)
    producer = rounded.producer()
    windows = producer is not None and producer.op_type == "Reshape" and _before(rounded, "Reshape").producer()
    return _before(rounded, "Transpose") if windows and windows.op_type == "Gather" else rounded


def _before(value: ir.Value | None, *kinds: str) -> ir.Value:
    read = _node_before(value, *kinds).inputs[0]
    assert read is not None
    return read


def _node_before(value: ir.Value | None, *kinds: str) -> ir.Node:
    """The nearest node of these kinds that `value` comes from, along first inputs."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type not in kinds:
        first = node.inputs[0]
        node = None if first is None else first.producer()
    assert node is not None
    return node


def _distances(
    session: onnxruntime.InferenceSession,
    names: Mapping[str, list[str]],
    feeds: dict[str, Any],
    wanted: Mapping[str, Expected],
) -> dict[str, float]:
    distances = {}
    layers = list(names)
    for start in range(0, len(layers), TOGETHER):
        chunk = layers[start : start + TOGETHER]
        outputs = list(dict.fromkeys(name for layer in chunk for name in names[layer]))
        arrays = dict(zip(outputs, session.run(outputs, feeds), strict=True))
        for layer in chunk:
            *reads, product = (arrays[name] for name in names[layer])
            expected = wanted[layer](*(torch.from_numpy(read) for read in reads))
            distances[layer] = _distance(product, expected.numpy())
    return distances


def _cross_distances(
    model: Any,
    decoder: onnxruntime.InferenceSession,
    feeds: dict[str, Any],
    hidden: NDArray[np.float32],
    wanted: Mapping[str, Expected],
) -> dict[str, float]:
    distances = {}
    for layer, compute in wanted.items():
        number, kind = layer.split(".")[-3], {"k_proj": "key", "v_proj": "value"}[layer.rsplit(".", 1)[1]]
        (heads,) = decoder.run([f"present.{number}.encoder.{kind}"], feeds)
        batch, count, frames, channels = heads.shape
        if kind == "key":  # Its memory holds the transpose (graph.rewriting.decoder).
            heads = heads.reshape(batch, count, channels, frames).swapaxes(2, 3)
        product = heads.transpose(0, 2, 1, 3).reshape(*hidden.shape[:2], -1)
        bias = model.get_submodule(layer).bias
        expected = compute(torch.from_numpy(hidden)).numpy()
        distances[layer] = _distance(product, expected if bias is None else expected + bias.detach().numpy())
    return distances


def _linear(read: Tensor, weight: QuantizedWeight) -> Tensor:
    return rounded_input(read, weight) @ torch.from_numpy(weight.dequantize()).T


def _convolved(read: Tensor, module: nn.Conv1d, rounding: InputRounding) -> Tensor:
    return convolve(read, module, rounding).transpose(1, 2)


def _attended(query: Tensor, key: Tensor, value: Tensor, shape: AttentionShape, blocks: int) -> Tensor:
    def heads(part: Tensor) -> Tensor:
        return part.reshape(*part.shape[:-1], shape.heads, shape.head_dim).transpose(1, 2)

    return attend(heads(query), heads(key), heads(value), shape.head_dim**-0.5, blocks).transpose(1, 2).flatten(2)


def _distance(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
