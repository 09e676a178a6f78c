"""Layer by layer: whether a graph computes the same as PyTorch on the same input of each int8 layer.

Whole models cannot be compared so closely where activations are rounded. Sums that differ in their last bit are
sometimes rounded to different codes, and after some layers the two models differ as much as rounding errors do. With
the same input for every layer these differences do not add up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from edge_asr_deploy.runtime.startup.pieces import unpack_codes

# So many layers' inputs and outputs are in memory at a time: half a gigabyte at Whisper medium's width, where those of
# its whole encoder are three.
TOGETHER = 28
SETTINGS = SessionSettings(accuracy_level=1)
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
    distances: dict[str, float] = {}
    hidden, feeds = np.empty(0, np.float32), dict[str, Any]()
    with tempfile.TemporaryDirectory() as scratch:
        for session, names in _exposed(folder / graphs.encoder, Path(scratch), wanted):
            feeds = {name: value.numpy() for name, value in encoder_inputs(model, session, sample).items()}
            # A copy: the array itself would keep the arena of the session in memory.
            hidden = session.run(["last_hidden_state"], feeds)[0].copy()
            distances |= _distances(session, names, feeds, wanted)
            # It must be closed before the next one is opened.
            del session
        common = {"encoder_hidden_states": hidden, "encoder_attention_mask": feeds.get("attention_mask")}
        for session, names in _exposed(folder / graphs.decoder, Path(scratch), wanted):
            distances |= _distances(session, names, decoder_feeds(session, common, sample.tokens.numpy()), wanted)
            del session
    crossed = [w.name for w in quantized.weights if w.inputs is not None and w.component == "cross_attention"]
    if crossed:
        decoder = open_alone(folder / graphs.decoder, SETTINGS)
        feeds = decoder_feeds(decoder, common, sample.tokens.numpy())
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
    path: Path, scratch: Path, wanted: Iterable[str]
) -> Iterator[tuple[onnxruntime.InferenceSession, dict[str, list[str]]]]:
    """Sessions of a graph, each with the inputs and products of some of its layers as outputs, and these by layer.

    What is an output stays in memory until a run ends, wanted or not.
    """
    names = list(_shown(ir.load(path), wanted))
    for start in range(0, max(1, len(names)), TOGETHER):
        model = ir.load(path)
        shown = _shown(model, names[start : start + TOGETHER])
        present = {value.name for value in model.graph.outputs}
        for value in dict.fromkeys(value for values in shown.values() for value in values):
            value.type = ir.TensorType(ir.DataType.FLOAT)
            if value.name not in present:
                model.graph.outputs.append(value)
        ir.save(model, scratch / path.name, external_data=f"{path.name}_data")
        del model
        yield (
            open_alone(scratch / path.name, SETTINGS),
            {layer: [str(value.name) for value in values] for layer, values in shown.items()},
        )


def _shown(model: ir.Model, wanted: Iterable[str]) -> dict[str, list[ir.Value]]:
    """By layer what it reads and its product, of the wanted layers that the main graph has."""
    values = {value.name: value for node in model.graph for value in node.outputs}
    shown = {}
    for layer in wanted:
        # Without a shortlist the head's product is the graph's output.
        product = values.get(product_name(layer)) or (values.get("logits") if layer == TABLE else None)
        if product is not None:
            shown[layer] = [*(_operands(product) if layer.endswith(".self_attn") else [_read(product)]), product]
    return shown


def open_alone(path: Path, settings: SessionSettings) -> onnxruntime.InferenceSession:
    """A session of a graph in the memory that it needs: codes are unpacked one matrix at a time, as at a first start,
    and all memory goes with the session."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unpacked-") as folder:
        return open_session(unpack_codes(path, Path(folder)), settings, alone=True)


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
    outputs = list(dict.fromkeys(name for shown in names.values() for name in shown))
    if not outputs:
        return {}
    arrays = dict(zip(outputs, session.run(outputs, feeds), strict=True))
    distances = {}
    for layer, shown in names.items():
        *reads, product = (arrays[name] for name in shown)
        distances[layer] = _distance(product, wanted[layer](*(torch.from_numpy(read) for read in reads)).numpy())
    return distances


def _cross_distances(
    model: Any,
    decoder: onnxruntime.InferenceSession,
    feeds: dict[str, Any],
    hidden: NDArray[np.float32],
    wanted: Mapping[str, Expected],
) -> dict[str, float]:
    kinds = {"k_proj": "key", "v_proj": "value"}
    names = {layer: f"present.{layer.split('.')[-3]}.encoder.{kinds[layer.rsplit('.', 1)[1]]}" for layer in wanted}
    # They are outputs of the graph, so that all are in memory anyway.
    arrays = decoder.run(list(names.values()), feeds)
    distances = {}
    for (layer, name), heads in zip(names.items(), arrays, strict=True):
        batch, count, frames, channels = heads.shape
        if name.endswith("key"):  # Its memory holds the transpose (graph.rewriting.decoder).
            heads = heads.reshape(batch, count, channels, frames).swapaxes(2, 3)
        product = heads.transpose(0, 2, 1, 3).reshape(*hidden.shape[:2], -1)
        bias = model.get_submodule(layer).bias
        expected = wanted[layer](torch.from_numpy(hidden)).numpy()
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
    return relative(np.abs(ours - theirs).max(), np.abs(theirs).max())


def relative(difference: float, largest: float) -> float:
    """The difference as a share of the largest magnitude. A layer whose outputs are all zero must give zeros."""
    if largest == 0:
        return 0.0 if difference == 0 else float("inf")
    return float(difference / largest)
